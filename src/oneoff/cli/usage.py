"""`oneoff usage`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

import click

from oneoff.cli.results import json_option, print_json, print_table
from oneoff.cli.session import Session, pass_session
from oneoff.core.limits import format_duration

_BY = ("service", "job", "instance_type", "day")
_TITLES = {"day": "DAY", "service": "SERVICE", "job": "JOB", "instance_type": "INSTANCE TYPE"}


class _Day(click.ParamType[date]):
    """`2026-03-01`."""

    name = "day"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> date:
        try:
            return value if isinstance(value, date) else date.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is no day: write for example 2026-03-01", param, ctx)


@click.command(short_help="What runs have used, and what they cost.")
@click.option("--from", "first", type=_Day(), metavar="DAY", help="2026-03-01, UTC; by default the first of the month.")
@click.option("--to", "last", type=_Day(), metavar="DAY", help="Last day, included; by default today.")
@click.option("--by", type=click.Choice(_BY), multiple=True, help="What to tell apart; may be repeated. By service.")
@click.option("--csv", "as_csv", is_flag=True, help="Print exactly the API's CSV.")
@json_option
@pass_session
def usage(
    session: Session,
    /,
    first: date | None,
    last: date | None,
    by: tuple[str, ...],
    as_csv: bool,
    as_json: bool,
) -> None:
    """Print the seconds and the cost of the runs that ended on these days, with their total. A run counts whole on the
    day it ended."""
    if as_csv and as_json:
        raise click.UsageError("give either --csv or --json, not both")
    query = {
        "from": first and first.isoformat(),
        "to": last and last.isoformat(),
        "by": list(by) or None,
        "format": "csv" if as_csv else None,
    }
    answer = session.client.get("/usage", **query)
    if as_csv:
        click.echo(answer.text, nl=False)
    elif as_json:
        print_json(answer.text)
    else:
        _print(answer.value)


def _print(found: Mapping[str, Any]) -> None:
    asked = found["by"]
    rows = [(*(_cell(each, name) for name in asked), *_counts(each)) for each in found["items"]]
    if rows:
        rows.append((*("" if place else "total" for place in range(len(asked))), *_counts(found["total"])))
    columns = (*(_TITLES[name] for name in asked), "RUNS", "TIME", "USD")
    print_table(columns, rows, f"no run ended from {found['from']} to {found['to']}")


def _cell(each: Mapping[str, Any], name: str) -> str:
    if name == "job":
        return str(each["job"] or each["job_id"] or "(ad hoc)")
    return str(each[name])


def _counts(each: Mapping[str, Any]) -> tuple[object, ...]:
    return each["runs"], format_duration(each["seconds"]), each["cost_usd"]
