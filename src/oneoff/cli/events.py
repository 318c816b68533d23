"""`oneoff events`: what happened, and what happens from now on."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import click

from oneoff.cli.client import Client, backoff
from oneoff.cli.problems import ApiRefused, ServerUnreachable
from oneoff.cli.results import json_option, more_hint, page_options, print_json, print_table
from oneoff.cli.session import Session, pass_session
from oneoff.cli.streams import LostConnection, Narrator

_WORTH_SHOWING = (
    "service",
    "cron",
    "job",
    "name",
    "image",
    "status",
    "reason",
    "exit_code",
    "due_at",
    "count",
    "message",
)


@click.command(short_help="What happened, and what happens from now on.")
@click.option("--follow", "-f", is_flag=True, help="Then wait for more, until Ctrl-C.")
@click.option("--kind", multiple=True, metavar="KIND", help="Only these kinds: run.ended, or run.*; may be repeated.")
@click.option("--service", metavar="PATH", help="Only what belongs to this service.")
@click.option("--subject", metavar="ID", help="Only what is about this run, cron, deploy …")
@page_options(20, most=200)
@json_option
@pass_session
def events(session: Session, /, follow: bool, as_json: bool, limit: int, cursor: str | None, **query: Any) -> None:
    """List the newest events, or with --follow the newest ones in their order and all that come. With --follow --json
    each line is one event."""
    query = {name: value for name, value in query.items() if value}
    answer = session.client.get("/events", limit=limit, cursor=cursor, **query)
    if follow:
        newest = answer.value["items"][::-1]
        _follow(session.client, newest, query, as_json)
    elif as_json:
        print_json(answer.text)
    else:
        rows = [(e["seq"], e["created_at"], e["kind"], e["subject_id"], _words(e)) for e in answer.value["items"]]
        print_table(("SEQ", "TIME", "KIND", "ABOUT", "WHAT"), rows, "no events yet")
        more_hint(answer.value)


def _follow(client: Client, newest: list[dict[str, Any]], query: Mapping[str, Any], as_json: bool) -> None:
    for each in newest:
        _print(each, as_json)
    # Without one that fits, from the newest of all on: the next that fits comes behind it.
    seen = newest or client.get("/events", limit=1).value["items"]
    position = seen[-1]["seq"] if seen else 0
    delays, lost = backoff(), LostConnection(Narrator().warn)
    while True:
        wait = 0.0
        try:
            for event in client.events(f"/events/stream?{urlencode(query, doseq=True)}", position):
                delays = backoff()
                happened = json.loads(event.data)
                position = happened["seq"]
                _print(happened, as_json)
        except ServerUnreachable:
            lost.tell()
        except ApiRefused as problem:
            if not problem.is_temporary:
                raise
            wait = problem.retry_after or 0.0
        time.sleep(max(wait, next(delays)))
        client.look_again()


def _print(event: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(event, separators=(",", ":")))
    else:
        click.echo(f"{event['created_at']}  {event['kind']:<18} {event['subject_id']}  {_words(event)}".rstrip())


def _words(event: Mapping[str, Any]) -> str:
    """The few fields of a body that tell most."""
    body = event["body"]
    shown = {name: body[name] for name in _WORTH_SHOWING if body.get(name) not in (None, "")}
    if "job" in shown:
        shown.pop("service", None)
    return " ".join(f"{name}={_one_line(value)}" for name, value in shown.items())


def _one_line(value: Any) -> str:
    text = "".join(c if c.isprintable() else " " for c in str(value))
    text = text if len(text) <= 60 else text[:59] + "…"
    return f'"{text}"' if " " in text else text
