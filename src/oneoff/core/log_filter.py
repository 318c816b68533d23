"""Which lines of a log are wanted: text, `*` for anything, or /a regular expression/. Pure.

Python matches expressions by trial and error, and nobody else works meanwhile: what could take for ever is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from oneoff.errors import InvalidBody

MOST_CHARACTERS = 1_024  # of a line that an expression is tried on
_MOST_PATTERN = 500
_MOST_REPEATS = 3
_REPEAT = re.compile(r"\*|\+|\{\d*,\}")
_OFF_LIMITS = re.compile(r"\\[1-9]|\(\?(?!:|i\))|\)(?:[*+]|\{)")
_ESCAPED = re.compile(r"\\[^1-9]|\[[^\]]*\]")

Matches = Callable[[str], bool]


def make_filter(text: str, field: str, *, whole: bool = False) -> Matches:
    """Upper and lower case count as the same, but in an expression. `whole`: text must be all of the value, not only
    in it. Raises InvalidBody."""
    if len(text) > _MOST_PATTERN:
        raise InvalidBody(f"{field} has {len(text)} characters: send at most {_MOST_PATTERN}", field)
    if len(text) > 1 and text.startswith("/") and text.endswith("/"):
        pattern = _compile(text[1:-1], field)
        return lambda value: pattern.search(value[:MOST_CHARACTERS]) is not None
    parts = text.lower().split("*")
    return lambda value: _has_in_order(value.lower(), parts, whole)


def _has_in_order(value: str, parts: list[str], whole: bool) -> bool:
    if whole and len(parts) == 1:
        return value == parts[0]
    if whole and not (value.startswith(parts[0]) and value.endswith(parts[-1])):
        return False
    at = 0
    for part in parts:
        if (found := value.find(part, at)) < 0:
            return False
        at = found + len(part)
    return True


def _compile(pattern: str, field: str) -> re.Pattern[str]:
    plain = _ESCAPED.sub("", pattern)
    if _OFF_LIMITS.search(plain) or len(_REPEAT.findall(plain)) > _MOST_REPEATS:
        raise InvalidBody(
            f"{field}: an expression may repeat at most {_MOST_REPEATS} times without end, and repeat no group, look "
            "around or refer back: write a simpler one, or several",
            field,
        )
    try:
        return re.compile(pattern)
    except (re.error, OverflowError) as problem:
        raise InvalidBody(f"{field} is no regular expression: {problem}", field) from None
