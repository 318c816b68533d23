"""`oneoff service create|list|show|update|suspend|resume|delete`."""

from __future__ import annotations

from typing import Any

import click

from oneoff.cli.consent import ask
from oneoff.cli.options import entrypoint_option, read_credentials, registry_options, reset_option, with_reset
from oneoff.cli.results import age, json_option, more_hint, page_options, print_fields, print_json, print_table
from oneoff.cli.session import Session, pass_session

_TYPES = ["web_service", "private_service", "background_worker", "cron_job"]
_RESETTABLE = {
    "instance-type": "instance_type",
    "network": "networks",
    "entrypoint": "entrypoint",
    "user": "user",
    "sandbox": "sandbox",
    "capability": "capabilities",
    "registry": "registry",
}


@click.group(short_help="Services: what commands run in.")
def service() -> None:
    """Services: what commands run in. PATH is project/environment/service; project/environment is enough for an
    environment's only service."""


def _shared_options(command: Any) -> Any:
    for option in (
        click.option(
            "--capability",
            "capabilities",
            multiple=True,
            metavar="NAME",
            help="Let runs keep CHOWN, DAC_OVERRIDE, FOWNER, SETUID or SETGID (entrypoints with gosu need them).",
        ),
        click.option("--sandbox", metavar="NAME", help="Run in a sandboxed runtime: runsc, where the driver has it."),
        click.option("--user", metavar="USER[:GROUP]", help="Instead of the image's USER."),
        click.option(
            "--read-only-root/--writable-root", default=None, help="Whether runs may write their root folder."
        ),
        entrypoint_option,
        click.option(
            "--network",
            "networks",
            multiple=True,
            metavar="N",
            help="Network runs join: host, none or a name; may be given again.",
        ),
        click.option("--instance-type", metavar="ID", help="CPU and memory of runs; see `oneoff instance-types`."),
    ):
        command = option(command)
    return command


@service.command("create")
@click.argument("path")
@click.option("--image", metavar="REF", help="Deploy this image at once; see `oneoff deploy`.")
@click.option("--type", "kind", type=click.Choice(_TYPES), default="web_service", show_default=True)
@_shared_options
@registry_options
@json_option
@pass_session
def create(
    session: Session, /, path: str, registry_user: str | None, registry_password_stdin: bool, **options: Any
) -> None:
    """Make the service PATH, with its project and environment if they are new."""
    as_json = options.pop("as_json")
    body = {"path": path, "type": options.pop("kind"), **_given(options)}
    if credentials := read_credentials(registry_user, registry_password_stdin):
        body["registry"] = credentials
    answer = session.client.create("/services", body)
    if options.get("image"):
        for first in session.client.get(f"/services/{answer.value['id']}/deploys", limit=1).value["items"]:
            warn_of(first)
    if as_json:
        print_json(answer.text)
        return
    made = answer.value
    image = f", live image {made['image']}" if made["image"] else f"; next: oneoff deploy {made['path']} --image REF"
    click.echo(f"{made['id']} {made['path']} made{image}")


@service.command("update")
@click.argument("path")
@_shared_options
@registry_options
@reset_option(_RESETTABLE)
@json_option
@pass_session
def update(session: Session, /, path: str, as_json: bool, reset: tuple[str, ...], **options: Any) -> None:
    """Change what is given and nothing else. Going runs keep what they were made with. --reset network joins the
    driver's own network again, --reset registry forgets user and password."""
    credentials = read_credentials(options.pop("registry_user"), options.pop("registry_password_stdin"))
    changes = with_reset(_given(options | {"registry": credentials}), reset, _RESETTABLE)
    if not changes:
        raise click.UsageError("nothing to change: give an option, for example --instance-type or --network")
    answer = session.client.call("PATCH", f"/services/{session.find_service(path)['id']}", body=changes)
    _print_service(answer, as_json)


@service.command("list")
@page_options(100)
@json_option
@pass_session
def list_services(session: Session, /, as_json: bool, **query: Any) -> None:
    """List all services."""
    answer = session.client.get("/services", **query)
    if as_json:
        print_json(answer.text)
        return
    rows = [
        (
            s["id"],
            s["path"],
            s["type"],
            s["image"],
            s["instance_type"],
            "suspended" if s["suspended"] else "",
            age(s["created_at"]),
        )
        for s in answer.value["items"]
    ]
    columns = ("ID", "SERVICE", "TYPE", "LIVE IMAGE", "INSTANCE TYPE", "STATE", "AGE")
    print_table(columns, rows, "no services yet: `oneoff service create shop/production/web --image REF` makes one")
    more_hint(answer.value)


@service.command("show")
@click.argument("path")
@json_option
@pass_session
def show(session: Session, path: str, as_json: bool) -> None:
    """Show one service."""
    _print_service(session.client.get(f"/services/{session.find_service(path)['id']}"), as_json)


@service.command("suspend")
@click.argument("path")
@json_option
@pass_session
def suspend(session: Session, path: str, as_json: bool) -> None:
    """Say that the app is out of service: crons do not fire. Runs by hand, and going ones, are not touched."""
    service_id = session.find_service(path)["id"]
    _print_service(session.client.call("POST", f"/services/{service_id}/suspend"), as_json)


@service.command("resume")
@click.argument("path")
@json_option
@pass_session
def resume(session: Session, path: str, as_json: bool) -> None:
    """Say that the app is in service again: crons fire from now on."""
    service_id = session.find_service(path)["id"]
    _print_service(session.client.call("POST", f"/services/{service_id}/resume"), as_json)


@service.command("delete")
@click.argument("path")
@click.option("--with-jobs", is_flag=True, help="Its saved jobs and their crons go with it.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@pass_session
def delete(session: Session, path: str, with_jobs: bool, yes: bool) -> None:
    """Delete the service with its variables and deploys."""
    found = session.find_service(path)
    ask(f"Delete {found['path']} ({found['id']})?", yes=yes)
    session.client.call("DELETE", f"/services/{found['id']}", query={"with_jobs": "true" if with_jobs else None})
    click.echo(f"{found['id']} {found['path']} deleted")


def warn_of(deploy: dict[str, Any]) -> None:
    """Prints the `warning` of a Deploy, if the server gave one."""
    if deploy["warning"]:
        click.echo(f"warning: {deploy['warning']}", err=True)


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {k: list(v) if isinstance(v, tuple) else v for k, v in options.items() if v is not None and v != ()}


def _print_service(answer: Any, as_json: bool) -> None:
    if as_json:
        print_json(answer.text)
        return
    fields = dict(answer.value)
    for name, value in fields.items():
        if isinstance(value, list):
            fields[name] = " ".join(str(each) for each in value)
    print_fields(fields)
