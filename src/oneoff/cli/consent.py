"""Asks before something is gone. Used by the commands that delete."""

from __future__ import annotations

import signal
import sys

import click

from oneoff.cli.problems import Interrupted


def ask(question: str, *, yes: bool) -> None:
    """Goes on when the answer is yes, or `--yes` gave it. Where nobody can be asked it says so instead of hanging or
    pretending that somebody interrupted."""
    if yes:
        return
    try:
        agreed = click.confirm(question, err=True)
    except click.Abort:
        if sys.stdin.isatty():
            raise
        click.echo(err=True)
        raise click.UsageError("nobody answered; --yes does it without asking") from None
    if not agreed:
        click.echo("nothing was done", err=True)
        raise Interrupted(signal.SIGINT)
