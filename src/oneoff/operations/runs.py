"""Runs: accepted, listed, looked at, canceled. Used by the API; the engine does the rest."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from operator import attrgetter
from typing import Any

from oneoff import tracing
from oneoff.core.command import Command, Entrypoint
from oneoff.core.groups import make_group
from oneoff.core.outcome import Outcome, StopKind
from oneoff.core.queue import in_order
from oneoff.core.run import NOTHING_YET, Reason, Run, RunStatus, Trigger
from oneoff.core.service import parse_path
from oneoff.core.terms import to_terms
from oneoff.core.variables import check_variables
from oneoff.engine.admission import fetch_queue
from oneoff.engine.retrying import end_if_queued
from oneoff.engine.spec import variables_place
from oneoff.errors import NoLiveImage, NotFound
from oneoff.operations.context import Context
from oneoff.operations.ids import check_id
from oneoff.operations.launches import Materials, get_materials
from oneoff.operations.limits import check_may_run, check_time, choose_size
from oneoff.operations.room import check_room
from oneoff.operations.variables import VariableChange, Variables, apply_change
from oneoff.store import concurrency, idempotency, runs, services
from oneoff.store.dialect import Connection
from oneoff.store.idempotency import Idempotency
from oneoff.store.runs import End, RunFilter
from oneoff.store.services import Launch

# A place in the queue is told among so many runs of each service; one behind them has none.
_MOST_PLACES = 500


@dataclass(frozen=True, slots=True)
class PinnedImage:
    """An image that is not the live one: of a deploy that is not live yet, or of the run that is run again."""

    deploy_id: str | None
    image: str
    image_ref: str
    digest: str


@dataclass(frozen=True, slots=True)
class RunRequest:
    """What a caller asks for. The command is checked already; None = as the service has it."""

    command: Command
    variables: Mapping[str, VariableChange] = field(default_factory=dict)
    instance_type: str | None = None
    timeout_seconds: int | None = None
    entrypoint: Entrypoint | None = None
    image: PinnedImage | None = None  # None = the live one
    retries: str | None = None  # JSON of core.retry.RetryPolicy
    concurrency_group: str | None = None
    not_before: datetime | None = None
    must_end_at: datetime | None = None
    warn_seconds: int | None = None
    builtins: Mapping[str, str] = field(default_factory=dict)  # what Oneoff tells the run beside what its row says


@dataclass(frozen=True, slots=True)
class Origin:
    """Why a run exists, who asked, and what it belongs to."""

    actor: str
    trigger: Trigger
    job_id: str | None = None
    cron_id: str | None = None
    scheduled_for: datetime | None = None
    batch_id: str | None = None
    batch_index: int | None = None
    attempt: int = 1
    retry_of: str | None = None
    rerun_of: str | None = None


_OF_ORIGIN = [each.name for each in fields(Origin)]
_OF_IMAGE = [each.name for each in fields(PinnedImage)]
_get_origin, _get_image = attrgetter(*_OF_ORIGIN), attrgetter(*_OF_IMAGE)


@dataclass(frozen=True, slots=True)
class RunView:
    """A run with what is only known in sight of the others: its place in the queue, and what it waits for."""

    run: Run
    queue_position: int | None = None
    waiting_for: str | None = None
    retried_by: str | None = None


async def accept_run(
    context: Context,
    service_id: str,
    request: RunRequest,
    origin: Origin,
    idempotent: Idempotency | None = None,
) -> Run:
    """The run, queued and durable; the engine knows. The same `idempotent` request gives the same run again.

    Raises NotFound, NoLiveImage, PlanHasNoJobs, InvalidInput, DiskFull, IdempotencyKeyReused.
    """
    check_id("service", service_id)
    return await accept(context, lambda c: insert_run(context, c, service_id, request, origin), idempotent)


async def accept(context: Context, insert: Callable[[Connection], Run], idempotent: Idempotency | None) -> Run:
    """As `accept_run`, of the run that `insert` puts into the queue."""

    def work(connection: Connection) -> Run:
        if (earlier := idempotency.find_resource(connection, idempotent)) is not None:
            return runs.get_run(connection, earlier)
        check_room(context.settings, context.clock)
        run = insert(connection)
        idempotency.save_resource(connection, idempotent, run.id, run.created_at)
        return run

    with tracing.accepting() as tell_trace:
        run = await context.database.run(work)
        if tell_trace is not None:
            tell_trace(run)
    context.signals.run_accepted()
    return run


def insert_run(context: Context, connection: Connection, service_id: str, request: RunRequest, origin: Origin) -> Run:
    """Inside the caller's transaction, with what else must be true with it: a tick, a batch item, a retry. The caller
    calls `signals.run_accepted` after its commit."""
    materials = get_materials(context, connection, service_id)
    run, box = make_run(context, materials, request, origin, context.clock.now())
    save_group_if_absent(connection, run.workspace_id, run.concurrency_group)
    runs.save_new(connection, run, box)
    return run


def make_run(
    context: Context, materials: Materials, request: RunRequest, origin: Origin, at: datetime
) -> tuple[Run, bytes]:
    """As `insert_run`, but the caller saves it, and its group: the run and its sealed variables. `at` is when it is
    accepted."""
    run_id = context.new_id("run", at)
    box = _seal_variables(context, materials.variables, request, run_id)
    return _make(context, materials.launch, request, origin, (run_id, at)), box


def save_group_if_absent(connection: Connection, workspace_id: str, name: str | None) -> None:
    """The concurrency group of a run that is saved. Raises InvalidGroup."""
    if name is not None:
        concurrency.save_if_absent(connection, workspace_id, make_group(name))


async def get_run(context: Context, run_id: str) -> Run:
    """Raises NotFound."""
    check_id("run", run_id)
    return await context.database.read(lambda c: runs.get_run(c, run_id))


async def view_run(context: Context, run_id: str) -> RunView:
    """With its place in the queue. Raises NotFound."""
    check_id("run", run_id)

    def work(connection: Connection) -> RunView:
        run = runs.get_run(connection, run_id)
        if run.status is not RunStatus.QUEUED:
            is_retried = run.retries is not None and run.status.is_final
            return RunView(run, retried_by=runs.find_retry(connection, run) if is_retried else None)
        return _view_queued(context, connection, run)

    return await context.database.read(work)


async def find_service_id(context: Context, text: str | None) -> str | None:
    """The service a list is asked for, by id or path; None for all. An id may be that of a service that is gone: its
    runs stay. Raises NotFound, AmbiguousPath."""
    if text is None or "/" not in text:
        return None if text is None else check_id("service", text)
    path = parse_path(text)
    found = await context.database.read(lambda c: services.find_by_path(c, context.workspace_id, path))
    if found is None:
        raise NotFound("service", text, "`oneoff service list` shows them")
    return found.id


async def list_runs(context: Context, wanted: RunFilter, limit: int, before: str | None) -> list[Run]:
    """Newest first."""
    return await context.database.read(lambda c: runs.list_runs(c, wanted, limit, before))


async def cancel_run(context: Context, run_id: str, actor: str) -> Run:
    """A waiting run ends at once, a going one is asked to end, an ended one stays as it is. Raises NotFound."""
    check_id("run", run_id)
    now = context.clock.now()
    message = f"canceled by {actor} before it started"
    end = End(Outcome(RunStatus.CANCELED, Reason.CANCELED), now, message=message, canceled_by=actor)

    def work(connection: Connection) -> Run:
        run = runs.get_run(connection, run_id)
        if not end_if_queued(context, connection, run, end):
            runs.request_stop(connection, run_id, StopKind.CANCEL, actor, now)
        return runs.get_run(connection, run_id)

    run = await context.database.run(work)
    context.signals.run_changed(run_id)
    context.signals.batch_changed(run.batch_id)
    return run


def _view_queued(context: Context, connection: Connection, run: Run) -> RunView:
    now = context.clock.now()
    if run.not_before is not None and run.not_before > now:
        return RunView(run, None, f"the back-off until {run.not_before:%Y-%m-%d %H:%M:%S} UTC")
    node, slots = context.facts.node, context.settings.slots
    going = runs.count_on_node(connection, node)
    queue = fetch_queue(context, connection, _MOST_PLACES, now)
    admission = queue.admit(in_order(queue.waiting, going, now, context.turns.numbers))
    if run.id in admission.blocked:
        return RunView(run, None, admission.blocked[run.id])
    ordered = [each.run_id for each in (*admission.free, *admission.beyond)]
    if run.id not in ordered and run.waiting_for is not None:
        return RunView(run, None, run.waiting_for)  # the end of others: it has no place yet
    position = ordered.index(run.id) + 1 if run.id in ordered else None
    if admission.beyond and (position is None or position > len(admission.free)):
        return RunView(run, position, queue.waits_for_plan)
    # What its row says was true when it was written: only where there is a slot for it does it wait for that still.
    return RunView(run, position, _slot_awaited(sum(going.values()), slots, position) or run.waiting_for)


def _slot_awaited(taken: int, slots: int, position: int | None) -> str | None:
    """None when there is one for the run. Free ones may be awaited, too: by those who get them before."""
    if position is not None and taken + position <= slots:
        return None
    before = {None: ", many runs are before it", 1: "", 2: ", 1 run is before it"}
    told = before.get(position, f", {(position or 0) - 1} runs are before it")
    return f"a free slot ({taken} of {slots} taken{told})"


def _seal_variables(context: Context, found: Variables, request: RunRequest, run_id: str) -> bytes:
    """Everything the run gets but the built-in ones, as configured at this moment."""
    merged = found | {name: apply_change(name, change, found.get(name)) for name, change in request.variables.items()}
    values = {name: each.value for name, each in merged.items()}
    check_variables(values)
    secret = [name for name, each in merged.items() if each.secret]
    sealed: dict[str, Any] = {"variables": values, "secret": secret}
    if request.builtins:
        sealed["builtins"] = dict(request.builtins)
    return context.sealer.seal(json.dumps(sealed).encode(), variables_place(run_id))


def _make(context: Context, launch: Launch, request: RunRequest, origin: Origin, born: tuple[str, datetime]) -> Run:
    """The row of an accepted run. Raises NoLiveImage, PlanHasNoJobs, and what is wrong with its limits."""
    plan = check_may_run(context, launch.plan)
    image = request.image or live_image(launch)
    chosen = choose_size(context, request.instance_type or launch.instance_type, launch.type)
    run_id, at = born
    return Run(
        id=run_id,
        workspace_id=launch.workspace_id,
        service_id=launch.service_id,
        service=launch.path,
        **dict(zip(_OF_ORIGIN, _get_origin(origin), strict=True)),
        **dict(zip(_OF_IMAGE, _get_image(image), strict=True)),
        command=request.command.argv,
        shell=request.command.shell,
        entrypoint=launch.entrypoint if request.entrypoint is None else request.entrypoint,
        instance_type=chosen.id,
        terms=to_terms(chosen),
        timeout_seconds=check_time(context, plan, request.timeout_seconds),
        grace_seconds=context.settings.grace_seconds,
        retries=request.retries,
        concurrency_group=request.concurrency_group,
        not_before=request.not_before,
        must_end_at=request.must_end_at,
        warn_seconds=request.warn_seconds,
        created_at=at,
        **NOTHING_YET,
    )


def live_image(launch: Launch) -> PinnedImage:
    """Raises NoLiveImage."""
    if launch.deploy_id is None or launch.image is None or launch.image_ref is None or launch.digest is None:
        raise NoLiveImage(launch.path)
    return PinnedImage(launch.deploy_id, launch.image, launch.image_ref, launch.digest)
