"""Reads .env files for `env set --file` and `run --env-file`. Pure.

Understood: `KEY=value`, `export KEY=value`, comments, single quotes (as they are), double quotes (with \\n, \\t, \\r,
\\", \\\\ and \\$), values in quotes over several lines. Nothing is interpolated. Messages name lines, never values.
"""

from __future__ import annotations

import re

from oneoff.cli.problems import CliError

_NAME = re.compile(r"[ \t]*(?:export[ \t]+)?(?P<name>[A-Za-z_][A-Za-z0-9_.]*)[ \t]*=[ \t]*")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "\\": "\\", "$": "$", "\n": ""}
_COMMENT = re.compile(r"(?:^|[ \t])#.*")
_AFTER_QUOTE = re.compile(r"[ \t]*(?:#.*)?")


class _WrongLine(CliError):
    def __init__(self, source: str, line: int, why: str) -> None:
        super().__init__(f"{source}, line {line}: {why}")


def parse_dotenv(text: str, source: str) -> dict[str, str]:
    """Variables in their order; a later one of the same name wins. Raises CliError with the line number."""
    lines = text.removeprefix("\ufeff").replace("\r\n", "\n").split("\n")
    variables: dict[str, str] = {}
    number = 0
    while number < len(lines):
        line = lines[number]
        if not line.strip() or line.lstrip().startswith("#"):
            number += 1
            continue
        match = _NAME.match(line)
        if not match:
            raise _WrongLine(source, number + 1, "write NAME=value; values of several lines need quotes")
        rest = line[match.end() :]
        if rest[:1] in {'"', "'"}:
            value, number = _quoted(lines, number, match.end(), source)
        else:
            value, number = _COMMENT.sub("", rest).strip(), number + 1
        variables[match["name"]] = value
    return variables


def _quoted(lines: list[str], first: int, column: int, source: str) -> tuple[str, int]:
    """The value whose opening quote is at `column` of line `first`, and the number of the line behind it."""
    quote = lines[first][column]
    text, last = lines[first][column + 1 :], first
    while (end := _closing(text, quote)) is None:
        last += 1
        if last == len(lines):
            raise _WrongLine(source, first + 1, f"the quote {quote} is never closed")
        text += "\n" + lines[last]
    if not _AFTER_QUOTE.fullmatch(text[end + 1 :]):
        raise _WrongLine(source, last + 1, f"something follows the closing {quote}; only a comment may")
    inner = text[:end]
    return (inner if quote == "'" else _ESCAPE.sub(_unescape, inner)), last + 1


def _closing(text: str, quote: str) -> int | None:
    escaped = False
    for index, character in enumerate(text):
        if escaped:
            escaped = False
        elif character == "\\" and quote == '"':
            escaped = True
        elif character == quote:
            return index
    return None


def _unescape(match: re.Match[str]) -> str:
    return _ESCAPES.get(match[1], match[0])
