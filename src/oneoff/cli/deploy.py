"""`oneoff deploy`: make an image the live image of a service, and wait until it is, past the jobs that gate it."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from oneoff.cli.canceling import Canceller
from oneoff.cli.exit_codes import CANCELED
from oneoff.cli.options import IMAGE, read_credentials, registry_options
from oneoff.cli.problems import CliError, Interrupted
from oneoff.cli.results import json_option, print_json
from oneoff.cli.services import warn_of
from oneoff.cli.session import Session, pass_session
from oneoff.cli.signals import interrupts
from oneoff.cli.streams import Narrator

if TYPE_CHECKING:
    from oneoff.cli.client import Answer

_SUCCESSFUL = {"live", "deactivated"}  # deactivated: it was live, and a newer one is by now
_FAILED = {"pre_deploy_failed", "image_unavailable", "canceled"}


@click.command(short_help="Make an image the live image of a service.")
@click.argument("path")
@click.option("--image", metavar="REF", type=IMAGE, required=True, help="As skopeo names it; see below.")
@registry_options
@click.option("-d", "--detach", is_flag=True, help="Print the deploy's id and do not wait.")
@click.option("-q", "--quiet", is_flag=True, help="No progress on stderr.")
@json_option
@pass_session
def deploy(
    session: Session, /, path: str, image: str, detach: bool, quiet: bool, as_json: bool, **registry: Any
) -> int:
    """Make REF the live image of PATH, held by its digest. Exits 0 when it is live, 1 when the old one stays, 130 when
    it was canceled.

    Jobs that gate the deploy run first, in the new image, and their output is shown as `oneoff run` shows it. Ctrl-C
    or TERM cancels the deploy; a second one leaves it going. With --json their output goes to stderr, and the ended
    Deploy to stdout.

    REF is registry.example.com/shop/web:42, oci:DIR:TAG, docker-archive:FILE or docker-daemon:REF. Folders and files
    are the server's.
    """
    if not image.strip():
        raise click.UsageError("--image is empty: write for example --image registry.example.com/shop/web:42")
    body: dict[str, Any] = {"image": image}
    if credentials := read_credentials(registry["registry_user"], registry["registry_password_stdin"]):
        body["registry"] = credentials
    narrator = Narrator(quiet=quiet)
    service = session.find_service(path)
    if detach:
        answer = session.client.create(f"/services/{service['id']}/deploys", body, wait="false")
        print_json(answer.text) if as_json else click.echo(answer.value["id"])
        return 0
    narrator.progress(f"deploying {image} to {service['path']}")
    canceller = Canceller(session, narrator, "deploy")
    try:
        with interrupts(canceller.request):
            answer = session.client.create(f"/services/{service['id']}/deploys", body, wait="false")
            canceller.know(answer.value["id"])
            answer = _wait(session, answer, _Gates(session, narrator, as_json), narrator)
    except Interrupted as leaving:
        _say_how_to_return(narrator, canceller.known_id, service["path"])
        return CANCELED if canceller.requested else leaving.exit_code
    return _tell_end(answer, service, narrator, as_json)


class _Gates:
    """Follows the runs that gate a deploy, each in a thread: they go side by side."""

    def __init__(self, session: Session, narrator: Narrator, as_json: bool) -> None:
        self._session = session
        self._narrator = narrator
        self._as_json = as_json
        self._following: dict[str, threading.Thread] = {}

    def follow(self, deploy: Mapping[str, Any]) -> None:
        """Those that are not followed yet."""
        for gate in deploy["gates"]:
            if gate["gate"] == "before_deploy" and gate["run_id"] and gate["job_id"] not in self._following:
                self._narrator.progress(f"{gate['run_id']} is job {gate['job']}, which must succeed first")
                thread = threading.Thread(target=self._follow, args=(gate["run_id"],), daemon=True)
                self._following[gate["job_id"]] = thread
                thread.start()

    def finish(self, deploy: Mapping[str, Any]) -> None:
        """The last of the output of those that ended; one that goes on beside a failed one is left."""
        for gate in deploy["gates"]:
            if (thread := self._following.get(gate["job_id"])) is None:
                continue
            if gate["status"] in {"queued", "starting", "running"}:
                self._narrator.progress(f"job {gate['job']} goes on: `oneoff attach {gate['run_id']}` shows it")
                continue
            while thread.is_alive():
                thread.join(0.2)  # so that signals are taken meanwhile

    def _follow(self, run_id: str) -> None:
        from oneoff.cli.running import follow_attempts

        try:
            run = self._session.client.get(f"/runs/{run_id}").value
            follow_attempts(self._session, run, self._narrator, to_stderr=self._as_json)
        except (CliError, OSError) as problem:
            self._narrator.warn(f"the output of {run_id} cannot be shown: {problem}")


def _wait(session: Session, answer: Answer, gates: _Gates, narrator: Narrator) -> Answer:
    """The answer about the ended deploy; rides over lost connections as `run` does."""
    from oneoff.cli.watching import Watch

    told, watch = "", Watch(session.client, narrator.progress, "the deploy")
    while True:
        gates.follow(answer.value)
        if answer.value["status"] in _SUCCESSFUL | _FAILED:
            gates.finish(answer.value)
            return answer
        if (line := _describe(answer.value)) != told:
            told = line
            watch.hurry()
            narrator.progress(line)
        watch.pause()
        answer = watch.look(f"/deploys/{answer.value['id']}")


def _describe(deploy: Mapping[str, Any]) -> str:
    words = f"{deploy['id']} {deploy['status'].replace('_', ' ')}"
    return f"{words}: {deploy['message']}" if deploy["message"] else words


def _tell_end(answer: Answer, service: Mapping[str, Any], narrator: Narrator, as_json: bool) -> int:
    made = answer.value
    if as_json:
        print_json(answer.text)
    warn_of(made)
    if made["status"] == "canceled":
        narrator.warn(f"{made['id']} canceled: {made['message'] or 'it did not become live'}. {_what_stays(service)}.")
        return CANCELED
    if made["status"] not in _SUCCESSFUL:
        why = made["message"] or made["status"].replace("_", " ")
        raise CliError(f"{made['id']} did not become live: {why}. {_what_stays(service)}.{_what_next(made)}")
    for gate in made["gates"]:
        if gate["gate"] == "after_deploy" and gate["run_id"]:
            narrator.progress(f"job {gate['job']} runs after it: `oneoff attach {gate['run_id']}` shows it")
    if not as_json:
        click.echo(f"{made['id']} live: {made['image']} {made['digest'] or ''}".rstrip())
    return 0


def _what_stays(service: Mapping[str, Any]) -> str:
    return f"{service['image']} stays live" if service["image"] else "The service has no live image yet"


def _what_next(made: Mapping[str, Any]) -> str:
    failed = [gate["run_id"] for gate in made["gates"] if gate["status"] == "failed" and gate["run_id"]]
    if not failed:
        return ""
    return f" `oneoff logs {failed[0]}` shows what it said; mend it, then deploy again"


def _say_how_to_return(narrator: Narrator, deploy_id: str | None, path: str) -> None:
    if deploy_id is None:
        narrator.warn(f"left before the server had answered; `oneoff deploys list {path}` shows whether it was made")
    else:
        narrator.warn(
            f"{deploy_id} goes on; see it with `oneoff deploys show {deploy_id}`, "
            f"end it with `oneoff deploys cancel {deploy_id}`"
        )
