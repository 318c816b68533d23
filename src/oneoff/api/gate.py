"""What every request passes first: who calls, and how large is the body? Plain ASGI, so that streams stay streams.

Added by `app`.
"""

from __future__ import annotations

import re

from fastapi import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from oneoff.api.problems import answer_error, answer_plain
from oneoff.errors import NotAuthenticated, OneoffError
from oneoff.operations.tokens import Tokens

API = "/api/v1"
OPEN_ADDRESSES = frozenset({f"{API}/openapi.json"})
MOST_BODY_BYTES = 4 << 20
_TOO_LARGE = 413
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
        if _told_length(scope) > MOST_BODY_BYTES:
            await answer_plain(_TOO_LARGE)(scope, receive, send)
            return
        scope.setdefault("state", {})["caller"] = caller
        await self._app(scope, _limited(receive), send)


def _is_closed(path: str) -> bool:
    return (path == API or path.startswith(f"{API}/")) and path not in OPEN_ADDRESSES


def _told_length(scope: Scope) -> int:
    """Of the body; 0 when the request does not tell it beforehand."""
    value = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
    return int(value) if value.isdigit() else 0


def _limited(receive: Receive) -> Receive:
    """For bodies that come in pieces without a length told."""
    received = 0

    async def receive_some() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > MOST_BODY_BYTES:
            raise HTTPException(_TOO_LARGE)
        return message

    return receive_some


def _bearer(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"authorization":
            if (match := _BEARER.fullmatch(value)) is None:
                raise NotAuthenticated("the Authorization header holds no bearer token")
            return str(match[1].decode())
    raise NotAuthenticated("the request has no token")
