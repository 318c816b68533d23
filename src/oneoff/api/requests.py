"""What all handlers read from a request: the context, the caller, the cursor, the Idempotency-Key."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from datetime import datetime
from typing import Annotated, Any

from fastapi import Header, Query, Request

from oneoff.core.clock import from_us, to_us
from oneoff.core.ids import has_prefix
from oneoff.core.run import Trigger
from oneoff.errors import InvalidCursor
from oneoff.operations.context import Context
from oneoff.operations.tokens import Token, Tokens
from oneoff.store.idempotency import Idempotency

Limit = Annotated[int, Query(ge=1, le=200, description="At most so many items.")]
Cursor = Annotated[
    str | None, Query(max_length=200, description="`next_cursor` of the page before; without it the first page.")
]
IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=255,
        description="Of the caller's choice. The same key with the same request makes nothing new: the answer is what "
        "the first one made. Kept for a day.",
    ),
]
_MICROSECONDS = re.compile(r"[0-9]{1,17}")
# The trigger of a run is `manual` for those who act for a person at a terminal or a page.
_FOR_PEOPLE = frozenset({"cli", "dashboard"})


def context_of(request: Request) -> Context:
    context: Context = request.app.state.context
    return context


def tokens_of(request: Request) -> Tokens:
    tokens: Tokens = request.app.state.tokens
    return tokens


def caller_of(request: Request) -> Token:
    """The token that `gate` let in."""
    caller: Token = request.state.caller
    return caller


def trigger_of(request: Request) -> Trigger:
    return Trigger.MANUAL if request.headers.get("oneoff-client") in _FOR_PEOPLE else Trigger.API


async def idempotency_of(request: Request, key: str | None) -> Idempotency | None:
    """What makes two requests the same one: token, method, address and body."""
    if key is None:
        return None
    body = await request.body()
    asked = hashlib.sha256(f"{request.method} {request.url.path}\n".encode() + body)
    return Idempotency(caller_of(request).id, key, asked.hexdigest())


def to_cursor(item_id: str) -> str:
    return base64.urlsafe_b64encode(item_id.encode()).decode().rstrip("=")


def read_cursor(cursor: str | None, *kinds: str) -> str | None:
    """The id in a cursor of a list of these kinds. Raises InvalidCursor."""
    if cursor is None:
        return None
    text = _decode(cursor)
    if not has_prefix(text, *kinds):
        raise InvalidCursor(cursor)
    return text


def to_time_cursor(moment: datetime) -> str:
    """Of a list whose items have an instant instead of an id."""
    return to_cursor(str(to_us(moment)))


def read_time_cursor(cursor: str | None) -> datetime | None:
    """Raises InvalidCursor."""
    if cursor is None:
        return None
    text = _decode(cursor)
    if not _MICROSECONDS.fullmatch(text):
        raise InvalidCursor(cursor)
    return from_us(int(text))


def to_page(items: list[dict[str, Any]], limit: int) -> dict[str, Any]:
    """`items` were asked for with one more than `limit`, which tells whether there is another page."""
    shown = items[:limit]
    return {"items": shown, "next_cursor": to_cursor(shown[-1]["id"]) if len(items) > limit else None}


def _decode(cursor: str) -> str:
    try:
        return base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        raise InvalidCursor(cursor) from None
