"""What requests say in their query strings and bodies, checked: every refusal is a 400 that names the field."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, TypeVar

from starlette.requests import HTTPConnection, Request

from oneoff.errors import InvalidBody
from oneoff.store.runs import Window

_DEFAULT_LIMIT = 20
_MOST = 100
_Word = TypeVar("_Word", bound=StrEnum)


def get_text(request: HTTPConnection, name: str) -> str | None:
    """Raises InvalidBody for what no database takes."""
    text = request.query_params.get(name)
    if text is not None and "\0" in text:
        raise InvalidBody(f"{name} contains the character NUL", name)
    return text


def get_limit(request: HTTPConnection) -> int:
    text = request.query_params.get("limit", str(_DEFAULT_LIMIT))
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(_MOST)) and 1 <= int(text) <= _MOST):
        raise InvalidBody(f"limit must be a number from 1 to {_MOST}", "limit")
    return int(text)


def get_list(request: HTTPConnection, name: str) -> list[str]:
    """`a,b` and repeated names are the same: clients disagree on the style of arrays. Some write `name[]`."""
    values = [*request.query_params.getlist(name), *request.query_params.getlist(f"{name}[]")]
    words = [word.strip() for value in values for word in value.split(",") if word.strip()]
    if any("\0" in word for word in words):
        raise InvalidBody(f"{name} contains the character NUL", name)
    return list(dict.fromkeys(words))


def get_words(request: HTTPConnection, name: str, known: type[_Word]) -> list[_Word]:
    """A list of words, each one of `known`."""
    return [read_word(word, name, known) for word in get_list(request, name)]


def read_word(word: str, name: str, known: type[_Word]) -> _Word:
    try:
        return known(word)
    except ValueError:
        raise InvalidBody(f"{name} {word!r} is not known: use one of {', '.join(known)}", name) from None


def get_time(request: HTTPConnection, name: str) -> datetime | None:
    """RFC 3339; without an offset UTC. A `+` that was not escaped arrives as a blank."""
    text = request.query_params.get(name)
    if text is None or text == "":
        return None
    try:
        moment = datetime.fromisoformat(text.replace(" ", "+"))
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise InvalidBody(f"{name} is no time: write for example 2026-01-01T00:00:00Z", name) from None


def get_window(request: HTTPConnection, name: str) -> Window:
    """`createdBefore` and `createdAfter` for `created`."""
    return Window(get_time(request, f"{name}After"), get_time(request, f"{name}Before"))


async def read_body(request: Request) -> dict[str, Any]:
    """A JSON object; no body is an empty one. Fields that nobody knows are ignored: newer clients may send some."""
    value = await read_json(request)
    if not isinstance(value, dict):
        raise InvalidBody("the body must be a JSON object")
    return value


async def read_json(request: Request) -> Any:
    raw = await request.body()
    if not raw.strip():
        return {}
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        raise InvalidBody("the body is no JSON in UTF-8") from None


def take_text(body: Mapping[str, Any], name: str, *, within: str = "") -> str | None:
    """Null and "" are as if it was not given."""
    value = body.get(name)
    if value is not None and not isinstance(value, str):
        raise InvalidBody(f"{within}{name} must be text", f"{within}{name}")
    return value or None


def need_text(body: Mapping[str, Any], name: str, *, within: str = "") -> str:
    if (value := take_text(body, name, within=within)) is None:
        raise InvalidBody(f"{within}{name} is missing", f"{within}{name}")
    return value


def take_object(body: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = body.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidBody(f"{name} must be an object", name)
    return value


def take_list(body: Mapping[str, Any], name: str) -> list[Any]:
    value = body.get(name)
    if value is None:
        return []
    if not isinstance(value, list):
        raise InvalidBody(f"{name} must be a list", name)
    return value
