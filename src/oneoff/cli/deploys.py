"""`oneoff deploy`: make an image the live image of a service, and wait until it is."""

from __future__ import annotations

import time
from typing import Any

import click

from oneoff.cli.options import read_credentials, registry_options
from oneoff.cli.problems import ApiRefused, CliError, ServerUnreachable
from oneoff.cli.results import json_option, print_json
from oneoff.cli.services import warn_of
from oneoff.cli.session import Session, pass_session
from oneoff.cli.streams import Narrator

_SUCCESSFUL = {"live", "deactivated"}  # deactivated: it was live, and a newer one is by now
_FAILED = {"pre_deploy_failed", "image_unavailable", "canceled"}


@click.command(short_help="Make an image the live image of a service.")
@click.argument("path")
@click.option("--image", metavar="REF", required=True, help="As skopeo names it; see below.")
@registry_options
@click.option("-q", "--quiet", is_flag=True, help="No progress on stderr.")
@json_option
@pass_session
def deploy(session: Session, /, path: str, image: str, quiet: bool, as_json: bool, **registry: Any) -> int:
    """Make REF the live image of PATH, held by its digest. Exits 0 when it is live, 1 when the old one stays.

    REF is registry.example.com/shop/web:42, oci:DIR:TAG, docker-archive:FILE or docker-daemon:REF. Folders and files
    are the server's.
    """
    body: dict[str, Any] = {"image": image}
    if credentials := read_credentials(registry["registry_user"], registry["registry_password_stdin"]):
        body["registry"] = credentials
    narrator = Narrator(quiet=quiet)
    service = session.find_service(path)
    narrator.progress(f"deploying {image} to {service['path']}")
    answer = _wait(session, session.client.create(f"/services/{service['id']}/deploys", body), narrator)
    made = answer.value
    if as_json:
        print_json(answer.text)
    warn_of(made)
    if made["status"] not in _SUCCESSFUL:
        why = made["message"] or made["status"].replace("_", " ")
        raise CliError(f"{made['id']} did not become live: {why}. {_what_stays(service)}")
    if not as_json:
        click.echo(f"{made['id']} live: {made['image']} {made['digest'] or ''}".rstrip())
    return 0


def _wait(session: Session, answer: Any, narrator: Narrator) -> Any:
    """The answer about the ended deploy; rides over lost connections as `run` does."""
    told, delay = "", 0.05
    while answer.value["status"] not in _SUCCESSFUL | _FAILED:
        if answer.value["status"] != told:
            told = answer.value["status"]
            narrator.progress(f"{answer.value['id']} {told.replace('_', ' ')}")
        time.sleep(delay)
        delay = min(1.0, delay * 1.5)
        try:
            answer = session.client.get(f"/deploys/{answer.value['id']}")
        except ServerUnreachable:
            session.client.look_again()
        except ApiRefused as problem:
            if not problem.is_temporary:
                raise
    return answer


def _what_stays(service: dict[str, Any]) -> str:
    return f"{service['image']} stays live" if service["image"] else "The service has no live image yet"
