"""What every request passes first: who calls, how often, and how large is the body? Plain ASGI, so that streams stay
streams.

Added by the app of each face, which says how its errors are told.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from dataclasses import dataclass

from fastapi import HTTPException  # Starlette's own would become a 400 where FastAPI reads the body
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from oneoff.errors import NotAuthenticated, OneoffError, StoreUnavailable, TooManyRequests
from oneoff.operations.rates import Allowance
from oneoff.operations.tokens import Tokens

MOST_BODY_BYTES = 4 << 20
_TOO_LARGE = 413
_FORBIDDEN: Message = {"type": "websocket.close", "code": 1008}
_END: Message = {"type": "http.response.body"}
_BEARER = re.compile(rb"[Bb]earer +([!-~]{1,512}) *")


@dataclass(frozen=True, slots=True)
class Door:
    """What lies below `prefix` needs a token, but for `open_addresses`; refusals are told as the face tells errors.
    What is posted to `large_addresses` may have `most_large_bytes`."""

    prefix: str
    answer_error: Callable[[OneoffError], Response]
    answer_plain: Callable[[int], Response]
    open_addresses: frozenset[str] = frozenset()
    large_addresses: re.Pattern[str] | None = None
    most_large_bytes: int = MOST_BODY_BYTES

    def is_closed(self, path: str) -> bool:
        return (path == self.prefix or path.startswith(f"{self.prefix}/")) and path not in self.open_addresses

    def most_bytes(self, method: str, path: str) -> int:
        """Of a body."""
        large = self.large_addresses
        is_large = large is not None and method == "POST" and large.fullmatch(path) is not None
        return self.most_large_bytes if is_large else MOST_BODY_BYTES


class Gate:
    """Puts the caller's token into the request's state. Everything behind a door needs one, also what does not exist:
    nobody without a token learns which addresses there are."""

    def __init__(self, app: ASGIApp, tokens: Tokens, door: Door) -> None:
        self._app = app
        self._tokens = tokens
        self._door = door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        door = self._door
        if scope["type"] not in ("http", "websocket") or not door.is_closed(scope["path"]):
            await self._app(scope, receive, send)
            return
        try:
            bearer = bearer_of(scope)
            caller = await self._tokens.authenticate(bearer)
            allowance = self._tokens.count_request(caller)
        except OneoffError as problem:
            await _refuse(door, problem)(scope, receive, send)
            return
        scope.setdefault("state", {})["caller"] = caller
        with contextlib.suppress(_RevokedError):
            await self._let_in(scope, receive, self._while_valid(bearer, send), allowance)

    async def _let_in(self, scope: Scope, receive: Receive, send: Send, allowance: Allowance | None) -> None:
        door = self._door
        if scope["type"] == "websocket":
            await self._app(scope, receive, send)
            return
        most = door.most_bytes(scope["method"], scope["path"])
        if _told_length(scope) > most:
            await door.answer_plain(_TOO_LARGE)(scope, receive, send)
        else:
            answering = send if allowance is None else _telling(send, allowance)
            await self._app(scope, _limited(receive, most), answering)

    def _while_valid(self, bearer: str, send: Send) -> Send:
        """A stream gives no more once its token is revoked: it ends, and the client that comes back is refused. Any
        other answer breaks off, so that nobody takes the part for the whole."""
        end: Message | None = None

        async def send_checked(message: Message) -> None:
            nonlocal end
            kind = message["type"]
            if kind == "http.response.start":
                end = _END if _is_event_stream(message) else None
            if kind == "websocket.send" or message.get("more_body"):
                try:
                    await self._tokens.authenticate(bearer)
                except NotAuthenticated:
                    if last := _FORBIDDEN if kind == "websocket.send" else end:
                        await send(last)
                    raise _RevokedError from None
                except StoreUnavailable:
                    pass  # nobody can tell now; the next piece is asked for again
            await send(message)

        return send_checked


class _RevokedError(Exception):
    """Leaves the app whose stream was ended; goes no farther than the gate."""


def _is_event_stream(start: Message) -> bool:
    return any(name == b"content-type" and value.startswith(b"text/event-stream") for name, value in start["headers"])


def _refuse(door: Door, problem: OneoffError) -> Response:
    response = door.answer_error(problem)
    if isinstance(problem, TooManyRequests):
        wait = problem.wait_seconds
        response.headers["Retry-After"] = str(wait)
        response.raw_headers += _to_headers(Allowance(problem.most, 0, wait))
    return response


def _telling(send: Send, allowance: Allowance) -> Send:
    """With what is left of the caller's minute on every answer."""

    async def send_told(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *_to_headers(allowance)]}
        await send(message)

    return send_told


def _to_headers(allowance: Allowance) -> list[tuple[bytes, bytes]]:
    """Reset is in seconds from now, as Retry-After is."""
    return [
        (b"ratelimit-limit", b"%d" % allowance.limit),
        (b"ratelimit-remaining", b"%d" % allowance.remaining),
        (b"ratelimit-reset", b"%d" % allowance.reset_seconds),
    ]


def _told_length(scope: Scope) -> int:
    """Of the body; 0 when the request does not tell it beforehand."""
    value = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
    return int(value) if value.isdigit() else 0


def _limited(receive: Receive, most: int) -> Receive:
    """For bodies that come in pieces without a length told."""
    received = 0

    async def receive_some() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > most:
            raise HTTPException(_TOO_LARGE)
        return message

    return receive_some


def bearer_of(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"authorization":
            if (match := _BEARER.fullmatch(value)) is None:
                raise NotAuthenticated("the Authorization header holds no bearer token")
            return str(match[1].decode())
    raise NotAuthenticated("the request has no token")
