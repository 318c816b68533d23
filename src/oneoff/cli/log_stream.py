"""`oneoff log-stream set|show|list|delete|test`: where the output of runs is sent."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from oneoff.cli.problems import CliError
from oneoff.cli.results import json_option, print_fields, print_json, print_table
from oneoff.cli.session import Session, pass_session
from oneoff.core.limits import format_bytes

_path_argument = click.argument("path", required=False)


@click.group("log-stream", short_help="Where the output of runs is sent: syslog, OpenTelemetry.")
def log_stream() -> None:
    """Where the output of runs is sent, line by line. PATH is a service (shop/production/web), whose stream holds
    instead of the workspace's; without PATH the workspace's is meant."""


@log_stream.command("set")
@_path_argument
@click.option("--syslog", metavar="HOST:PORT", help="Send to a syslog receiver.")
@click.option("--otlp", metavar="URL", help="Send to an OpenTelemetry receiver, over HTTP in JSON.")
@click.option("--drop", is_flag=True, help="Send the lines of this service nowhere.")
@click.option("--protocol", type=click.Choice(["tls", "tcp", "udp"]), help="Of syslog; by default tls.")
@click.option(
    "--framing",
    type=click.Choice(["octets", "newline"]),
    help="Of syslog over tls and tcp: octets counts them (the default), newline is for receivers that cannot.",
)
@click.option("--token-stdin", is_flag=True, help="Read the receiver's token from standard input.")
@click.option("--no-token", is_flag=True, help="Forget the present token.")
@click.option(
    "--ca",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File with the CA's certificates in PEM form, instead of the system's.",
)
@click.option("--no-check", is_flag=True, help="Save it also when its receiver cannot be reached now.")
@json_option
@pass_session
def set_stream(session: Session, /, path: str | None, as_json: bool, no_check: bool, **options: Any) -> None:
    """Set the stream: runs made from now on are sent. The receiver is tried first."""
    query = {"check": "false"} if no_check else {}
    answer = session.client.call("PUT", _scope(session, path), query=query, body=_body(**options))
    _print(answer, as_json)


@log_stream.command("show")
@_path_argument
@json_option
@pass_session
def show(session: Session, path: str | None, as_json: bool) -> None:
    """Show a stream and how it is: connection, last error, lines sent, lag."""
    _print(session.client.get(_scope(session, path)), as_json)


@log_stream.command("list")
@json_option
@pass_session
def list_streams(session: Session, as_json: bool) -> None:
    """List the workspace's stream and those of services."""
    answer = session.client.get("/log-streams")
    if as_json:
        print_json(answer.text)
        return
    rows = [
        (
            each["service"] or "(workspace)",
            _receiver(each),
            each["state"]["status"] if each["setting"] == "send" else "",
            each["state"]["lines_sent"],
            _lag(each["state"]),
            each["state"]["last_error"] if each["state"]["failing_since"] else "",
        )
        for each in answer.value["items"]
    ]
    empty = "no log streams yet: `oneoff log-stream set --syslog HOST:PORT` sets the workspace's"
    print_table(("SCOPE", "RECEIVER", "STATUS", "LINES", "LAG", "ERROR"), rows, empty)


@log_stream.command("delete")
@_path_argument
@click.option("--yes", is_flag=True, help="Do not ask.")
@pass_session
def delete(session: Session, path: str | None, yes: bool) -> None:
    """Send no more; lines that wait are not sent any more. A service has the workspace's stream again."""
    scope = _scope(session, path)
    if not yes:
        click.confirm(f"Delete the log stream of {path or 'the workspace'}?", abort=True, err=True)
    session.client.call("DELETE", scope)
    click.echo(f"log stream of {path or 'the workspace'} deleted")


@log_stream.command("test")
@_path_argument
@json_option
@pass_session
def test(session: Session, path: str | None, as_json: bool) -> None:
    """Send one line of Oneoff's own, now."""
    answer = session.client.call("POST", f"{_scope(session, path)}/test")
    if as_json:
        print_json(answer.text)
    else:
        click.echo(f"sent to {_receiver(answer.value)}: look for `a test line of Oneoff's log stream` there")


def _body(**options: Any) -> dict[str, Any]:
    asked = [name for name in ("syslog", "otlp", "drop") if options[name]]
    if len(asked) != 1:
        raise click.UsageError("say where the lines go: one of --syslog HOST:PORT, --otlp URL, --drop")
    if asked == ["drop"]:
        return {"setting": "drop"}
    body: dict[str, Any] = {"kind": asked[0], "endpoint": options[asked[0]]}
    body |= {name: options[name] for name in ("protocol", "framing") if options[name]}
    if options["ca"] is not None:
        body["ca_pem"] = _read_text(options["ca"])
    if options["token_stdin"]:
        token = sys.stdin.readline().strip()
        if not token or options["no_token"]:
            raise click.UsageError("--token-stdin: standard input is empty, or --no-token was given as well")
        body["token"] = token
    elif options["no_token"]:
        body["token"] = None
    return body


def _read_text(file: Path) -> str:
    try:
        return file.read_text()
    except (OSError, UnicodeDecodeError) as problem:
        raise CliError(f"{file} cannot be read: {problem}") from problem


def _scope(session: Session, path: str | None) -> str:
    """The API's address of the stream meant."""
    if path is None:
        return "/workspace/log-stream"
    return f"/services/{session.find_service(path)['id']}/log-stream"


def _receiver(each: dict[str, Any]) -> str:
    if each["setting"] == "drop":
        return "dropped"
    return f"{each['endpoint']} ({each['protocol'] or each['kind']})"


def _lag(state: dict[str, Any]) -> str:
    if not state["lag_bytes"]:
        return ""
    return f"{format_bytes(state['lag_bytes'])}, {state['lag_seconds']:.0f} s"


def _print(answer: Any, as_json: bool) -> None:
    if as_json:
        print_json(answer.text)
        return
    shown = dict(answer.value)
    state = shown.pop("state")
    shown["ca_pem"] = "given" if shown["ca_pem"] else None
    print_fields(shown | state)
