"""What handlers read from a request: beside what all faces do, the cursor and the page."""

from __future__ import annotations

import base64
import binascii
import re
from datetime import datetime
from typing import Annotated, Any

from fastapi import Query

from oneoff.core.clock import from_us, to_us
from oneoff.core.ids import has_prefix
from oneoff.entrance.requests import caller_of as caller_of
from oneoff.entrance.requests import context_of as context_of
from oneoff.entrance.requests import idempotency_of as idempotency_of
from oneoff.entrance.requests import tokens_of as tokens_of
from oneoff.entrance.requests import trigger_of as trigger_of
from oneoff.errors import InvalidCursor

Limit = Annotated[int, Query(ge=1, le=200, description="At most so many items.")]
Cursor = Annotated[
    str | None, Query(max_length=200, description="`next_cursor` of the page before; without it the first page.")
]
_MICROSECONDS = re.compile(r"[0-9]{1,17}")


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


def read_words_cursor(cursor: str | None, form: re.Pattern[str]) -> re.Match[str] | None:
    """Of a list whose cursors say more than an id. Raises InvalidCursor."""
    if cursor is None:
        return None
    if (match := form.fullmatch(_decode(cursor))) is None:
        raise InvalidCursor(cursor)
    return match


def to_page(items: list[dict[str, Any]], limit: int) -> dict[str, Any]:
    """`items` were asked for with one more than `limit`, which tells whether there is another page."""
    shown = items[:limit]
    return {"items": shown, "next_cursor": to_cursor(shown[-1]["id"]) if len(items) > limit else None}


def _decode(cursor: str) -> str:
    try:
        return base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        raise InvalidCursor(cursor) from None
