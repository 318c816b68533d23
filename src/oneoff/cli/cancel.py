"""`oneoff cancel`: one run, several, or all that are going."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import click

from oneoff.cli.consent import ask
from oneoff.cli.ids import Id
from oneoff.cli.problems import ApiRefused, CliError
from oneoff.cli.results import json_option, print_json
from oneoff.cli.runs import state_of
from oneoff.cli.session import Session, pass_session

_GOING = ("queued", "starting", "running")  # those that wait first, so that none of them starts meanwhile


@click.command(short_help="End runs.")
@click.argument("run_ids", metavar="RUN...", nargs=-1, type=Id("run"))
@click.option("--all", "everything", is_flag=True, help="All that are queued, starting or running.")
@click.option("--service", metavar="PATH", help="With --all: only those of this service.")
@click.option("--job", help="With --all: only those of this job: PATH:NAME, NAME, or its id.")
@click.option("--yes", is_flag=True, help="With --all: do not ask.")
@json_option
@pass_session
def cancel(
    session: Session, /, run_ids: tuple[str, ...], everything: bool, yes: bool, as_json: bool, **which: str | None
) -> None:
    """Ask each RUN to end: TERM, after a grace KILL. Does not wait; a run that has ended stays as it is. Crons go on
    firing: see `oneoff cron pause`."""
    if bool(run_ids) == everything or (any(which.values()) and not everything):
        raise click.UsageError("say which: one RUN or more, or --all, perhaps with --service or --job")
    if as_json and len(run_ids) != 1:
        raise click.UsageError("--json takes one RUN: it prints one document")
    if everything:
        run_ids = tuple(_find_going(session, **which))
        if not run_ids:
            click.echo("no run is going", err=True)
            return
        what = run_ids[0] if len(run_ids) == 1 else f"{len(run_ids)} runs"
        ask(f"Cancel {what}?", yes=yes)
    refused = []
    for run_id in run_ids:
        try:
            answer = session.client.call("POST", f"/runs/{run_id}/cancel")
        except ApiRefused as problem:
            if problem.is_temporary:
                raise
            refused.append(str(problem))  # the others are to end all the same
            continue
        if as_json:
            print_json(answer.text)
        else:
            click.echo(_words(answer.value))
    if refused:
        raise CliError("; ".join(refused))


def _find_going(session: Session, service: str | None, job: str | None) -> Iterator[str]:
    query = {}
    if service is not None:
        query["service"] = session.find_service(service)["id"]
    if job is not None:
        from oneoff.cli.job import find_job

        query["job"] = find_job(session, job)["id"]
    for status in _GOING:
        yield from (run["id"] for run in session.client.items("/runs", status=status, **query))


def _words(run: Mapping[str, Any]) -> str:
    if run["status"] == "canceled":
        return f"{run['id']} is canceled"
    if run["finished_at"]:
        return f"{run['id']} had ended before: {state_of(run)}"
    return f"{run['id']} is being ended; `oneoff wait {run['id']}` tells when"
