"""What every request passes first: who calls? Plain ASGI, so that streams stay streams. Added by `app`."""

from __future__ import annotations

import re

from starlette.types import ASGIApp, Receive, Scope, Send

from oneoff.api.problems import answer_error
from oneoff.errors import NotAuthenticated, OneoffError
from oneoff.operations.tokens import Tokens

API = "/api/v1"
OPEN_ADDRESSES = frozenset({f"{API}/openapi.json"})
_BEARER = re.compile(rb"[Bb]earer +([!-~]{1,512}) *")


class Gate:
    """Puts the caller's token into the request's state. Everything below /api/v1 needs one, also what does not exist:
    nobody without a token learns which addresses there are."""

    def __init__(self, app: ASGIApp, tokens: Tokens) -> None:
        self._app = app
        self._tokens = tokens

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not _is_closed(scope["path"]):
            await self._app(scope, receive, send)
            return
        try:
            caller = await self._tokens.authenticate(_bearer(scope))
        except OneoffError as problem:
            await answer_error(problem)(scope, receive, send)
            return
        scope.setdefault("state", {})["caller"] = caller
        await self._app(scope, receive, send)


def _is_closed(path: str) -> bool:
    return (path == API or path.startswith(f"{API}/")) and path not in OPEN_ADDRESSES


def _bearer(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"authorization":
            if (match := _BEARER.fullmatch(value)) is None:
                raise NotAuthenticated("the Authorization header holds no bearer token")
            return str(match[1].decode())
    raise NotAuthenticated("the request has no token")
