"""`oneoff login`: check a token against a server and remember both."""

from __future__ import annotations

import sys

import click

from oneoff.cli.problems import ApiRefused, CliError
from oneoff.cli.session import Session, pass_session
from oneoff.cli.target import Target, check_url, save_login


@click.command(short_help="Remember a server and a token for it.")
@click.argument("url")
@click.option("--token-stdin", is_flag=True, help="Read the token from standard input instead of asking for it.")
@pass_session
def login(session: Session, url: str, token_stdin: bool) -> None:
    """Check a token against the server at URL and remember both, in a file only you can read. Without a terminal the
    token is read from standard input."""
    from oneoff.cli.client import Client

    address = check_url(url)
    token = _read_token(token_stdin or not sys.stdin.isatty())
    try:
        Client(Target(address, token, "the address given")).get("/projects", limit=1)
    except ApiRefused as problem:
        if problem.status not in (401, 403):
            raise
        raise CliError(f"{address} does not take this token; nothing was remembered ({problem})") from problem
    file = save_login(address, token)
    click.echo(f"logged in to {address}; remembered in {file}")


def _read_token(from_stdin: bool) -> str:
    """Asking needs a terminal: the answer would be read, and shown, from wherever there is one otherwise."""
    token = sys.stdin.readline() if from_stdin else click.prompt("Token", hide_input=True, err=True)
    if not (token := token.strip()):
        where = "there is no token on standard input: pipe it in" if from_stdin else "the token is empty"
        raise click.UsageError(f"{where}; `oneoff token create NAME` on the server makes one")
    return str(token)
