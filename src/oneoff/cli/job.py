"""`oneoff job create|list|show|update|run|delete`. JOB is written shop/production:migrate, or as its id."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import click

from oneoff.cli.consent import ask
from oneoff.cli.exit_codes import PLATFORM_FAILED
from oneoff.cli.options import (
    Duration,
    entrypoint_option,
    group_option,
    read_retries,
    read_variables,
    reset_option,
    retry_options,
    set_group,
    time_options,
    variable_options,
    with_reset,
)
from oneoff.cli.problems import CliError
from oneoff.cli.results import (
    age,
    command_text,
    json_option,
    more_hint,
    page_options,
    print_fields,
    print_json,
    print_table,
)
from oneoff.cli.running import Style, start
from oneoff.cli.session import Session, is_service, pass_session
from oneoff.core.limits import format_duration

if TYPE_CHECKING:
    from oneoff.cli.client import Answer

_JOB_ID = re.compile(r"jdf-[0-9a-z]{20}")
_GATES = {"before-deploy": "before_deploy", "after-deploy": "after_deploy", "none": None}
_RESETTABLE = {
    "timeout": "timeout_seconds",
    "instance-type": "instance_type",
    "entrypoint": "entrypoint",
    "retries": "retries",
    "retention": "retention",
    "group": "concurrency_group",
    "end-by": "must_end_by",
    "warn": "warn_seconds",
}
_HINT = "write PATH:NAME, for example shop/production:migrate"


@click.group(short_help="Saved jobs: commands with a name.")
def job() -> None:
    """Saved jobs: a command of a service with a name and limits. JOB is PATH:NAME, such as shop/production:migrate;
    its id; or NAME alone when only one service has a job of that name."""


def _shared_options(command: Any) -> Any:
    for option in (
        time_options,
        click.option(
            "--gate",
            type=click.Choice([*_GATES]),
            help="Run it with each deploy, in the new image, which goes live only when those before it succeeded.",
        ),
        group_option,
        click.option("--keep-days", type=click.IntRange(1), metavar="N", help="Days its ended runs are kept."),
        click.option("--keep-runs", type=click.IntRange(1), metavar="N", help="Ended runs that are kept."),
        retry_options,
        entrypoint_option,
        click.option("--shell", metavar="TEXT", help="Run TEXT under /bin/sh -c instead of a COMMAND."),
        click.option("--timeout", type=Duration(), metavar="10m", help="Time limit of each run."),
        click.option("--instance-type", metavar="ID", help="CPU and memory; by default the service's."),
        variable_options,
    ):
        command = option(command)
    return command


@job.command("create")
@click.argument("name", metavar="JOB")
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="-- COMMAND [ARG]...")
@_shared_options
@json_option
@pass_session
def create(session: Session, /, name: str, as_json: bool, **options: Any) -> None:
    """Save COMMAND under the name JOB (PATH:NAME). Nothing runs yet."""
    path, colon, own_name = name.rpartition(":")
    if not colon:
        raise click.UsageError(f"{name!r} does not say of which service: {_HINT}")
    settings = _settings(session, **options)
    if "command" not in settings and "shell" not in settings:
        raise click.UsageError("the command is empty: write it after --, or as --shell TEXT")
    body = {"service": session.find_service(path)["id"], "name": own_name, **settings}
    answer = session.client.create("/jobs", body)
    if as_json:
        print_json(answer.text)
        return
    made = answer.value
    click.echo(f"{made['id']} {_path_of(made)} made; next: oneoff job run {_path_of(made)}")


@job.command("update")
@click.argument("name", metavar="JOB")
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="[-- COMMAND [ARG]...]")
@_shared_options
@click.option("--unset", "unset", multiple=True, metavar="KEY", help="Remove a variable of the job.")
@reset_option(_RESETTABLE)
@json_option
@pass_session
def update(
    session: Session, /, name: str, as_json: bool, unset: tuple[str, ...], reset: tuple[str, ...], **options: Any
) -> None:
    """Change what is given and nothing else. Runs that were accepted keep what they were made with. --reset retention
    keeps as much as the plan does."""
    changes = with_reset(_settings(session, **options), reset, _RESETTABLE)
    if changes.get("retention") and len(changes["retention"]) == 1:
        changes["retention"] = (find_job(session, name)["retention"] or {}) | changes["retention"]
    if unset:
        changes["variables"] = changes.get("variables", {}) | dict.fromkeys(unset)
    if not changes:
        raise click.UsageError("nothing to change: give a COMMAND after --, or an option such as --timeout")
    answer = session.client.call("PATCH", f"/jobs/{find_job(session, name)['id']}", body=changes)
    _print_job(answer, as_json)


@job.command("list")
@click.argument("path", required=False)
@page_options(100)
@json_option
@pass_session
def list_jobs(session: Session, /, path: str | None, as_json: bool, **query: Any) -> None:
    """List the jobs of the service PATH, or all."""
    service = session.find_service(path)["id"] if path else None
    answer = session.client.get("/jobs", service=service, **query)
    if as_json:
        print_json(answer.text)
        return
    rows = [
        (each["id"], _path_of(each), _limit(each), each["instance_type"], age(each["created_at"]), command_text(each))
        for each in answer.value["items"]
    ]
    empty = "no jobs yet: `oneoff job create shop/production:migrate -- COMMAND` saves one"
    print_table(("ID", "JOB", "LIMIT", "INSTANCE TYPE", "AGE", "COMMAND"), rows, empty)
    more_hint(answer.value)


@job.command("show")
@click.argument("name", metavar="JOB")
@json_option
@pass_session
def show(session: Session, name: str, as_json: bool) -> None:
    """Show one job."""
    _print_job(session.client.get(f"/jobs/{find_job(session, name)['id']}"), as_json)


@job.command("run", short_help="Run a job now, and wait for it.")
@click.argument("name", metavar="JOB")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[-- ARG...]")
@variable_options
@click.option("--instance-type", metavar="ID", help="CPU and memory; by default the job's.")
@click.option("--timeout", type=Duration(), metavar="10m", help="Time limit: 90s, 10m, 1h30m, 30d.")
@click.option("-d", "--detach", is_flag=True, help="Print the run's id and do not wait.")
@click.option("-q", "--quiet", is_flag=True, help="No progress on stderr.")
@json_option
@pass_session
def run(session: Session, /, name: str, detach: bool, quiet: bool, as_json: bool, **options: Any) -> int:
    """Run JOB now, with more arguments behind its own where some are given; follow it, and exit with its exit code, as
    `oneoff run` does."""
    session.failure_code = PLATFORM_FAILED
    overrides = {
        "arguments": list(options["arguments"]) or None,
        "variables": read_variables(options["assignments"], options["env_file"]) or None,
        "instance_type": options["instance_type"],
        "timeout_seconds": options["timeout"],
    }
    body = {field: value for field, value in overrides.items() if value is not None}

    def find_and_create(is_wanted: Callable[[], bool]) -> Answer | None:
        found = find_job(session, name)
        return session.client.create(f"/jobs/{found['id']}/runs", body) if is_wanted() else None

    return start(session, find_and_create, Style(name.rpartition(":")[0], detach, quiet, as_json))


@job.command("delete")
@click.argument("name", metavar="JOB")
@click.option("--with-crons", is_flag=True, help="Its crons go with it.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@pass_session
def delete(session: Session, name: str, with_crons: bool, yes: bool) -> None:
    """Delete the job. Its runs go on and stay in the history."""
    found = find_job(session, name)
    ask(f"Delete {_path_of(found)} ({found['id']})?", yes=yes)
    query = {"with_crons": "true" if with_crons else None}
    session.client.call("DELETE", f"/jobs/{found['id']}", query=query)
    click.echo(f"{found['id']} {_path_of(found)} deleted")


def find_job(session: Session, text: str) -> dict[str, Any]:
    """The Job of an id, of PATH:NAME, or of a NAME that only one service has. Raises CliError when there is none."""
    if _JOB_ID.fullmatch(text):
        found: dict[str, Any] = session.client.get(f"/jobs/{text}").value
        return found
    if is_service(text):
        raise CliError(f"{text!r} is a service and no job: {_HINT}; `oneoff job list {text}` shows those it has")
    path, _, name = text.rpartition(":")
    service = session.find_service(path)["id"] if path else None
    items: list[dict[str, Any]] = session.client.get("/jobs", service=service, name=name).value["items"]
    if not items:
        raise CliError(f"there is no job {text!r}: `oneoff job list` shows those there are")
    if len(items) > 1:
        raise CliError(f"{text!r} is a job of more than one service: {' or '.join(_path_of(each) for each in items)}")
    return items[0]


def _settings(
    session: Session,
    command: tuple[str, ...],
    shell: str | None,
    assignments: tuple[str, ...],
    env_file: tuple[str, ...],
    **more: Any,
) -> dict[str, Any]:
    """Those that were given, as the API takes them."""
    if shell is not None and command:
        raise click.UsageError("give either --shell or a COMMAND after --, not both")
    settings = {
        "command": list(command) or None,
        "shell": shell,
        "variables": read_variables(assignments, env_file) or None,
        "timeout_seconds": more["timeout"],
        "instance_type": more["instance_type"],
        "entrypoint": more["entrypoint"],
        "retries": read_retries(more),
        "retention": _retention(more["keep_runs"], more["keep_days"]),
        "must_end_by": more["end_by"],
        "warn_seconds": more["warn"],
        "concurrency_group": set_group(session, more["group"]),
    }
    given = {name: value for name, value in settings.items() if value is not None}
    return given if more["gate"] is None else given | {"gate": _GATES[more["gate"]]}


def _retention(runs: int | None, days: int | None) -> dict[str, int] | None:
    given = {"runs": runs, "days": days}
    return {name: value for name, value in given.items() if value is not None} or None


def _told(name: str, value: object) -> str:
    return f"{name.replace('_', ' ')}: {' '.join(map(str, value)) if isinstance(value, list) else value}"


def _path_of(found: Mapping[str, Any]) -> str:
    return f"{found['service']}:{found['name']}"


def _limit(found: Mapping[str, Any]) -> str:
    return "" if found["timeout_seconds"] is None else format_duration(found["timeout_seconds"])


def _print_job(answer: Answer, as_json: bool) -> None:
    if as_json:
        print_json(answer.text)
        return
    fields = dict(answer.value)
    fields["command"] = command_text(fields)
    del fields["shell"]
    fields["variables"] = " ".join(sorted(fields["variables"]))
    for each in ("retries", "retention"):
        if fields[each] is not None:
            fields[each] = ", ".join(_told(name, value) for name, value in fields[each].items() if value)
    if isinstance(fields["entrypoint"], list):
        fields["entrypoint"] = " ".join(fields["entrypoint"])
    print_fields(fields)
