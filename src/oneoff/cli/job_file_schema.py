"""The JSON Schema of job files, for editors, from the tables that the reader goes by. Written by reference.py."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from oneoff.cli.job_file_keys import CRON, FILE, JOB, RETENTION, RETRIES, Key

_SCALAR = {"type": ["string", "number", "boolean"]}
_NUMBER = {"type": "integer"}
_LIST = {"type": "array", "items": _SCALAR}


def schema() -> str:
    described = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A job file of Oneoff",
        **_mapping(FILE),
        "required": ["service"],
        "patternProperties": {"^x-": {}},
    }
    return json.dumps(described, indent=2) + "\n"


def _mapping(keys: Mapping[str, Key]) -> dict[str, Any]:
    parts = {name: {"description": key.text, **_KINDS[key.kind]()} for name, key in keys.items()}
    return {"type": "object", "additionalProperties": False, "properties": parts}


def _by_name(value: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": value}


_FROM_ENV = {
    "type": "object",
    "additionalProperties": False,
    "required": ["from_env"],
    "properties": {"from_env": {"type": "string", "description": "A variable of the environment of oneoff apply."}},
}
_KINDS: Mapping[str, Callable[[], dict[str, Any]]] = {
    "text": lambda: {"type": "string"},
    "duration": lambda: {"type": ["string", "integer"], "examples": ["90s", "10m", "1h30m", "30d"]},
    "number": lambda: _NUMBER,
    "numbers": lambda: {"type": "array", "items": _NUMBER},
    "flag": lambda: {"type": "boolean"},
    "words": lambda: _LIST,
    "names": lambda: _LIST,
    "entrypoint": lambda: {"anyOf": [{"enum": ["keep", "clear"]}, _LIST]},
    "retries": lambda: {"anyOf": [_NUMBER, _mapping(RETRIES)]},
    "retention": lambda: _mapping(RETENTION),
    "variables": lambda: _by_name({"anyOf": [_SCALAR, _FROM_ENV]}),
    "crons": lambda: _by_name({"anyOf": [{"type": "string"}, {**_mapping(CRON), "required": ["schedule"]}]}),
    "groups": lambda: _by_name(_NUMBER),
    "jobs": lambda: _by_name({**_mapping(JOB), "oneOf": [{"required": ["command"]}, {"required": ["shell"]}]}),
}
