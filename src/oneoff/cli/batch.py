"""`oneoff batch create|list|show|items|attach|wait|cancel|rerun-failed`: one command with many arguments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import click

from oneoff.cli.batch_following import follow_batch, start_batch
from oneoff.cli.batch_items import JSON, LINES, check_item, read_items
from oneoff.cli.exit_codes import PLATFORM_FAILED
from oneoff.cli.ids import Id
from oneoff.cli.job import find_job
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
from oneoff.cli.session import Session, is_service, pass_session
from oneoff.cli.signals import interrupts
from oneoff.cli.streams import Narrator
from oneoff.core.batch import DEFAULT_PARALLEL, MOST_ITEMS, MOST_PARALLEL
from oneoff.errors import OneoffError

if TYPE_CHECKING:
    from oneoff.cli.client import Answer

_STATUSES = ["running", "succeeded", "failed", "canceled"]
_ITEM_STATUSES = ["waiting", "going", "succeeded", "failed", "canceled"]
_HINT = "give --items FILE, --item TEXT (again and again), or --count N"
_ONLY_OF_A_SERVICE = ("shell", "entrypoint", "retries", "retry_on", "retry_delay", "retry_back_off", "end_by", "warn")


@click.group(short_help="Batches: one command with many arguments.")
def batch() -> None:
    """Batches: runs of one command, or of a job, with different arguments or variables, some at a time."""


def _following_options(command: Any) -> Any:
    for option in (
        json_option,
        click.option("-q", "--quiet", is_flag=True, help="No progress on stderr."),
        click.option("-d", "--detach", is_flag=True, help="Print the batch's id and do not wait."),
    ):
        command = option(command)
    return command


@batch.command("create", short_help="Run a command once for each item, and wait for all.")
@click.argument("target", metavar="PATH|JOB")
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="[-- COMMAND [ARG]...]")
@click.option("--items", "file", metavar="FILE", help="Items, one on each line; - is standard input.")
@click.option("--format", "form", type=click.Choice([LINES, JSON]), help="Of FILE; by default seen from its content.")
@click.option("--item", "texts", multiple=True, metavar="TEXT", help="An item with TEXT as its one argument.")
@click.option("--count", type=click.IntRange(1, MOST_ITEMS), help="So many items that differ only in their index.")
@click.option(
    "--max-parallel",
    type=click.IntRange(1, MOST_PARALLEL),
    default=DEFAULT_PARALLEL,
    show_default=True,
    help="At most so many items are queued or at work at once.",
)
@click.option("--stop-on-failure", is_flag=True, help="When an item has failed, start no others.")
@variable_options
@click.option("--instance-type", metavar="ID", help="CPU and memory; by default the service's or the job's.")
@click.option("--timeout", type=Duration(), metavar="10m", help="Time limit of each run.")
@click.option("--shell", metavar="TEXT", help="Run TEXT under /bin/sh -c instead of a COMMAND.")
@entrypoint_option
@retry_options
@group_option
@time_options
@_following_options
@pass_session
def create(session: Session, /, target: str, detach: bool, quiet: bool, as_json: bool, **options: Any) -> int:
    """Run COMMAND in the live image of PATH, or the JOB (PATH:NAME), once for each item, with the item's arguments
    behind its own.

    A line of FILE is one argument; a line of JSON is a text, a list of arguments, or {"arguments": [...], "variables":
    {...}}. Each run is told its ONEOFF_BATCH_INDEX, from 0, and ONEOFF_BATCH_COUNT.

    Waits, with its progress on stderr. Exits 0 when all items succeeded, 1 when some failed, 130 when it was canceled.
    Ctrl-C or TERM cancels the batch; a second one leaves it going.
    """
    session.failure_code = PLATFORM_FAILED
    items = _read_items(options.pop("file"), options.pop("form"), options.pop("texts"), options.pop("count"))
    group = options.pop("group")
    more = {"items": items, "max_parallel": options.pop("max_parallel")}
    more["stop_on_failure"] = options.pop("stop_on_failure")
    is_of_job = not is_service(target)
    body = (_job_body if is_of_job else _service_body)(group=group, **options) | more

    def find_and_create(is_wanted: Callable[[], bool]) -> Answer | None:
        if is_of_job:
            address = f"/jobs/{find_job(session, target)['id']}/batches"
        else:
            address = f"/services/{session.find_service(target)['id']}/batches"
            if group is not None:
                body["concurrency_group"] = set_group(session, group)
        return session.client.create(address, body) if is_wanted() else None

    return start_batch(session, find_and_create, detach=detach, quiet=quiet, as_json=as_json)


@batch.command("rerun-failed", short_help="Run the failed items once more, and wait for them.")
@click.argument("batch_id", metavar="BATCH", type=Id("bat"))
@click.option("--with-canceled", is_flag=True, help="Also the items that somebody canceled.")
@click.option("--live-image", is_flag=True, help="In the image that is live now, not that of BATCH.")
@_following_options
@pass_session
def rerun_failed(session: Session, /, batch_id: str, detach: bool, quiet: bool, as_json: bool, **wanted: bool) -> int:
    """A new batch of the items of BATCH that failed, or never started because another one failed: the same image,
    command, variables and limits, whatever was deployed or configured since. Items keep their index and their
    ONEOFF_BATCH_COUNT. Waits and exits as `oneoff batch create` does."""
    query = "&".join(f"{name}=true" for name, is_wanted in wanted.items() if is_wanted)
    address = f"/batches/{batch_id}/rerun-failed" + (f"?{query}" if query else "")

    def make(is_wanted: Callable[[], bool]) -> Answer | None:
        return session.client.create(address, None) if is_wanted() else None

    return start_batch(session, make, detach=detach, quiet=quiet, as_json=as_json)


@batch.command("list")
@click.argument("path", required=False)
@click.option("--job", "job_name", metavar="JOB", help="Only batches of this job.")
@click.option("--status", type=click.Choice(_STATUSES), help="Only batches with this status.")
@page_options(20)
@json_option
@pass_session
def list_batches(session: Session, /, path: str | None, job_name: str | None, as_json: bool, **query: Any) -> None:
    """List the newest batches, of the service PATH or of all."""
    service = session.find_service(path)["id"] if path else None
    job = find_job(session, job_name)["id"] if job_name else None
    answer = session.client.get("/batches", service=service, job=job, **query)
    if as_json:
        print_json(answer.text)
        return
    rows = [
        (each["id"], each["service"], each["status"], _ended(each), each["counts"]["failed"] or "",
         age(each["created_at"]), command_text(each)[:60])
        for each in answer.value["items"]
    ]  # fmt: skip
    empty = "no batches yet: `oneoff batch create shop/production --items FILE -- COMMAND` makes one"
    print_table(("ID", "SERVICE", "STATUS", "ENDED", "FAILED", "AGE", "COMMAND"), rows, empty)
    more_hint(answer.value)


@batch.command("show")
@click.argument("batch_id", metavar="BATCH", type=Id("bat"))
@json_option
@pass_session
def show(session: Session, batch_id: str, as_json: bool) -> None:
    """Show one batch, with its items counted by status."""
    answer = session.client.get(f"/batches/{batch_id}")
    if as_json:
        print_json(answer.text)
        return
    fields = dict(answer.value)
    fields["command"] = command_text(fields)
    del fields["shell"]
    counts = fields.pop("counts")
    fields["counts"] = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    print_fields(fields)


@batch.command("items")
@click.argument("batch_id", metavar="BATCH", type=Id("bat"))
@click.option("--status", type=click.Choice(_ITEM_STATUSES), help="Only items with this status.")
@page_options(50, most=200)
@json_option
@pass_session
def items(session: Session, /, batch_id: str, as_json: bool, **query: Any) -> None:
    """List the items of BATCH in their order, each with its newest run."""
    answer = session.client.get(f"/batches/{batch_id}/items", **query)
    if as_json:
        print_json(answer.text)
        return
    rows = [
        (each["index"], each["status"], each["run_id"], each["attempt"], each["exit_code"], each["reason"],
         " ".join(each["arguments"])[:60])
        for each in answer.value["items"]
    ]  # fmt: skip
    print_table(("INDEX", "STATUS", "RUN", "ATTEMPT", "EXIT", "REASON", "ARGUMENTS"), rows, "no such items")
    more_hint(answer.value)


@batch.command("attach", short_help="Follow a batch to its end.")
@click.argument("batch_id", metavar="BATCH", type=Id("bat"))
@click.option("-q", "--quiet", is_flag=True, help="No progress on stderr.")
@json_option
@pass_session
def attach(session: Session, batch_id: str, quiet: bool, as_json: bool) -> int:
    """Show the progress of BATCH until it has ended, and exit as `oneoff batch create` does. Ctrl-C only leaves."""
    session.failure_code = PLATFORM_FAILED
    with interrupts():
        return follow_batch(session, batch_id, Narrator(quiet=quiet), as_json)


@batch.command("wait", short_help="Wait for the end of a batch, without its progress.")
@click.argument("batch_id", metavar="BATCH", type=Id("bat"))
@json_option
@pass_session
def wait(session: Session, batch_id: str, as_json: bool) -> int:
    """Wait until BATCH has ended, and exit as `oneoff batch create` does. Ctrl-C only leaves."""
    session.failure_code = PLATFORM_FAILED
    with interrupts():
        return follow_batch(session, batch_id, Narrator(), as_json, is_silent=True)


@batch.command("cancel", short_help="End a batch.")
@click.argument("batch_id", metavar="BATCH", type=Id("bat"))
@json_option
@pass_session
def cancel(session: Session, batch_id: str, as_json: bool) -> None:
    """Start none of its items any more, and ask those at work to end. Does not wait; a batch that has ended stays as it
    is."""
    answer = session.client.call("POST", f"/batches/{batch_id}/cancel")
    if as_json:
        print_json(answer.text)
    elif answer.value["finished_at"] and not answer.value["canceled_by"]:
        click.echo(f"{batch_id} had ended before: {answer.value['status']}")
    elif answer.value["finished_at"]:
        click.echo(f"{batch_id} is canceled")
    else:
        click.echo(f"{batch_id} is being ended; `oneoff batch wait {batch_id}` tells when")


def _read_items(file: str | None, form: str | None, texts: tuple[str, ...], count: int | None) -> list[dict[str, Any]]:
    """What the API takes. Raises a usage error where none or several ways were chosen."""
    if sum((file is not None, bool(texts), count is not None)) != 1:
        raise click.UsageError(f"items come from one place: {_HINT}")
    if form is not None and file is None:
        raise click.UsageError("--format goes with --items")
    if file is not None:
        return read_items(file, form)
    if count is not None:
        return [{}] * count
    try:
        return [check_item({"arguments": [text]}) for text in texts]
    except OneoffError as problem:
        raise CliError(f"--item: {problem}") from problem


def _service_body(group: Any, command: tuple[str, ...], **options: Any) -> dict[str, Any]:
    shell = options["shell"]
    if shell is not None and command:
        raise click.UsageError("give either --shell or a COMMAND after --, not both")
    if shell is None and not command:
        raise click.UsageError("the command is empty: write it after --, or as --shell TEXT")
    given = {
        **_overrides(**options),
        "command": list(command) or None,
        "shell": shell,
        "entrypoint": options["entrypoint"],
        "retries": read_retries(options),
        "must_end_by": options["end_by"],
        "warn_seconds": options["warn"],
    }
    return {name: value for name, value in given.items() if value is not None}


def _job_body(group: Any, command: tuple[str, ...], **options: Any) -> dict[str, Any]:
    """What a job says cannot be said again, but for what `oneoff job run` takes."""
    if group is not None or any(options[name] for name in _ONLY_OF_A_SERVICE):
        raise click.UsageError(
            "a job has its own command, entrypoint, retries, group and end: `oneoff job update` changes them"
        )
    given = {**_overrides(**options), "arguments": list(command) or None}
    return {name: value for name, value in given.items() if value is not None}


def _overrides(**options: Any) -> dict[str, Any]:
    return {
        "variables": read_variables(options["assignments"], options["env_file"]) or None,
        "instance_type": options["instance_type"],
        "timeout_seconds": options["timeout"],
    }


def _ended(each: Mapping[str, Any]) -> str:
    counts = each["counts"]
    return f"{counts['succeeded'] + counts['failed'] + counts['canceled']}/{each['item_count']}"
