"""`oneoff group list|set`."""

from __future__ import annotations

from urllib.parse import quote

import click

from oneoff.cli.results import json_option, print_json, print_table
from oneoff.cli.session import Session, pass_session


@click.group(short_help="Concurrency groups: how many runs at once.")
def group() -> None:
    """Concurrency groups: a name and a limit across jobs, crons and runs that name it (--group)."""


@group.command("list")
@json_option
@pass_session
def list_groups(session: Session, as_json: bool) -> None:
    """List all groups with their limits, and how many of their runs are going."""
    answer = session.client.get("/concurrency-groups")
    if as_json:
        print_json(answer.text)
        return
    rows = [(each["name"], each["limit"], each["going"]) for each in answer.value["items"]]
    print_table(("GROUP", "LIMIT", "GOING"), rows, "no groups yet: `oneoff group set db-migrate 1` makes one")


@group.command("set")
@click.argument("name")
@click.argument("limit", type=click.IntRange(1))
@json_option
@pass_session
def set_limit(session: Session, name: str, limit: int, as_json: bool) -> None:
    """Let at most LIMIT runs of the group NAME be going at once. Going runs are not touched by a lower limit."""
    path = f"/concurrency-groups/{quote(name, safe='')}"
    answer = session.client.call("PUT", path, body={"limit": limit})
    if as_json:
        print_json(answer.text)
        return
    click.echo(f"group {answer.value['name']}: at most {answer.value['limit']} at once, {answer.value['going']} going")
