"""`oneoff logs`: the output of a run so far, or with --follow to its end."""

from __future__ import annotations

import click

from oneoff.cli.exit_codes import FINAL, PLATFORM_FAILED, exit_code_of
from oneoff.cli.ids import Id
from oneoff.cli.session import Session, pass_session
from oneoff.cli.signals import interrupts
from oneoff.cli.streams import Narrator, Output


@click.command(short_help="Print the output of a run.")
@click.argument("run_id", metavar="RUN", type=Id("run"))
@click.option("-f", "--follow", is_flag=True, help="Go on until the run has ended, then exit with its exit code.")
@pass_session
def logs(session: Session, run_id: str, follow: bool) -> int:
    """Print what RUN has written, stdout to stdout and stderr to stderr, byte for byte.

    Exits 0 without --follow, and for a run that had ended already. With --follow a run that ends meanwhile gives its
    exit code, as with `oneoff run`. Ctrl-C only leaves.
    """
    from oneoff.cli.follow import Follower, describe_status

    session.failure_code = PLATFORM_FAILED
    run = session.client.get(f"/runs/{run_id}").value
    follower = Follower(session.client, run_id, Output(stop_when_closed=True), Narrator(quiet=True))
    had_ended = run["status"] in FINAL
    with interrupts():
        if not had_ended and not follow:
            follower.take_stored()
            if run["status"] != "running":
                told = describe_status(run) or f"{run_id} {run['status']}"
                click.echo(f"{told}: there is no output yet, --follow waits for it", err=True)
            return 0
        ended = follower.follow()
    return 0 if had_ended else exit_code_of(ended)
