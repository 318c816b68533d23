"""Prints answers of the API: the body as it came with --json, else a table or `name: value` lines."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import click

json_option = click.option("--json", "as_json", is_flag=True, help="Print exactly the API's answer, one document.")


def page_options(default: int, most: int = 100) -> Callable[[Any], Any]:
    """--limit and --cursor, of a command that lists; `more_hint` tells the next cursor."""

    def add(command: Any) -> Any:
        command = click.option("--cursor", help="Go on where the page before ended.")(command)
        limit = click.IntRange(1, most)
        return click.option("--limit", type=limit, default=default, show_default=True, help="At most so many.")(command)

    return add


def print_json(body: str) -> None:
    """One document, ending with a newline."""
    click.echo(body.rstrip("\n"))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]], empty: str) -> None:
    """Aligned columns; `empty` is said on stderr when there are no rows, so that scripts read nothing."""
    texts = [["" if value is None else _one_line(str(value)) for value in row] for row in rows]
    if not texts:
        click.echo(empty, err=True)
    else:
        _print_aligned(columns, texts)


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


def _print_aligned(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """One line per row whatever the width of the terminal: ids are copied from here, and lines are searched."""
    widths = [max(len(line[i]) for line in [columns, *rows]) for i in range(len(columns))]
    for number, line in enumerate([columns, *rows]):
        text = "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        # click drops the style where stdout is no terminal.
        click.echo(text if number else click.style(text, bold=True))


def _one_line(text: str) -> str:
    """Control characters escaped: what users name or type must not steer the terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
