"""Ids: a prefix that says what it is, and 20 characters that sort by time. Pure: the caller brings time and chance."""

from __future__ import annotations

import re
from datetime import datetime

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_PAIRS = [first + second for first in _DIGITS for second in _DIGITS]
_36_TWICE = len(_PAIRS)
_TIME_CHARS = 9  # milliseconds since 1970 in base 36: enough until the year 5188
_CHANCE_CHARS = 11
CHANCE_BYTES = 8
_ID = re.compile(r"(?P<prefix>[a-z]{3,4})-[0-9a-z]{20}")

PREFIXES = {
    "workspace": "tea",
    "project": "prj",
    "environment": "evm",
    "service": "srv",
    "cron_service": "crn",
    "deploy": "dep",
    "job": "jdf",
    "run": "run",
    "batch": "bat",
    "cron": "cron",
    "token": "tok",
    "event": "evt",
    "webhook": "whk",
    "delivery": "dlv",
    "log_stream": "lgs",
}


def make_id(kind: str, now: datetime, chance: bytes) -> str:
    """A new id of a kind in PREFIXES. `chance` is CHANCE_BYTES random bytes."""
    millis = int(now.timestamp() * 1000)
    return f"{PREFIXES[kind]}-{_base36(millis, _TIME_CHARS)}{_base36(int.from_bytes(chance), _CHANCE_CHARS)}"


def has_prefix(text: str, *kinds: str) -> bool:
    """Whether `text` is an id of one of these kinds."""
    match = _ID.fullmatch(text)
    return match is not None and match["prefix"] in {PREFIXES[kind] for kind in kinds}


def _base36(number: int, width: int) -> str:
    """Two digits at a time: an id is made for whatever happens."""
    pairs = []
    for _ in range((width + 1) // 2):
        number, pair = divmod(number, _36_TWICE)
        pairs.append(_PAIRS[pair])
    return "".join(reversed(pairs))[-width:]
