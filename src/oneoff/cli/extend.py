"""`oneoff extend`: more time for a going run."""

from __future__ import annotations

import click

from oneoff.cli.ids import Id
from oneoff.cli.options import Duration
from oneoff.cli.results import json_option, print_json
from oneoff.cli.session import Session, pass_session
from oneoff.core.limits import format_duration


@click.command(short_help="Give a going run more time.")
@click.argument("run_id", metavar="RUN", type=Id("run"))
@click.argument("more", metavar="DURATION", type=Duration())
@json_option
@pass_session
def extend(session: Session, run_id: str, more: int, as_json: bool) -> None:
    """Add DURATION (30m, 1h30m) to the time limit of RUN, up to the plan's maximum."""
    answer = session.client.call("POST", f"/runs/{run_id}/extend", body={"more_seconds": more})
    if as_json:
        print_json(answer.text)
        return
    run = answer.value
    click.echo(f"{run['id']} may take {format_duration(run['timeout_seconds'])} now")
    if run["must_end_at"]:
        click.echo(f"it must still end by {run['must_end_at']}", err=True)
