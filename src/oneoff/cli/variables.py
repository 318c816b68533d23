"""`oneoff env set|unset|list`: the variables of an environment (PATH of two parts) or a service (three)."""

from __future__ import annotations

from typing import Any

import click

from oneoff.cli.options import read_assignments, read_env_file
from oneoff.cli.problems import CliError
from oneoff.cli.results import json_option, print_json, print_table
from oneoff.cli.session import Session, pass_session


@click.group(short_help="Variables of environments and services.")
def env() -> None:
    """Variables given to every run. PATH of two parts (shop/production) means the environment's, of three
    (shop/production/web) the service's, which win over them."""


@env.command("set")
@click.argument("path")
@click.argument("assignments", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--file", "files", multiple=True, metavar="FILE", help="A .env file; - is standard input.")
@click.option(
    "--secret/--no-secret",
    default=None,
    help="Mask the values in logs, hide them in the table of `env list`; by default as it was.",
)
@json_option
@pass_session
def set_variables(
    session: Session, /, path: str, assignments: tuple[str, ...], files: tuple[str, ...], **flags: Any
) -> None:
    """Set variables; others stay as they are. Values in a file, or on standard input, are seen by nobody in ps."""
    given: dict[str, str] = {}
    for file in files:
        given.update(read_env_file(file))
    given.update(read_assignments(assignments, from_own_environment=False))
    if not given:
        raise click.UsageError("nothing to set: give KEY=VALUE, --file .env, or --file - for standard input")
    secret = {} if flags["secret"] is None else {"secret": flags["secret"]}
    body = {name: {"value": value, **secret} for name, value in given.items()}
    answer = session.client.call("PATCH", _scope(session, path), body=body)
    print_json(answer.text) if flags["as_json"] else click.echo(f"set: {', '.join(given)}")


@env.command("unset")
@click.argument("path")
@click.argument("names", nargs=-1, required=True, metavar="KEY...")
@json_option
@pass_session
def unset(session: Session, path: str, names: tuple[str, ...], as_json: bool) -> None:
    """Remove variables. One that is not there is no error."""
    scope = _scope(session, path)
    there = session.client.get(scope).value
    if unknown := [name for name in names if name not in there]:
        click.echo(f"not set in {path}: {', '.join(unknown)}", err=True)
    answer = session.client.call("PATCH", scope, body=dict.fromkeys(names))
    if as_json:
        print_json(answer.text)
    elif known := [name for name in names if name in there]:
        click.echo(f"removed: {', '.join(known)}")


@env.command("list")
@click.argument("path")
@click.option(
    "--reveal", is_flag=True, help="Show the values (admin tokens): of those that are not secret; with --json, of all."
)
@json_option
@pass_session
def list_variables(session: Session, path: str, reveal: bool, as_json: bool) -> None:
    """List the names of variables, and with --reveal their values."""
    answer = session.client.get(_scope(session, path), reveal="true" if reveal else None)
    if as_json:
        print_json(answer.text)
        return
    rows = [(name, _shown(each, reveal)) for name, each in sorted(answer.value.items())]
    print_table(("NAME", "VALUE"), rows, f"{path} has no variables: `oneoff env set {path} KEY=VALUE` sets one")


def _shown(variable: dict[str, Any], reveal: bool) -> str:
    if variable["secret"]:
        return "(secret)"
    return str(variable["value"]) if reveal and variable["value"] is not None else "(hidden; --reveal shows it)"


def _scope(session: Session, path: str) -> str:
    """The API's path of the variables meant."""
    if path.count("/") != 1:
        return f"/services/{session.find_service(path)['id']}/variables"
    for each in session.client.get("/environments", path=path).value["items"]:
        if each["path"] == path:
            return f"/environments/{each['id']}/variables"
    raise CliError(f"there is no environment {path!r}: `oneoff project list` shows those there are")
