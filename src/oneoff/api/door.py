"""Where the native API lies, and what of it needs no token. Used by the app and the description."""

from __future__ import annotations

import re

from oneoff.api.problems import answer_error, answer_plain
from oneoff.entrance.gate import Door

API = "/api/v1"
OPEN_ADDRESSES = frozenset({f"{API}/openapi.json"})
_BATCHES = re.compile(rf"{API}/(?:services|jobs)/[^/]+/batches")
_MOST_BATCH_BYTES = 64 << 20  # up to 10,000 items, each with its arguments and variables
DOOR = Door(API, answer_error, answer_plain, OPEN_ADDRESSES, _BATCHES, _MOST_BATCH_BYTES)
