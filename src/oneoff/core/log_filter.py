"""Which lines of a log are wanted: text, `*` for anything, or /a regular expression/. Pure."""

from __future__ import annotations

from collections.abc import Callable

from oneoff.core.line_pattern import LinePattern, TooComplex, compile_pattern
from oneoff.errors import InvalidBody

MOST_CHARACTERS = 1_024  # of a line that an expression is tried on
_MOST_PATTERN = 500

Matches = Callable[[str], bool]


def make_filter(text: str, field: str, *, whole: bool = False) -> Matches:
    """Upper and lower case count as the same, but in an expression. `whole`: text must be all of the value, not only
    in it. Raises InvalidBody."""
    if len(text) > _MOST_PATTERN:
        raise InvalidBody(f"{field} has {len(text)} characters: send at most {_MOST_PATTERN}", field)
    if len(text) > 1 and text.startswith("/") and text.endswith("/"):
        pattern = _compile(text[1:-1], field)
        return lambda value: pattern.is_in(value[:MOST_CHARACTERS])
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


def _compile(pattern: str, field: str) -> LinePattern:
    try:
        return compile_pattern(pattern)
    except TooComplex:
        raise InvalidBody(
            f"{field}: an expression may neither look around nor refer back, and be no longer than about a thousand "
            "characters with its repeats written out: write a simpler one, or several",
            field,
        ) from None
    except ValueError as problem:
        raise InvalidBody(f"{field} is no regular expression: {problem}", field) from None
