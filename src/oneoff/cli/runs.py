"""`oneoff runs list|show`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from oneoff.cli.ids import Id
from oneoff.cli.results import (
    age,
    command_text,
    json_option,
    more_hint,
    page_options,
    print_fields,
    print_json,
    print_table,
)
from oneoff.cli.session import Session, pass_session

_STATUSES = ["queued", "starting", "running", "succeeded", "failed", "canceled"]
_TRIGGERS = ["manual", "api", "cron", "batch", "deploy", "retry"]


@click.group(short_help="The history of runs.")
def runs() -> None:
    """The history of runs."""


@runs.command("list")
@click.argument("path", required=False)
@click.option("--status", type=click.Choice(_STATUSES), help="Only runs with this status.")
@click.option("--trigger", type=click.Choice(_TRIGGERS), help="Only runs that exist for this reason.")
@click.option("--job", help="Only runs of this job: PATH:NAME, NAME, or its id.")
@click.option("--cron", help="Only runs that this cron fired: JOB:CRON, its job, or its id.")
@click.option("--batch", metavar="BATCH", help="Only runs of this batch.")
@page_options(20)
@json_option
@pass_session
def list_runs(
    session: Session, /, path: str | None, job: str | None, cron: str | None, as_json: bool, **query: Any
) -> None:
    """List the newest runs, of the service PATH or of all."""
    if path is not None:
        query["service"] = session.find_service(path)["id"]
    if job is not None:
        from oneoff.cli.job import find_job

        query["job"] = find_job(session, job)["id"]
    if cron is not None:
        from oneoff.cli.cron import find_cron

        query["cron"] = find_cron(session, cron)["id"]
    answer = session.client.get("/runs", **query)
    if as_json:
        print_json(answer.text)
        return
    rows = [
        (r["id"], r["service"], state_of(r), r["trigger"], age(r["created_at"]), _took(r), _short(command_text(r)))
        for r in answer.value["items"]
    ]
    print_table(("ID", "SERVICE", "STATUS", "TRIGGER", "AGE", "TOOK", "COMMAND"), rows, _nothing(query))
    more_hint(answer.value)


@runs.command("show")
@click.argument("run_id", metavar="RUN", type=Id("run"))
@json_option
@pass_session
def show_run(session: Session, run_id: str, as_json: bool) -> None:
    """Show all facts of one run."""
    answer = session.client.get(f"/runs/{run_id}")
    if as_json:
        print_json(answer.text)
        return
    run = dict(answer.value)
    run["command"] = command_text(run)
    run.pop("shell", None)
    log = run.pop("log", None) or {}
    run.pop("retries", None)
    run["log"] = ", ".join(f"{name.replace('_', ' ')}: {count}" for name, count in log.items())
    print_fields(run)


def state_of(run: Mapping[str, Any]) -> str:
    if run["status"] != "failed":
        return str(run["status"])
    return f"failed: exit code {run['exit_code']}" if run["reason"] == "nonzero_exit" else f"failed: {run['reason']}"


def _took(run: Mapping[str, Any]) -> str:
    return "" if run["duration_seconds"] is None else f"{run['duration_seconds']:.1f}s"


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:59] + "…"


def _nothing(query: Mapping[str, Any]) -> str:
    asked = [name for name, value in query.items() if value is not None and name != "limit"]
    return f"no run with this {' and '.join(asked)}" if asked else "no runs yet"
