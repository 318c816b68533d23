"""`oneoff token create|list|revoke`."""

from __future__ import annotations

from typing import Any

import click

from oneoff.cli.problems import CliError
from oneoff.cli.results import age, json_option, print_json, print_table
from oneoff.cli.session import Session, pass_session


@click.group(short_help="API tokens.")
def token() -> None:
    """API tokens."""


@token.command("create")
@click.argument("name")
@click.option("--admin", is_flag=True, help="May do everything, also make and revoke tokens.")
@json_option
@pass_session
def create(session: Session, name: str, admin: bool, as_json: bool) -> None:
    """Make a token and print it. It is shown this once only."""
    answer = session.client.create("/tokens", {"name": name, "admin": admin})
    if as_json:
        print_json(answer.text)
        return
    made = answer.value
    if made["token"] is None:
        raise CliError(
            f"{made['id']} was made, but the connection was lost and its token with it: "
            f"`oneoff token revoke {made['id']}`, then make another one"
        )
    click.echo(f"{made['id']} made; the token is not shown again:", err=True)
    click.echo(made["token"])


@token.command("list")
@json_option
@pass_session
def list_tokens(session: Session, as_json: bool) -> None:
    """List tokens, without their secrets."""
    answer = session.client.get("/tokens")
    if as_json:
        print_json(answer.text)
        return
    rows = [(t["id"], t["name"], _may(t), age(t["created_at"])) for t in answer.value["items"]]
    print_table(("ID", "NAME", "MAY", "AGE"), rows, "no tokens")


@token.command("revoke")
@click.argument("token_id", metavar="TOKEN-ID")
@pass_session
def revoke(session: Session, token_id: str) -> None:
    """Make a token useless from now on."""
    session.client.call("DELETE", f"/tokens/{token_id}")
    click.echo(f"{token_id} revoked")


def _may(each: dict[str, Any]) -> str:
    return "everything" if each.get("admin") else "run"
