"""Ids of runs, batches and deploys as arguments. What is none, is refused here, with what was perhaps meant."""

from __future__ import annotations

import re
from typing import Any

import click

_ID = re.compile(r"(run|bat|dep)-[0-9a-z]{20}")
_WORDS = {"run": "run", "bat": "batch", "dep": "deploy"}
_SHOW = {"run": "oneoff runs show", "bat": "oneoff batch show", "dep": "oneoff deploys show"}
_LIST = {"run": "oneoff runs list", "bat": "oneoff batch list", "dep": "oneoff deploys list"}
_WITH = {"run": "oneoff", "bat": "oneoff batch"}  # whose commands have the same names
_SHARED = ("attach", "wait", "cancel")


class Id(click.ParamType[str]):
    """Of one kind: `run`, `bat` or `dep`."""

    name = "id"

    def __init__(self, kind: str) -> None:
        self._kind = kind

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        found = _ID.fullmatch(value)
        if found is not None and found[1] == self._kind:
            return str(value)
        verb = ctx.info_name if ctx is not None else None
        return self.fail(f"{value!r} is no {_WORDS[self._kind]}: {self._hint(value, found, verb)}", param, ctx)

    def _hint(self, value: str, found: re.Match[str] | None, verb: str | None) -> str:
        if found is not None:
            command = f"{_WITH[found[1]]} {verb}" if found[1] in _WITH and verb in _SHARED else _SHOW[found[1]]
            return f"it is a {_WORDS[found[1]]}, for which there is `{command} {value}`"
        listing = _LIST[self._kind]
        if "/" in value and self._kind != "dep":
            return f"`{listing} {'--job ' if ':' in value else ''}{value}` shows those it has"
        where = f"{listing} PATH" if self._kind == "dep" else listing
        return f"an id is {self._kind}- and 20 letters or digits here, `{where}` shows them"
