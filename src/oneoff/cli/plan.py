"""`oneoff plan show|set`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from oneoff.cli.consent import ask
from oneoff.cli.results import json_option, print_fields, print_json, print_table
from oneoff.cli.session import Session, pass_session
from oneoff.core.limits import format_duration

_COLUMNS = ("PLAN", "NAME", "JOBS", "LONGEST RUN", "CRON GAP", "AT ONCE", "KEPT", "REQUESTS/MIN", "TOKENS")


@click.group(short_help="What the workspace may do.")
def plan() -> None:
    """The plan of the workspace: what it may do, and how much of it."""


@plan.command("show")
@json_option
@pass_session
def show(session: Session, as_json: bool) -> None:
    """Show the plan, what of it is in use, and the plans of this server."""
    answer = session.client.get("/plan")
    if as_json:
        print_json(answer.text)
        return
    now = answer.value
    gone = " (this server offers it no more: choose another with `oneoff plan set`)"
    print_fields({"plan": now["id"] + ("" if now["plan"] else gone), **_in_use(now)})
    click.echo()
    print_table(_COLUMNS, [_row(each, now["id"]) for each in now["offered"]], "no plans")


@plan.command("set")
@click.argument("plan_id", metavar="PLAN")
@click.option("--dry-run", is_flag=True, help="Only tell what it would block.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@pass_session
def set_plan(session: Session, plan_id: str, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Change the plan to PLAN. What it does not allow of what there is, is told first, and refused from then on; going
    runs are not touched, and nothing is deleted at once. Takes an admin token."""
    body = {"plan": plan_id}
    looked = session.client.call("PATCH", "/plan", query={"dry_run": "true"}, body=body)
    if not as_json:
        _print_effects(looked.value["effects"])
    if dry_run:
        if as_json:
            print_json(looked.text)
        return
    if looked.value["effects"]:
        ask(f"Change the plan to {plan_id}?", yes=yes)
    answer = session.client.call("PATCH", "/plan", body=body)
    if as_json:
        print_json(answer.text)
        return
    click.echo(f"the plan is {answer.value['id']} now")


def _print_effects(effects: Sequence[Mapping[str, Any]]) -> None:
    if not effects:
        click.echo("the plan allows everything there is", err=True)
    for each in effects:
        name = f"{each['kind']} {each['name']}: " if each["name"] else ""
        click.echo(f"{name}{each['message']}", err=True)


def _in_use(now: Mapping[str, Any]) -> dict[str, str]:
    limits = now["plan"] or {"runs_at_once": "?", "tokens": "?"}
    return {
        "runs going": f"{now['runs_going']} of {limits['runs_at_once']}",
        "tokens": f"{now['tokens_in_use']} of {limits['tokens']}",
    }


def _row(each: Mapping[str, Any], current: str) -> tuple[object, ...]:
    mark = "*" if each["id"] == current else ""
    if not each["has_jobs"]:
        return (each["id"] + mark, each["name"], "no", "-", "-", "-", "-", "-", each["tokens"])
    return (
        each["id"] + mark,
        each["name"],
        "yes",
        format_duration(each["longest_run_seconds"]),
        format_duration(each["smallest_cron_gap_seconds"]),
        each["runs_at_once"],
        f"{each['kept_runs']}, {each['kept_days']}d",
        each["requests_per_minute"],
        each["tokens"],
    )
