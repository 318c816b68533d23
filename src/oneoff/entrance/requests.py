"""What the handlers of all faces read from a request: the context, the caller, why it is asked, the Idempotency-Key."""

from __future__ import annotations

import hashlib

from starlette.requests import HTTPConnection, Request

from oneoff.core.run import Trigger
from oneoff.operations.context import Context
from oneoff.operations.tokens import Token, Tokens
from oneoff.store.idempotency import Idempotency

# The trigger of a run is `manual` for those who act for a person at a terminal or a page.
_FOR_PEOPLE = frozenset({"cli", "dashboard"})


def context_of(request: HTTPConnection) -> Context:
    context: Context = request.app.state.context
    return context


def tokens_of(request: HTTPConnection) -> Tokens:
    tokens: Tokens = request.app.state.tokens
    return tokens


def caller_of(request: HTTPConnection) -> Token:
    """The token that `gate` let in."""
    caller: Token = request.state.caller
    return caller


def trigger_of(request: HTTPConnection) -> Trigger:
    return Trigger.MANUAL if request.headers.get("oneoff-client") in _FOR_PEOPLE else Trigger.API


async def idempotency_of(request: Request, key: str | None) -> Idempotency | None:
    """What makes two requests the same one: token, method, address and body."""
    if key is None:
        return None
    body = await request.body()
    asked = hashlib.sha256(f"{request.method} {request.url.path}\n".encode() + body)
    return Idempotency(caller_of(request).id, key, asked.hexdigest())
