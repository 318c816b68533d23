"""What the handlers of all faces read from a request: the context, the caller, why it is asked, the Idempotency-Key."""

from __future__ import annotations

import hashlib

from starlette.requests import HTTPConnection, Request

from oneoff.core.run import Trigger
from oneoff.errors import InvalidBody
from oneoff.operations.context import Context
from oneoff.operations.tokens import Token, Tokens
from oneoff.store.idempotency import Idempotency

# The trigger of a run is `manual` for those who act for a person at a terminal or a page.
_FOR_PEOPLE = frozenset({"cli", "dashboard"})
IDEMPOTENCY_KEY = "Idempotency-Key"
MOST_KEY_CHARACTERS = 255


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


async def idempotency_of(request: Request) -> Idempotency | None:
    """Of a request that creates. What makes two of them the same one: key, token, method, address with its options,
    and body. Raises InvalidBody for a key that is none."""
    key = request.headers.get(IDEMPOTENCY_KEY)
    if key is None:
        return None
    if not 1 <= len(key) <= MOST_KEY_CHARACTERS:
        raise InvalidBody(
            f"{IDEMPOTENCY_KEY} has {len(key)} characters: send 1 to {MOST_KEY_CHARACTERS}", IDEMPOTENCY_KEY
        )
    body = await request.body()
    address = f"{request.url.path}?{request.url.query}".removesuffix("?")
    asked = hashlib.sha256(f"{request.method} {address}\n".encode() + body)
    return Idempotency(caller_of(request).id, key, asked.hexdigest())
