"""The field tables of Render's API, as data, and what holds an answer to them.

Of each field: its type, whether it must be there, and what it may be. Nothing is ever null in today's answers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

Check = Callable[[Any], bool]


@dataclass(frozen=True)
class Field:
    check: Check
    required: bool = True
    nullable: bool = False


def text(value: Any) -> bool:
    return isinstance(value, str)


def word(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def truth(value: Any) -> bool:
    return isinstance(value, bool)


def time(value: Any) -> bool:
    """RFC 3339 with microseconds and Z."""
    return isinstance(value, str) and bool(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", value))


def offset_time(value: Any) -> bool:
    """As the document of 2021 writes it: microseconds and an offset."""
    shown = isinstance(value, str) and re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}[+-]\d\d:\d\d", value)
    return bool(shown) and datetime.fromisoformat(value).tzinfo is not None


def an_id(*prefixes: str) -> Check:
    pattern = re.compile(rf"(?:{'|'.join(prefixes)})-[0-9a-z]{{20}}")
    return lambda value: isinstance(value, str) and bool(pattern.fullmatch(value))


def one_of(*words: str) -> Check:
    return lambda value: value in words


def list_of(check: Check | Mapping[str, Field]) -> Check:
    holds = check if callable(check) else lambda value: not wrong(value, check)
    return lambda value: isinstance(value, list) and all(holds(each) for each in value)


def shape(table: Mapping[str, Field]) -> Check:
    return lambda value: not wrong(value, table)


def may(check: Check) -> Field:
    """A field that may be left out."""
    return Field(check, required=False)


def must(check: Check) -> Field:
    return Field(check)


def or_null(check: Check) -> Field:
    return Field(check, nullable=True)


def wrong(value: Any, table: Mapping[str, Field]) -> list[str]:
    """What of `value` is not as the table says; also fields that the table does not know."""
    if not isinstance(value, dict):
        return ["no object"]
    found = [f"{name} is missing" for name, field in table.items() if field.required and name not in value]
    for name, each in value.items():
        if name not in table:
            found.append(f"{name} is not known")
        elif each is None:
            found += [] if table[name].nullable else [f"{name} is null"]
        elif not table[name].check(each):
            found.append(f"{name} is {each!r}")
    return found


JOB_STATUS = one_of("pending", "running", "succeeded", "failed", "canceled")

JOB = {
    "id": must(an_id("job")),
    "serviceId": must(an_id("srv", "crn")),
    "startCommand": must(text),
    "planId": must(word),
    "createdAt": must(time),
    "status": must(JOB_STATUS),  # optional in the table; clients do better with it
    "startedAt": may(time),
    "finishedAt": may(time),
}
JOB_OF_2021 = {
    "id": must(an_id("job")),
    "serviceId": must(an_id("srv", "crn")),
    "startCommand": must(text),
    "planId": must(word),
    "createdAt": must(offset_time),
    "startedAt": or_null(offset_time),
    "finishedAt": or_null(offset_time),
    "status": or_null(one_of("succeeded", "failed", "canceled")),
}
ERROR = {"id": may(word), "message": must(word)}


def listed(name: str, table: Mapping[str, Field]) -> dict[str, Field]:
    """An item of a list: the thing beside its cursor."""
    return {name: must(shape(table)), "cursor": must(lambda value: bool(re.fullmatch(r"[A-Za-z0-9_-]+", str(value))))}
