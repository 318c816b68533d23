"""`oneoff deploys list|show|cancel`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from oneoff.cli.ids import Id
from oneoff.cli.results import age, json_option, more_hint, page_options, print_fields, print_json, print_table
from oneoff.cli.session import Session, pass_session

if TYPE_CHECKING:
    from oneoff.cli.client import Answer


@click.group(short_help="The history of deploys.")
def deploys() -> None:
    """The history of deploys. `oneoff deploy` makes one."""


@deploys.command("list")
@click.argument("path")
@page_options(20)
@json_option
@pass_session
def list_deploys(session: Session, /, path: str, as_json: bool, **query: Any) -> None:
    """List the newest deploys of the service PATH."""
    answer = session.client.get(f"/services/{session.find_service(path)['id']}/deploys", **query)
    if as_json:
        print_json(answer.text)
        return
    rows = [
        (d["id"], d["status"], d["image"], d["actor"], age(d["created_at"]), d["message"])
        for d in answer.value["items"]
    ]
    empty = f"no deploys yet: `oneoff deploy {path} --image REF` makes one"
    print_table(("ID", "STATUS", "IMAGE", "BY", "AGE", "MESSAGE"), rows, empty)
    more_hint(answer.value)


@deploys.command("show")
@click.argument("deploy_id", metavar="DEPLOY", type=Id("dep"))
@json_option
@pass_session
def show(session: Session, deploy_id: str, as_json: bool) -> None:
    """Show one deploy, and the runs that gate or follow it."""
    _print_deploy(session.client.get(f"/deploys/{deploy_id}"), as_json)


@deploys.command("cancel")
@click.argument("deploy_id", metavar="DEPLOY", type=Id("dep"))
@json_option
@pass_session
def cancel(session: Session, deploy_id: str, as_json: bool) -> None:
    """End a deploy that is not live yet, and the runs that gate it. Does not wait; an ended one stays as it is."""
    answer = session.client.call("POST", f"/deploys/{deploy_id}/cancel")
    if as_json:
        print_json(answer.text)
        return
    status = answer.value["status"]
    if status == "canceled":
        click.echo(f"{deploy_id} is canceled")
    elif status == "pre_deploy_in_progress":
        click.echo(f"{deploy_id} is being canceled: its gates are asked to end")
    else:
        click.echo(f"{deploy_id} had ended before: {status}")


def _print_deploy(answer: Answer, as_json: bool) -> None:
    if as_json:
        print_json(answer.text)
        return
    fields = dict(answer.value)
    fields["gates"] = ", ".join(_describe(gate) for gate in fields["gates"])
    print_fields(fields)


def _describe(gate: Mapping[str, Any]) -> str:
    return f"{gate['gate']} {gate['job']}: {gate['run_id'] or gate['message']} {gate['status'] or ''}".rstrip()
