"""`oneoff run`, `attach` and `wait`: start a run or take up one that is going, and exit with its command's code."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from oneoff.cli.canceling import Canceller
from oneoff.cli.exit_codes import CANCELED, FINAL, PLATFORM_FAILED, describe_end, exit_code_of
from oneoff.cli.ids import Id
from oneoff.cli.options import (
    Duration,
    entrypoint_option,
    group_option,
    read_retries,
    read_variables,
    retry_options,
    set_group,
    time_options,
    variable_options,
)
from oneoff.cli.problems import CliError, Interrupted
from oneoff.cli.results import json_option, print_json
from oneoff.cli.session import Session, pass_session
from oneoff.cli.signals import interrupts
from oneoff.cli.streams import Narrator, Output

if TYPE_CHECKING:
    from oneoff.cli.client import Answer

_USAGE_HINT = "write it after --, for example: oneoff run shop/production -- python manage.py migrate"


@click.command(short_help="Run a command in a service's live image, and wait for it.")
@click.argument("path")
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="-- COMMAND [ARG]...")
@variable_options
@click.option("--instance-type", metavar="ID", help="CPU and memory; by default the service's.")
@click.option("--timeout", type=Duration(), metavar="10m", help="Time limit: 90s, 10m, 1h30m, 30d.")
@click.option("--shell", metavar="TEXT", help="Run TEXT under /bin/sh -c instead of a COMMAND.")
@entrypoint_option
@retry_options
@group_option
@time_options
@click.option("-d", "--detach", is_flag=True, help="Print the run's id and do not wait.")
@click.option("-q", "--quiet", is_flag=True, help="No progress on stderr.")
@json_option
@pass_session
def run(session: Session, /, path: str, detach: bool, quiet: bool, as_json: bool, **options: Any) -> int:
    """Run COMMAND to completion in a fresh container of the live image of PATH, and exit with its exit code.

    Its stdout and stderr become this command's; progress goes to stderr. Ctrl-C or TERM cancels the run; a second one
    leaves it going. A closed terminal or a lost connection never cancels it. With --json the output goes to stderr,
    and the ended Run to stdout.
    """
    session.failure_code = PLATFORM_FAILED
    group = options.pop("group")
    body = _body(**options)

    def find_and_create(is_wanted: Callable[[], bool]) -> Answer | None:
        service = session.find_service(path)
        if group is not None:
            body["concurrency_group"] = set_group(session, group)
        return session.client.create(f"/services/{service['id']}/runs", body) if is_wanted() else None

    return start(session, find_and_create, Style(path, detach, quiet, as_json))


@dataclass(frozen=True, slots=True)
class Style:
    """How a run that is started here is told about. `path` names its service, where that is known."""

    path: str
    detach: bool
    quiet: bool
    as_json: bool


def start(session: Session, create: Callable[[Callable[[], bool]], Answer | None], style: Style) -> int:
    """Create a run and see it to its end, as `oneoff run` does. `create` gives up, with None, when it finds that the
    run is not wanted any more. Returns the exit code."""
    session.failure_code = PLATFORM_FAILED
    narrator = Narrator(quiet=style.quiet)
    if style.detach:
        answer = create(lambda: True)
        assert answer is not None
        print_json(answer.text) if style.as_json else click.echo(answer.value["id"])
        return 0
    canceller = Canceller(session, narrator, "run")
    try:
        with interrupts(canceller.request):
            if (answer := create(lambda: not canceller.requested)) is None:
                return CANCELED
            created = answer.value
            canceller.know(created["id"])
            try:
                return follow_run(session, created, narrator, style.as_json, canceller.know)
            except OSError as problem:
                _say_how_to_return(narrator, created["id"], style.path)
                raise CliError(f"the output cannot be written: {problem.strerror}") from problem
    except Interrupted as leaving:
        _say_how_to_return(narrator, canceller.known_id, style.path)
        if canceller.requested:
            return CANCELED
        return leaving.exit_code


@click.command(short_help="Follow a run from its first byte to its end.")
@click.argument("run_id", metavar="RUN", type=Id("run"))
@click.option("-q", "--quiet", is_flag=True, help="No progress on stderr.")
@json_option
@pass_session
def attach(session: Session, run_id: str, quiet: bool, as_json: bool) -> int:
    """Print the whole output of RUN, from its first byte, and exit with its exit code, as `oneoff run` does. The
    attempts that follow it, where it is retried, are followed too.

    Ctrl-C only leaves. With --json the output goes to stderr, and the ended Run to stdout.
    """
    session.failure_code = PLATFORM_FAILED
    with interrupts():
        return follow_run(session, session.client.get(f"/runs/{run_id}").value, Narrator(quiet=quiet), as_json)


@click.command(short_help="Wait for the end of a run, without its output.")
@click.argument("run_id", metavar="RUN", type=Id("run"))
@click.option("-q", "--quiet", is_flag=True, help="No progress on stderr.")
@json_option
@pass_session
def wait(session: Session, run_id: str, quiet: bool, as_json: bool) -> int:
    """Wait until RUN has ended and exit with its exit code, as `oneoff run` does. Ctrl-C only leaves."""
    from oneoff.cli.watching import Watch

    session.failure_code = PLATFORM_FAILED
    narrator = Narrator(quiet=quiet)
    watch = Watch(session.client, narrator.progress, "the run")
    with interrupts():
        answer = session.client.get(f"/runs/{run_id}")
        while answer.value["status"] not in FINAL or answer.value.get("retried_by"):
            run_id = answer.value.get("retried_by") or run_id
            watch.pause()
            answer = watch.look(f"/runs/{run_id}")
    if as_json:
        print_json(answer.text)
    narrator.progress(f"{run_id} {describe_end(answer.value)}")
    return exit_code_of(answer.value)


def _body(
    command: tuple[str, ...], shell: str | None, assignments: tuple[str, ...], env_file: tuple[str, ...], **limits: Any
) -> dict[str, Any]:
    """What is posted. Raises a usage error for what no server needs to see."""
    if shell is not None and command:
        raise click.UsageError("give either --shell or a COMMAND after --, not both")
    if (shell is None and not (command and command[0])) or (shell is not None and not shell.strip()):
        raise click.UsageError(f"the command is empty: {_USAGE_HINT}")
    variables = read_variables(assignments, env_file)
    body: dict[str, Any] = {"shell": shell} if shell is not None else {"command": list(command)}
    optional = {
        "variables": variables or None,
        "instance_type": limits["instance_type"],
        "timeout_seconds": limits["timeout"],
        "entrypoint": limits["entrypoint"],
        "retries": read_retries(limits),
        "must_end_by": limits["end_by"],
        "warn_seconds": limits["warn"],
    }
    return body | {name: value for name, value in optional.items() if value is not None}


def follow_run(
    session: Session, run: dict[str, Any], narrator: Narrator, as_json: bool, know: Callable[[str], None] | None = None
) -> int:
    """To the end of its last attempt; `know` is told the id of each that follows. Returns the exit code."""
    ended, body = follow_attempts(session, run, narrator, as_json, know)
    if as_json:
        print_json(body)
    return exit_code_of(ended)


def follow_attempts(
    session: Session,
    run: dict[str, Any],
    narrator: Narrator,
    to_stderr: bool,
    know: Callable[[str], None] | None = None,
) -> tuple[Mapping[str, Any], str]:
    """`follow_run` without its own words: the ended Run of the last attempt, and its body as it came."""
    from oneoff.cli.follow import Follower

    while True:
        follower = Follower(session.client, run["id"], Output(to_stderr=to_stderr), narrator)
        follower.tell(run)
        ended = follower.follow()
        narrator.progress(f"{ended['id']} {describe_end(ended)}")
        if (retry_id := _next_attempt(ended, narrator)) is None:
            return ended, follower.end_body
        if know is not None:
            know(retry_id)
        run = session.client.get(f"/runs/{retry_id}").value


def _next_attempt(ended: Mapping[str, Any], narrator: Narrator) -> str | None:
    retry_id: str | None = ended.get("retried_by")
    if retry_id is not None:
        narrator.progress(f"attempt {ended['attempt'] + 1} is {retry_id}")
    return retry_id


def _say_how_to_return(narrator: Narrator, run_id: str | None, path: str) -> None:
    if run_id is None:
        shows = f"oneoff runs list {path}".rstrip()
        narrator.warn(f"left before the server had answered; `{shows}` shows whether the run was made")
    else:
        narrator.warn(f"{run_id} goes on; see it with `oneoff attach {run_id}`, end it with `oneoff cancel {run_id}`")
