"""Reads the items of `oneoff batch create`: one argument per line, or JSON lines. Pure but for opening the file; wrong
items are told by the file and the line, before anything is sent."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from oneoff.cli.problems import CliError
from oneoff.core.batch import MOST_ITEMS
from oneoff.core.command import make_command
from oneoff.core.variables import check_variables
from oneoff.errors import OneoffError

LINES, JSON = "lines", "json"
_JSON_ENDINGS = (".jsonl", ".ndjson", ".json")
_FORMS = 'a text, a list of texts, or {"arguments": […], "variables": {…}}'

Item = dict[str, Any]  # as the API takes it: arguments, variables


def read_items(file: str, form: str | None) -> list[Item]:
    """Of a file, or of standard input (`-`). Without a form it is JSON lines when the name or the first line says so.
    Raises CliError with the line."""
    source = "standard input" if file == "-" else file
    return parse_items(_read(file, source), source, form or (JSON if file.endswith(_JSON_ENDINGS) else None))


def parse_items(text: str, source: str, form: str | None) -> list[Item]:
    """`form` None = by the first line that is not empty: JSON lines begin with { or [."""
    numbered = enumerate(text.removeprefix("\ufeff").split("\n"), 1)
    lines = [(number, line.removesuffix("\r")) for number, line in numbered if line.strip()]
    if form is None:
        form = JSON if lines and _is_json(lines[0][1]) else LINES
    items = []
    for number, line in lines:
        try:
            items.append(check_item(_parse_json(line) if form == JSON else {"arguments": [line]}))
        except (OneoffError, CliError) as problem:
            raise CliError(f"{source}, line {number}: {problem}") from problem
        if len(items) > MOST_ITEMS:
            raise CliError(f"{source}, line {number}: a batch has at most {MOST_ITEMS} items; split the file")
    if not items:
        raise CliError(f"{source} has no items: write one on each line")
    return items


def check_item(item: Item) -> Item:
    """What no server needs to see. Raises InvalidInput."""
    if arguments := item.get("arguments"):
        make_command(["command", *arguments], None)
    check_variables(dict(_values(item.get("variables", {}))))
    return item


def _values(variables: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in variables.items():
        yield name, value["value"] if isinstance(value, dict) else value


def _parse_json(line: str) -> Item:
    try:
        value = json.loads(line)
    except ValueError as problem:
        raise CliError(f"this is no JSON: {problem}; write {_FORMS}, or give --format lines") from None
    if isinstance(value, str):
        return {"arguments": [value]}
    if isinstance(value, list):
        return {"arguments": _texts(value)}
    if not isinstance(value, dict):
        raise CliError(f"an item is {_FORMS}")
    if unknown := sorted(value.keys() - {"arguments", "variables"}):
        raise CliError(f"there is no field {unknown[0]!r}: an item is {_FORMS}")
    variables = value.get("variables", {})
    if not isinstance(variables, dict) or not all(_is_value(each) for each in variables.values()):
        raise CliError('variables are {"NAME": "text"}: numbers need quotes, too')
    return {"arguments": _texts(value.get("arguments", [])), "variables": variables}


def _texts(value: Any) -> Sequence[str]:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise CliError('arguments are a list of texts, such as ["--id", "7"]: numbers need quotes, too')
    return value


def _is_value(value: Any) -> bool:
    if isinstance(value, dict):
        return isinstance(value.get("value"), str) and value.keys() <= {"value", "secret"}
    return isinstance(value, str)


def _is_json(line: str) -> bool:
    if line.lstrip()[:1] not in ("{", "["):
        return False
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


def _read(file: str, source: str) -> str:
    try:
        data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        return data.decode()
    except UnicodeDecodeError as problem:
        line = problem.object[: problem.start].count(b"\n") + 1
        raise CliError(f"{source}, line {line}: it is not UTF-8, and arguments are text") from problem
    except OSError as problem:
        raise CliError(f"{source} cannot be read: {problem.strerror}") from problem
