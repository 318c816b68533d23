"""Where the native API lies, and what of it needs no token. Used by the app and the description."""

from __future__ import annotations

from oneoff.api.problems import answer_error, answer_plain
from oneoff.entrance.gate import Door

API = "/api/v1"
OPEN_ADDRESSES = frozenset({f"{API}/openapi.json"})
DOOR = Door(API, answer_error, answer_plain, OPEN_ADDRESSES)
