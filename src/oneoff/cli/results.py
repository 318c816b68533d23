"""Prints answers of the API: the body as it came with --json, else a table or `name: value` lines."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import click

json_option = click.option("--json", "as_json", is_flag=True, help="Print exactly the API's answer, one document.")


def print_json(body: str) -> None:
    """One document, ending with a newline."""
    click.echo(body.rstrip("\n"))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]], empty: str) -> None:
    """Aligned columns; `empty` is said on stderr when there are no rows, so that scripts read nothing."""
    texts = [["" if value is None else _one_line(str(value)) for value in row] for row in rows]
    if not texts:
        click.echo(empty, err=True)
    elif sys.stdout.isatty():
        _print_rich(columns, texts)
    else:
        _print_plain(columns, texts)


def print_fields(fields: Mapping[str, object]) -> None:
    """`name: value` lines; unset ones are left out."""
    width = max((len(name) for name in fields), default=0) + 1
    for name, value in fields.items():
        if value not in (None, "", [], {}):
            click.echo(f"{name + ':':<{width}} {_one_line(str(value))}")


def command_text(thing: Mapping[str, Any]) -> str:
    """A Run's command as one would type it."""
    import shlex

    return str(thing["shell"]) if thing.get("shell") is not None else shlex.join(thing.get("command") or [])


def age(time: str | None) -> str:
    """How long ago an RFC 3339 time was, for people: `3m`."""
    if not time:
        return ""
    seconds = max(0, int((datetime.now(UTC) - datetime.fromisoformat(time)).total_seconds()))
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def more_hint(page: Mapping[str, Any]) -> None:
    """Says on stderr how to get the next page of a list, when there is one."""
    if page.get("next_cursor"):
        click.echo(f"more: --cursor {page['next_cursor']}", err=True)


def _print_plain(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    lines = [columns, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    for line in lines:
        click.echo("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())


def _print_rich(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        # Ids are copied from here, so they are never cut or folded.
        table.add_column(column, no_wrap=column in {"ID", "SERVICE"}, overflow="fold")
    for row in rows:
        table.add_row(*(Text(text) for text in row))
    Console().print(table)


def _one_line(text: str) -> str:
    """Control characters escaped: what users name or type must not steer the terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
