"""`oneoff apply`: jobs and crons from a file in the app's repository."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from oneoff.cli.problems import ApiRefused, CliError
from oneoff.cli.results import json_option, print_json
from oneoff.cli.session import Session, pass_session

if TYPE_CHECKING:
    from oneoff.cli.client import Answer
    from oneoff.cli.job_file import ReadFile

_PENDING = 2
_MARKS = {"create": "+", "update": "~", "adopt": "~", "delete": "-", "leave": "?"}
_DURATIONS = "_seconds"


@click.command(short_help="Make and change jobs and crons from a file.")
@click.argument("file", metavar="FILE")
@click.option("--service", metavar="PATH", help="Instead of the file's own service: for another environment.")
@click.option("--dry-run", is_flag=True, help="Only show the plan.")
@click.option("--exit-code", is_flag=True, help="With --dry-run: exit 2 when there is something to change.")
@click.option("--prune", is_flag=True, help="Delete jobs and crons that this file made and names no longer.")
@click.option("--adopt", is_flag=True, help="Take over jobs and crons that a person or another file made.")
@click.option("--yes", is_flag=True, help="Do not ask before something is deleted.")
@json_option
@pass_session
def apply(session: Session, /, file: str, service: str | None, as_json: bool, **how: Any) -> int:
    """Make the jobs, crons and group limits that FILE names, and change those there are to be as it says: all of it or
    nothing. Shows the plan first; a second time there is nothing to change. - is standard input.

    Jobs and crons that somebody else made are not touched, and those that FILE names no longer only with --prune.
    """
    if how["exit_code"] and not how["dry_run"]:
        raise click.UsageError("--exit-code goes with --dry-run")
    read = _read(file, service)
    options = {"prune": how["prune"], "adopt": how["adopt"]}
    body = {"source": "oneoff.yaml" if file == "-" else Path(file).name, **read.body, **options}
    seen = _send(session, read, file, body | {"dry_run": True})
    if as_json and how["dry_run"]:
        print_json(seen.text)
    elif not as_json:
        _print_plan(seen.value)
    if how["dry_run"] or not seen.value["changes"]:
        if as_json and not how["dry_run"]:
            print_json(seen.text)
        return _PENDING if how["exit_code"] and seen.value["changes"] else 0
    _confirm(seen.value, yes=how["yes"])
    done = _send(session, read, file, body | {"expected": seen.value["digest"]})
    print_json(done.text) if as_json else click.echo(f"applied: {_count(done.value)}")
    return 0


def _read(file: str, service: str | None) -> ReadFile:
    from oneoff.cli.job_file import read_job_file

    try:
        raw = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        return read_job_file(raw.decode(), service, os.environ)
    except OSError as problem:
        raise CliError(f"{file} cannot be read: {problem.strerror}") from problem
    except UnicodeDecodeError as problem:
        line = raw[: problem.start].count(b"\n") + 1
        raise CliError(f"{file}:{line}: this is not UTF-8") from problem


def _send(session: Session, read: ReadFile, file: str, body: Mapping[str, Any]) -> Answer:
    """The server's plan. Problems of form and of the rules are told together, each at its place in the file."""
    wrong = [(each.line, each.column, each.text) for each in read.problems]
    answer = None
    if body.get("service") is not None:
        try:
            answer = session.client.call("POST", "/apply", body=dict(body) | ({"dry_run": True} if wrong else {}))
        except ApiRefused as problem:
            if not problem.errors:
                raise
            wrong += [(*read.find_place(each["field"] or ""), str(each["detail"])) for each in problem.errors]
    if wrong:
        lines = [f"{file}:{line}:{column}: {text}" for line, column, text in sorted(wrong)]
        count = "a problem" if len(lines) == 1 else f"{len(lines)} problems"
        raise CliError("\n".join([f"{count} in {file}, nothing was changed", *lines]))
    assert answer is not None
    return answer


def _confirm(plan: Mapping[str, Any], *, yes: bool) -> None:
    deleted = [item for item in plan["items"] if item["action"] == "delete"]
    if not deleted or yes:
        return
    if not sys.stdin.isatty():
        raise CliError("something would be deleted and nobody can be asked: say --yes, or leave out --prune")
    click.confirm(f"Delete {len(deleted)} of them?", abort=True, err=True)


def _print_plan(plan: Mapping[str, Any]) -> None:
    notes = {"adopt": " (taken over)", "leave": " is not in the file any more: --prune deletes it"}
    for item in plan["items"]:
        if item["action"] == "keep":
            continue
        click.echo(f"{_MARKS[item['action']]} {item['kind']} {item['name']}{notes.get(item['action'], '')}")
        for change in item["changes"]:
            click.echo(f"    {_describe(change)}")
    if not plan["changes"]:
        click.echo("nothing to change")


def _describe(change: Mapping[str, Any]) -> str:
    name = change["field"].removesuffix(_DURATIONS)
    before, after = (_show(change["field"], change[side]) for side in ("before", "after"))
    return f"{name}: {after}" if change["before"] is None else f"{name}: {before} -> {after}"


def _show(field: str, value: Any) -> str:
    if value is None:
        return "(default)" if not field.startswith("variables.") else "(removed)"
    if field.endswith(_DURATIONS):
        from oneoff.core.limits import format_duration

        return format_duration(value)
    if isinstance(value, list):
        import shlex

        return shlex.join(str(each) for each in value)
    if isinstance(value, dict):
        return ", ".join(f"{name.removesuffix(_DURATIONS)} {_show(name, each)}" for name, each in value.items() if each)
    return str(value).replace("\n", "\\n")


def _count(plan: Mapping[str, Any]) -> str:
    words = {"create": "created", "update": "changed", "adopt": "taken over", "delete": "deleted", "keep": "unchanged"}
    actions = [item["action"] for item in plan["items"]]
    return ", ".join(f"{actions.count(action)} {word}" for action, word in words.items() if action in actions)
