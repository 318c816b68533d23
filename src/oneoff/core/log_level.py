"""How grave a log line is: what it says itself in JSON or logfmt, else by its stream. Pure."""

from __future__ import annotations

import json
import re
from enum import IntEnum


class Level(IntEnum):
    """The severities of RFC 5424, section 6.2.1."""

    EMERGENCY = 0
    ALERT = 1
    CRITICAL = 2
    ERROR = 3
    WARNING = 4
    NOTICE = 5
    INFO = 6
    DEBUG = 7


# Docker's own syslog driver has the same.
BY_STREAM = {"stdout": Level.INFO, "stderr": Level.ERROR}
_WORDS = {
    **dict.fromkeys(("emergency", "emerg"), Level.EMERGENCY),
    **dict.fromkeys(("alert",), Level.ALERT),
    **dict.fromkeys(("critical", "crit", "fatal", "panic", "dpanic"), Level.CRITICAL),
    **dict.fromkeys(("error", "err", "eror", "severe"), Level.ERROR),
    **dict.fromkeys(("warning", "warn"), Level.WARNING),
    **dict.fromkeys(("notice",), Level.NOTICE),
    **dict.fromkeys(("info", "information", "informational"), Level.INFO),
    **dict.fromkeys(("debug", "trace", "verbose", "dbug", "trce", "fine"), Level.DEBUG),
}
_KEYS = ("level", "severity", "lvl", "levelname", "log.level", "loglevel")
# pino and bunyan write 10 (trace) to 60 (fatal).
_NUMBERS = {10: Level.DEBUG, 20: Level.DEBUG, 30: Level.INFO, 40: Level.WARNING, 50: Level.ERROR, 60: Level.CRITICAL}
_LOGFMT = re.compile(rb'(?:^|[ \t])(?:level|lvl|severity|loglevel)=("?)([A-Za-z]{3,13})\1(?=[ \t]|$)')
_PLAUSIBLE_JSON = re.compile(rb'"(?:level|severity|lvl|levelname|log\.level|loglevel)"\s*:')


def level_of(data: bytes, stream: str) -> Level:
    """What a line says of itself, else what its stream says."""
    found = _level_in_json(data) if data[:1] == b"{" else _level_in_logfmt(data)
    return BY_STREAM[stream] if found is None else found


def _level_in_json(data: bytes) -> Level | None:
    if not _PLAUSIBLE_JSON.search(data):
        return None
    try:
        told = json.loads(data)
    except (ValueError, RecursionError):
        return None
    values = (told.get(key) for key in _KEYS)
    return next((level for value in values if (level := _to_level(value)) is not None), None)


def _level_in_logfmt(data: bytes) -> Level | None:
    if b"=" not in data or (match := _LOGFMT.search(data)) is None:
        return None
    return _to_level(match[2].decode())


def _to_level(value: object) -> Level | None:
    if isinstance(value, str):
        return _WORDS.get(value.lower())
    if isinstance(value, int) and not isinstance(value, bool):
        return _NUMBERS.get(value)
    return None
