"""Around every face of the HTTP API: an id for each request, its numbers for `metrics`, and a line in the server's log
when it fails. Plain ASGI, so that streams stay streams. Put there by `oneoff.server`.
"""

from __future__ import annotations

import re
import time
from contextlib import nullcontext

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from oneoff import journal, metrics, tracing
from oneoff.chance import take
from oneoff.core.ids import CHANCE_BYTES

HEADER = "Oneoff-Request-Id"
_HEADER = HEADER.lower().encode()
# What a proxy before us gave the request, so that its log and ours can be held together.
_GIVEN = re.compile(rb"[A-Za-z0-9._:-]{1,64}")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_OTHER = "other"
_NOT_TRACED = frozenset({"/healthz", "/readyz", "/metrics"})  # asked every few seconds by machines
_BROKEN = 500


class Observer:
    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        metrics.HTTP_REQUESTS_GOING.add(1)
        try:
            await _Request(scope, send).serve(self._app, receive)
        finally:
            metrics.HTTP_REQUESTS_GOING.add(-1)


class _Request:
    def __init__(self, scope: Scope, send: Send) -> None:
        self._scope = scope
        self._send = send
        self._id = _id_of(scope)
        scope.setdefault("state", {})["request_id"] = self._id
        self._began = time.perf_counter()
        self._status = 0  # until the answer begins

    async def serve(self, app: ASGIApp, receive: Receive) -> None:
        headers, is_traced = self._scope["headers"], self._scope["path"] not in _NOT_TRACED
        traced = tracing.request(self._scope["method"], headers) if is_traced else nullcontext()
        with journal.about(request=self._id), traced as tell_trace:
            try:
                await app(self._scope, receive, self._answer)
            except Exception as problem:
                journal.error("request failed", problem, **self._facts())
                if not self._status:
                    raise
            else:
                if self._status >= _BROKEN:
                    journal.warning("request failed", status=self._status, **self._facts())
            if tell_trace is not None:
                tell_trace(_route_of(self._scope), self._status)

    async def _answer(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            method, route = _method_of(self._scope), _route_of(self._scope)
            metrics.HTTP_REQUESTS.add(method, route, str(self._status))
            metrics.HTTP_REQUEST_SECONDS.observe(time.perf_counter() - self._began, method, route)
            message = {**message, "headers": [*message.get("headers", ()), (_HEADER, self._id.encode())]}
        await self._send(message)

    def _facts(self) -> dict[str, str]:
        """The address without its query: that may hold what does not belong into a log."""
        return {"method": self._scope["method"], "path": self._scope["path"]}


def _id_of(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == _HEADER and _GIVEN.fullmatch(value):
            return str(value.decode())
    return take(CHANCE_BYTES).hex()


def _method_of(scope: Scope) -> str:
    return scope["method"] if scope["method"] in _METHODS else _OTHER


def _route_of(scope: Scope) -> str:
    """The template, `/api/v1/runs/{run_id}`: there are as many as there are routes, whatever is asked for. A mounted
    route does not know its prefix, but a prefix has no parameters: so many segments stand before it."""
    template = getattr(scope.get("route"), "path", None)
    if template is None:
        return _OTHER
    if ":path}" in template:  # a parameter of several segments
        return str(template)
    prefix = scope["path"].split("/")[: -template.count("/")]
    return "/".join(prefix) + str(template)
