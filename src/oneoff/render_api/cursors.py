"""Cursors of lists: opaque, safe in addresses; 32 characters for what has an id, as Render's are."""

from __future__ import annotations

import base64
import binascii

from oneoff.core.ids import PREFIXES, has_prefix
from oneoff.errors import InvalidBody

_MOST_CHARACTERS = 400


def to_cursor(kind: str, key: str) -> str:
    """`kind` is four letters, so that the cursor of one list is none of another. An id is kept without its prefix."""
    return base64.urlsafe_b64encode(f"{kind}{key.rpartition('-')[2]}".encode()).decode().rstrip("=")


def read_cursor(kind: str, text: str | None) -> str | None:
    """The key in it. Raises InvalidBody."""
    if text is None:
        return None
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        raise _refused() from None
    if len(text) > _MOST_CHARACTERS or not key.startswith(kind) or "\0" in key:
        raise _refused()
    return key.removeprefix(kind)


def read_id(kind: str, text: str | None, what: str) -> str | None:
    """The id in it; `what` is a kind of core.ids. Raises InvalidBody."""
    if (key := read_cursor(kind, text)) is None:
        return None
    found = f"{PREFIXES[what]}-{key}"
    if not has_prefix(found, what):
        raise _refused()
    return found


def _refused() -> InvalidBody:
    return InvalidBody("cursor is none of this list: take that of the last item you received, unchanged", "cursor")
