"""`oneoff cron create|list|show|update|preview|pause|resume|ticks|delete`. CRON is an id, JOB:CRON, or JOB for its only
cron."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from oneoff.cli.consent import ask
from oneoff.cli.job import find_job
from oneoff.cli.options import SCHEDULE, Duration, reset_option, with_reset
from oneoff.cli.problems import CliError
from oneoff.cli.results import json_option, more_hint, page_options, print_fields, print_json, print_table
from oneoff.cli.session import Session, pass_session
from oneoff.core.limits import format_duration

if TYPE_CHECKING:
    from oneoff.cli.client import Answer

_CRON_ID = re.compile(r"cron-[0-9a-z]{20}")
_MOST_TOLD = 5
_SUCH_AS = 'Such as "30 2 * * MON-FRI".'
_OUTCOMES = [
    *("fired", "skipped_overlap", "queued", "replaced", "missed", "paused", "suspended"),
    *("held_by_deploy", "blocked_by_plan", "no_live_image", "refused"),
]
_RESETTABLE = {
    "zone": "time_zone",
    "dst": "dst_policy",
    "overlap": "overlap",
    "catch-up": "catch_up",
    "catch-up-window": "catch_up_window_seconds",
    "jitter": "jitter_seconds",
    "starts": "starts_at",
    "ends": "ends_at",
    "alert-after": "alert_after_ticks",
}
_MARKS = {
    "after_gap": "right after the gap of a clock change",
    "first_of_two": "the clock shows this time twice: the first",
    "second_of_two": "the clock shows this time twice: the second",
    "skipped_in_gap": "left out by a clock change: does not fire",
}


@click.group(short_help="Crons: jobs that run by the clock.")
def cron() -> None:
    """Crons fire a job by the clock. CRON is an id, or its job (shop/production:backup) when that has one cron, or
    both: shop/production:backup:nightly."""


def _timing_options(command: Any) -> Any:
    for option in (
        click.option(
            "--dst",
            "dst_policy",
            type=click.Choice(["debian", "skip", "every"]),
            help="What a change of the clocks does: debian fires a time in the gap right after it and a repeated one "
            "once, skip neither in the gap nor twice, every each time. [default: debian]",
        ),
        click.option(
            "--zone", "time_zone", metavar="ZONE", help="IANA time zone, such as Europe/Berlin. [default: UTC]"
        ),
    ):
        command = option(command)
    return command


def _shared_options(command: Any) -> Any:
    for option in (
        click.option(
            "--alert-after", "alert_after_ticks", type=click.IntRange(min=1), metavar="N",
            help="Raise an event when N ticks went by without a success.",
        ),
        click.option(
            "--hold-during-deploy/--fire-during-deploy", "hold_during_deploy", default=None,
            help="Wait while a deploy of the service is going.",
        ),
        click.option("--ends", "ends_at", metavar="TIME", help="No instants from then on: 2026-12-31T00:00:00Z."),
        click.option("--starts", "starts_at", metavar="TIME", help="No instants before: 2026-01-01T00:00:00Z."),
        click.option(
            "--jitter", "jitter_seconds", type=Duration(), metavar="1m", help="Fire up to so much later."
        ),
        click.option(
            "--catch-up-window", "catch_up_window_seconds", type=Duration(), metavar="1d",
            help="Nothing older is caught up. [default: 1d]",
        ),
        click.option(
            "--catch-up", type=click.Choice(["none", "latest", "all"]),
            help="What to do after a downtime about ticks that were missed. [default: latest]",
        ),
        click.option(
            "--overlap", type=click.Choice(["skip", "allow", "queue", "replace"]),
            help="When it is due while the job is going. [default: skip]",
        ),
        _timing_options,
    ):  # fmt: skip
        command = option(command)
    return command


@cron.command("create")
@click.argument("job_name", metavar="JOB")
@click.option("--schedule", "expression", metavar="EXPRESSION", type=SCHEDULE, required=True, help=_SUCH_AS)
@click.option("--name", metavar="NAME", help="Unique in its job. [default: schedule]")
@_shared_options
@json_option
@pass_session
def create(session: Session, /, job_name: str, as_json: bool, **options: Any) -> None:
    """Fire JOB by the clock. A job may have several crons."""
    body = {"job": find_job(session, job_name)["id"], **_given(options)}
    answer = session.client.create("/crons", body)
    if as_json:
        print_json(answer.text)
        return
    made = answer.value
    click.echo(f"{made['id']} {made['job']}:{made['name']} made: {_sentence(made)}")
    if made["next"]:
        click.echo(f"next: {_instant(made['next'][0], made['time_zone'])}")


@cron.command("update")
@click.argument("name", metavar="CRON")
@click.option("--schedule", "expression", metavar="EXPRESSION", help=_SUCH_AS)
@click.option("--rename", "new_name", metavar="NAME", help="Another name, unique in its job.")
@_shared_options
@reset_option(_RESETTABLE)
@json_option
@pass_session
def update(
    session: Session, /, name: str, as_json: bool, new_name: str | None, reset: tuple[str, ...], **options: Any
) -> None:
    """Change what is given and nothing else; it counts from now on."""
    changes = with_reset(_given({**options, "name": new_name}), reset, _RESETTABLE)
    if not changes:
        raise click.UsageError("nothing to change: give an option, for example --schedule or --zone")
    answer = session.client.call("PATCH", f"/crons/{find_cron(session, name)['id']}", body=changes)
    _print_cron(answer, as_json)


@cron.command("list")
@click.argument("path", required=False)
@page_options(100)
@json_option
@pass_session
def list_crons(session: Session, /, path: str | None, as_json: bool, **query: Any) -> None:
    """List the crons of the service PATH, or all."""
    service = session.find_service(path)["id"] if path else None
    answer = session.client.get("/crons", service=service, **query)
    if as_json:
        print_json(answer.text)
        return
    rows = [
        (
            each["id"],
            f"{each['job']}:{each['name']}",
            each["expression"],
            each["time_zone"],
            each["dst_policy"],
            each["overlap"],
            _state(each),
            _local(each["next"][0]) if each["next"] else "never",
        )
        for each in answer.value["items"]
    ]
    empty = 'no crons yet: `oneoff cron create shop/production:JOB --schedule "30 2 * * *"` makes one'
    print_table(("ID", "CRON", "SCHEDULE", "ZONE", "CLOCKS", "OVERLAP", "STATE", "NEXT"), rows, empty)
    more_hint(answer.value)


@cron.command("show")
@click.argument("name", metavar="CRON")
@json_option
@pass_session
def show(session: Session, name: str, as_json: bool) -> None:
    """Show one cron with its next instants, in its time zone and in UTC."""
    _print_cron(session.client.get(f"/crons/{find_cron(session, name)['id']}"), as_json)


@cron.command("preview")
@click.argument("expression")
@_timing_options
@click.option("--count", type=click.IntRange(1, 100), default=10, show_default=True, help="So many instants.")
@json_option
@pass_session
def preview(session: Session, /, expression: str, as_json: bool, **options: Any) -> None:
    """Show when EXPRESSION would fire. Nothing is saved."""
    answer = session.client.call("POST", "/crons/preview", body={"expression": expression, **_given(options)})
    if as_json:
        print_json(answer.text)
        return
    told = answer.value
    click.echo(_sentence(told))
    for each in told["items"]:
        click.echo(_instant(each, told["time_zone"]))


@cron.command("pause")
@click.argument("name", metavar="[CRON]", required=False)
@click.option("--environment", metavar="PATH", help="All crons of project/environment instead of one.")
@click.option("--all", "everything", is_flag=True, help="All crons of the workspace.")
@pass_session
def pause(session: Session, name: str | None, environment: str | None, everything: bool) -> None:
    """Fire no more until it is resumed. Ticks are recorded as paused; the job may be run by hand."""
    _set_paused(session, "pause", name, environment, everything)


@cron.command("resume")
@click.argument("name", metavar="[CRON]", required=False)
@click.option("--environment", metavar="PATH", help="All crons of project/environment instead of one.")
@click.option("--all", "everything", is_flag=True, help="All crons of the workspace.")
@pass_session
def resume(session: Session, name: str | None, environment: str | None, everything: bool) -> None:
    """Fire again from now on. What was due during the pause is not caught up."""
    _set_paused(session, "resume", name, environment, everything)


@cron.command("ticks")
@click.argument("name", metavar="CRON")
@click.option("--outcome", type=click.Choice(_OUTCOMES), help="Only those with this outcome.")
@page_options(20)
@json_option
@pass_session
def ticks(session: Session, /, name: str, as_json: bool, **query: Any) -> None:
    """List what became of each due instant, newest first. An id works for a deleted cron too."""
    cron_id = name if _CRON_ID.fullmatch(name) else find_cron(session, name)["id"]
    answer = session.client.get(f"/crons/{cron_id}/ticks", **query)
    if as_json:
        print_json(answer.text)
        return
    rows = [
        (
            each["due_at"],
            each["outcome"],
            each["run_id"] or (f"{each['count']} until {each['until']}" if each["count"] > 1 else ""),
            each["message"],
        )
        for each in answer.value["items"]
    ]
    print_table(("DUE", "OUTCOME", "RUN", "WHY"), rows, "no ticks yet")
    more_hint(answer.value)


@cron.command("delete")
@click.argument("name", metavar="CRON")
@click.option("--yes", is_flag=True, help="Do not ask.")
@pass_session
def delete(session: Session, name: str, yes: bool) -> None:
    """Delete the cron. Its job, its runs and its ticks stay."""
    found = find_cron(session, name)
    ask(f"Delete {found['job']}:{found['name']} ({found['id']})?", yes=yes)
    session.client.call("DELETE", f"/crons/{found['id']}")
    click.echo(f"{found['id']} {found['job']}:{found['name']} deleted")


def find_cron(session: Session, text: str) -> dict[str, Any]:
    """The Cron of an id, of JOB:CRON, or of a job that has one. Raises CliError when there is none, or several."""
    if _CRON_ID.fullmatch(text):
        found: dict[str, Any] = session.client.get(f"/crons/{text}").value
        return found
    # PATH:JOB has one colon, too.
    has_cron = text.count(":") > 1 or (":" in text and "/" not in text)
    job_name, name = text.rsplit(":", 1) if has_cron else (text, None)
    job = find_job(session, job_name)
    items = [each for each in session.client.items("/crons", job=job["id"]) if name in (None, each["name"])]
    if len(items) == 1:
        return items[0]
    if not items:
        raise CliError(f"there is no cron {text!r}: `oneoff cron list` shows those there are")
    raise CliError(f"{text!r} has several crons: {' or '.join(each['job'] + ':' + each['name'] for each in items)}")


def _tell_still_paused(session: Session, below: str) -> None:
    """A pause of the workspace, of the environment and of the cron are three."""
    crons = session.client.items("/crons")
    left = [each for each in crons if each["paused_by"] and each["job"].startswith(below)]
    for each in left[:_MOST_TOLD]:
        why = "itself" if each["paused_by"] == "cron" else f"with its {each['paused_by']}"
        click.echo(f"{each['job']}:{each['name']} is still paused, {why}", err=True)
    if len(left) > _MOST_TOLD:
        click.echo(f"and {len(left) - _MOST_TOLD} more: `oneoff cron list`", err=True)


def _set_paused(session: Session, verb: str, name: str | None, environment: str | None, everything: bool) -> None:
    if sum((name is not None, environment is not None, everything)) != 1:
        raise click.UsageError("say which: a CRON, --environment PATH, or --all")
    state = "paused" if verb == "pause" else "resumed"
    if everything:
        session.client.call("POST", f"/workspace/{verb}")
        click.echo(f"all crons {state}")
        if verb == "resume":
            _tell_still_paused(session, "")
    elif environment is not None:
        items = session.client.get("/environments", path=environment).value["items"]
        if not items:
            raise CliError(f"there is no environment {environment!r}: `oneoff project list` shows them")
        session.client.call("POST", f"/environments/{items[0]['id']}/{verb}")
        click.echo(f"all crons of {environment} {state}")
        if verb == "resume":
            _tell_still_paused(session, f"{environment}/")
    else:
        assert name is not None
        found = session.client.call("POST", f"/crons/{find_cron(session, name)['id']}/{verb}").value
        click.echo(f"{found['id']} {found['job']}:{found['name']} {state}")
        if found["paused_by"] and verb == "resume":
            click.echo(f"its {found['paused_by']} is still paused, so it does not fire", err=True)


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _print_cron(answer: Answer, as_json: bool) -> None:
    if as_json:
        print_json(answer.text)
        return
    fields = dict(answer.value)
    coming = fields.pop("next")
    for name in ("catch_up_window_seconds", "jitter_seconds"):
        fields[name.removesuffix("_seconds")] = format_duration(fields.pop(name)) if fields[name] else None
    print_fields(fields)
    if not coming:
        click.echo("next: never, it is over")
    for number, each in enumerate(coming):
        click.echo(f"{'next:' if number == 0 else '     '} {_instant(each, answer.value['time_zone'])}")


def _sentence(told: Mapping[str, Any]) -> str:
    return f"{told['description']}, {told['time_zone']}; clock changes: {told['dst_policy']}"


def _state(each: Mapping[str, Any]) -> str:
    if each["paused_by"]:
        return "paused" if each["paused_by"] == "cron" else f"paused ({each['paused_by']})"
    return "over" if not each["next"] else "overdue" if each["alerted_at"] else ""


def _local(instant: Mapping[str, Any]) -> str:
    return f"{datetime.fromisoformat(instant['local']):%Y-%m-%d %H:%M}"


def _instant(each: Mapping[str, Any], zone: str) -> str:
    utc = "-" if each["utc"] is None else f"{datetime.fromisoformat(each['utc']):%Y-%m-%d %H:%M} UTC"
    mark = f"  ({_MARKS[each['mark']]})" if each["mark"] else ""
    return f"{_local(each)} {zone}  {utc}{mark}"
