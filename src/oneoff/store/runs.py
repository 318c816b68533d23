"""Runs: accept, claim, every transition of their life, and the lists. Called by the operations and the engine.

Each transition is one guarded UPDATE: applied, or stale and dropped (the return value tells). `at` is always UTC.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache, partial
from operator import attrgetter
from typing import Any

from sqlalchemy import ColumnElement, Connection, Integer, Select, and_, bindparam, func, or_, select, union_all, update

from oneoff import metrics
from oneoff.core.clock import from_us, to_us
from oneoff.core.outcome import Outcome, StopKind
from oneoff.core.queue import Waiting
from oneoff.core.run import GOING, ON_NODE, TIMES, Reason, Run, RunStatus, Trigger
from oneoff.errors import NotFound
from oneoff.store.counting import when_durable
from oneoff.store.dialect import fetch_fast, insert_fast
from oneoff.store.held_back import HELD_BACK
from oneoff.store.tables import runs, services
from oneoff.store.words import read_words, write_words

_NAMES = Run._fields
_COLUMNS = [runs.c[name] for name in _NAMES]
_STATUSES, _TRIGGERS, _REASONS = ({each.value: each for each in kind} for kind in (RunStatus, Trigger, Reason))


def _by_place(converters: Mapping[str, Callable[[Any], Any]]) -> tuple[tuple[int, Callable[[Any], Any]], ...]:
    return tuple((_NAMES.index(name), convert) for name, convert in converters.items())


# What is not the same in a row and in a run, by its place in both.
_FROM_ROW = _by_place(
    {
        **dict.fromkeys(TIMES, from_us),
        "status": _STATUSES.__getitem__,
        "trigger": _TRIGGERS.__getitem__,
        "reason": _REASONS.__getitem__,
        "command": read_words,
        "entrypoint": read_words,
        "oom_seen": bool,
    }
)
_get_value = attrgetter("value")  # plain text: SQLite's driver looks long for what to do with any other kind of it
_TO_ROW = _by_place(
    {
        **dict.fromkeys(TIMES, to_us),
        **dict.fromkeys(("status", "trigger", "reason"), _get_value),
        "command": write_words,
        "entrypoint": write_words,
    }
)
_GOING = [status.value for status in GOING]
_ON_NODE = [status.value for status in ON_NODE]
# What every run passes is built once: building such a statement costs more than executing it.
_ID = runs.c.id == bindparam("run_id")
_LEASED = and_(_ID, runs.c.lease == bindparam("held_lease"))
_BY_ID = select(*_COLUMNS).where(_ID)
_INSERT_NAMES = (*_NAMES, "variables_sealed")
_START_NAMES = ("status", "node", "driver", "container_name", "lease", "starting_at")
_START = (
    update(runs)
    .where(_ID, runs.c.status == bindparam("old_status"), ~HELD_BACK)
    .values({name: bindparam(name) for name in _START_NAMES} | {"waiting_for": None})
)
_IN_START = (*_LEASED.clauses, runs.c.status == RunStatus.STARTING.value)
_SAVE_ENGINE_ID = update(runs).where(*_IN_START).values(engine_id=bindparam("engine_id"))
_BEGIN_RUNNING = (
    update(runs)
    .where(*_IN_START)
    .values(status=bindparam("status"), started_at=bindparam("moment"), seen_at=bindparam("moment"))
)


@dataclass(frozen=True, slots=True)
class Window:
    """Moments later than `after` and earlier than `before`; None = without that end."""

    after: datetime | None = None
    before: datetime | None = None


_ALWAYS = Window()


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Which runs a list shows; None = any."""

    service_id: str | None = None
    job_id: str | None = None
    cron_id: str | None = None
    batch_id: str | None = None
    status: Sequence[RunStatus] = ()
    trigger: Trigger | None = None
    created: Window = _ALWAYS
    started: Window = _ALWAYS
    finished: Window = _ALWAYS


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a run starts: written before the engine is called."""

    node: str
    driver: str
    container_name: str
    lease: str


_END_NAMES = (
    *("status", "reason", "exit_code", "signal", "oom_seen", "message", "finished_at"),
    *("stdout_bytes", "stderr_bytes", "missing_bytes"),
)
_END = (
    update(runs)
    .where(*_LEASED.clauses, runs.c.status.in_(_ON_NODE))
    .values(
        {name: bindparam(name) for name in _END_NAMES}
        | {"started_at": func.coalesce(bindparam("began", type_=runs.c.started_at.type), runs.c.started_at)}
    )
)


def save_new(connection: Connection, run: Run, variables_sealed: bytes) -> None:
    save_all_new(connection, [(run, variables_sealed)])


def find_run(connection: Connection, run_id: str) -> Run | None:
    found = fetch_fast(connection, _BY_ID, {"run_id": run_id})
    return _to_run(found[0]) if found else None


def get_run(connection: Connection, run_id: str) -> Run:
    """Raises NotFound."""
    if (run := find_run(connection, run_id)) is None:
        raise NotFound("run", run_id, "`oneoff runs list` shows the newest ones")
    return run


def save_all_new(connection: Connection, made: Sequence[tuple[Run, bytes]]) -> None:
    """Runs with their sealed variables, in one statement."""
    if made:
        insert_fast(connection, runs, _INSERT_NAMES, [_to_values(run, box) for run, box in made])
        for trigger, count in Counter(run.trigger for run, _ in made).items():
            when_durable(connection, partial(metrics.RUNS_ACCEPTED.add, trigger, by=count))


def fetch_sealed_variables(connection: Connection, run_id: str) -> bytes:
    return bytes(connection.execute(select(runs.c.variables_sealed).where(runs.c.id == run_id)).scalar_one())


@dataclass(frozen=True, slots=True)
class StartFacts:
    """What a start needs beside the run itself. Sealed values open at the places the operations sealed them for."""

    variables_sealed: bytes
    networks: tuple[str, ...]
    capabilities: tuple[str, ...]
    read_only_root: bool
    user: str | None
    sandbox: str | None
    registry_username: str | None
    registry_password_sealed: bytes | None


_START_FACTS = (
    select(
        runs.c.variables_sealed,
        services.c.networks,
        services.c.capabilities,
        services.c.read_only_root,
        services.c.user,
        services.c.sandbox,
        services.c.registry_username,
        services.c.registry_password_sealed,
    )
    .join_from(runs, services, runs.c.service_id == services.c.id)
    .where(runs.c.id == bindparam("run_id"))
)


def fetch_start_facts(connection: Connection, run_id: str) -> StartFacts:
    """A service with going runs cannot be deleted, so its row is there."""
    row = connection.execute(_START_FACTS, {"run_id": run_id}).one()
    return StartFacts(
        bytes(row.variables_sealed),
        tuple(json.loads(row.networks)),
        tuple(json.loads(row.capabilities)),
        bool(row.read_only_root),
        row.user,
        row.sandbox,
        row.registry_username,
        row.registry_password_sealed,
    )


def list_runs(connection: Connection, wanted: RunFilter, limit: int, before: str | None) -> list[Run]:
    """Newest first; `before` is the id of the last run of the page before."""
    values = _to_guards(wanted, before)
    statuses = {f"status_{number}": status.value for number, status in enumerate(dict.fromkeys(wanted.status))}
    query = _select_newest(tuple(values), tuple(statuses))
    return [_to_run(row) for row in fetch_fast(connection, query, {"most": limit, **values, **statuses})]


_EQUAL = ("service_id", "job_id", "cron_id", "batch_id", "trigger")
_WINDOWS = ("created", "started", "finished")
_GUARDS = {
    **{name: runs.c[name] == bindparam(name) for name in _EQUAL},
    **{f"{name}_after": runs.c[f"{name}_at"] > bindparam(f"{name}_after") for name in _WINDOWS},
    **{f"{name}_before": runs.c[f"{name}_at"] < bindparam(f"{name}_before") for name in _WINDOWS},
    "before": runs.c.id < bindparam("before"),
}
_MOST = bindparam("most", type_=Integer)


def _to_guards(wanted: RunFilter, before: str | None) -> dict[str, Any]:
    """What must hold, by the names in `_GUARDS`."""
    values: dict[str, Any] = {name: str(value) for name in _EQUAL if (value := getattr(wanted, name)) is not None}
    for name in _WINDOWS:
        window = getattr(wanted, name)
        ends = {f"{name}_after": window.after, f"{name}_before": window.before}
        values |= {end: to_us(moment) for end, moment in ends.items() if moment is not None}
    if before is not None:
        values["before"] = before
    return values


@lru_cache(maxsize=64)
def _select_newest(names: tuple[str, ...], statuses: tuple[str, ...]) -> Select[Any]:
    """Built once for each choice of guards and number of statuses, as above."""
    guards = [_GUARDS[name] for name in names]
    newest = runs.c.id.desc()
    if statuses:
        # One status at a time, each by its index: asked for several, SQLite reads through the whole history.
        of_each = [
            select(runs.c.id).where(*guards, runs.c.status == bindparam(name)).order_by(newest).limit(_MOST).subquery()
            for name in statuses
        ]
        guards = [runs.c.id.in_(union_all(*(select(found.c.id) for found in of_each)))]
    return select(*_COLUMNS).where(*guards).order_by(newest).limit(_MOST)


_ORDER = (runs.c.trigger == Trigger.BATCH.value, runs.c.created_at, runs.c.id)
_PLACE = (
    func.row_number().over(partition_by=(runs.c.service_id, runs.c.concurrency_group), order_by=_ORDER).label("place")
)
_QUEUED = (
    select(runs.c.id, runs.c.service_id, runs.c.trigger, runs.c.created_at, runs.c.concurrency_group, _PLACE)
    .where(runs.c.status == RunStatus.QUEUED.value, ~HELD_BACK)
    .where(or_(runs.c.not_before.is_(None), runs.c.not_before <= bindparam("now")))
    .subquery()
)
_WAITING = select(_QUEUED).where(_QUEUED.c.place <= bindparam("per_service"))


@dataclass(frozen=True, slots=True)
class Line:
    """Queued runs, and of each that is in a concurrency group that group's name."""

    waiting: list[Waiting]
    groups: Mapping[str, str]


def fetch_waiting(connection: Connection, per_service: int, now: datetime) -> Line:
    """Queued runs that may begin by now, at most `per_service` of each service and group: enough to fill every slot
    fairly, however long the queue, and whatever group is full."""
    rows = connection.execute(_WAITING, {"per_service": per_service, "now": to_us(now)}).all()
    return Line(
        [Waiting(row.id, row.service_id, Trigger(row.trigger), from_us(row.created_at)) for row in rows],
        {row.id: row.concurrency_group for row in rows if row.concurrency_group is not None},
    )


def count_on_node(connection: Connection, node: str) -> dict[str, int]:
    """Slots taken on a node, by service."""
    query = (
        select(runs.c.service_id, func.count())
        .where(runs.c.status.in_(_ON_NODE), runs.c.node == node)
        .group_by(runs.c.service_id)
    )
    return {row[0]: row[1] for row in connection.execute(query)}


def count_going(connection: Connection, service_id: str) -> int:
    query = select(func.count()).where(runs.c.service_id == service_id, runs.c.status.in_(_GOING))
    return int(connection.execute(query).scalar_one())


def list_on_node(connection: Connection, node: str, driver: str) -> list[Run]:
    """Starting and running runs that only a server driving this node and driver may look up."""
    query = select(*_COLUMNS).where(runs.c.status.in_(_ON_NODE), runs.c.node == node, runs.c.driver == driver)
    return [_to_run(row) for row in connection.execute(query)]


def list_with_other_lease(connection: Connection, lease: str) -> list[Run]:
    """Starting and running runs that some other server holds, or held before it died."""
    query = select(*_COLUMNS).where(runs.c.status.in_(_ON_NODE), runs.c.lease != lease)
    return [_to_run(row) for row in connection.execute(query)]


def list_overdue(connection: Connection, now: datetime) -> list[Run]:
    """Queued runs that must have ended by now."""
    query = select(*_COLUMNS).where(runs.c.status == RunStatus.QUEUED.value, runs.c.must_end_at <= to_us(now))
    return [_to_run(row) for row in connection.execute(query)]


def fetch_statuses(connection: Connection, run_ids: Sequence[str]) -> dict[str, RunStatus]:
    rows = connection.execute(select(runs.c.id, runs.c.status).where(runs.c.id.in_(run_ids)))
    return {row.id: RunStatus(row.status) for row in rows}


def fetch_needed_digests(connection: Connection) -> set[str]:
    """Digests of images that a going run needs."""
    return set(connection.execute(select(runs.c.digest).where(runs.c.status.in_(_GOING)).distinct()).scalars())


def find_retry(connection: Connection, run: Run) -> str | None:
    """The id of the attempt after `run`. It is younger, and of the same service."""
    younger = and_(runs.c.service_id == run.service_id, runs.c.id > run.id, runs.c.retry_of == run.id)
    return connection.execute(select(runs.c.id).where(younger).limit(1)).scalar()


def save_waiting_for(connection: Connection, run_id: str, what: str | None) -> None:
    guard = and_(runs.c.id == run_id, runs.c.status == RunStatus.QUEUED.value)
    connection.execute(update(runs).where(guard).values(waiting_for=what))


def start_if_queued(connection: Connection, run_id: str, placement: Placement, at: datetime) -> bool:
    """queued -> starting, with the place where its container will be."""
    values = {
        "run_id": run_id,
        "old_status": RunStatus.QUEUED.value,
        "status": RunStatus.STARTING.value,
        "node": placement.node,
        "driver": placement.driver,
        "container_name": placement.container_name,
        "lease": placement.lease,
        "starting_at": to_us(at),
    }
    return connection.execute(_START, values).rowcount == 1


def save_engine_id_if_leased(connection: Connection, run_id: str, lease: str, engine_id: str | None) -> bool:
    """The engine's own id of the container, between create and start; None forgets one that was removed unstarted."""
    values = {"run_id": run_id, "held_lease": lease, "engine_id": engine_id}
    return connection.execute(_SAVE_ENGINE_ID, values).rowcount == 1


def run_if_leased(connection: Connection, run_id: str, lease: str, at: datetime) -> bool:
    """starting -> running."""
    values = {"run_id": run_id, "held_lease": lease, "status": RunStatus.RUNNING.value, "moment": to_us(at)}
    return connection.execute(_BEGIN_RUNNING, values).rowcount == 1


def take_lease(connection: Connection, run_id: str, old: str | None, new: str) -> bool:
    """From a server that is gone to this one."""
    guard = and_(runs.c.id == run_id, runs.c.lease == old, runs.c.status.in_(_ON_NODE))
    return connection.execute(update(runs).where(guard).values(lease=new)).rowcount == 1


@dataclass(frozen=True, slots=True)
class End:
    """All that the end of a run writes. Log counts are those of the finished log."""

    outcome: Outcome
    finished_at: datetime
    started_at: datetime | None = None  # the engine's, when it is known better than by our commit
    message: str | None = None
    stdout_bytes: int = 0
    stderr_bytes: int = 0
    missing_bytes: int = 0
    canceled_by: str | None = None  # of one that had not begun; a going one has it from `request_stop`


def end_if_leased(connection: Connection, run_id: str, lease: str | None, end: End) -> bool:
    """starting or running -> final, by the server that holds the lease."""
    if lease is None:
        guard = and_(runs.c.id == run_id, runs.c.status.in_(_ON_NODE), runs.c.lease.is_(None))
        return connection.execute(update(runs).where(guard).values(_end_values(end))).rowcount == 1
    began = None if end.started_at is None else to_us(end.started_at)
    values = {"run_id": run_id, "held_lease": lease, **_end_values(end), "began": began}
    return connection.execute(_END, values).rowcount == 1


def end_if_queued(connection: Connection, run_id: str, end: End) -> bool:
    """queued -> final: canceled before it began, or its image cannot be had."""
    guard = and_(runs.c.id == run_id, runs.c.status == RunStatus.QUEUED.value)
    values = {**_end_values(end), "waiting_for": None, "stop_actor": end.canceled_by}
    return connection.execute(update(runs).where(guard).values(values)).rowcount == 1


def request_stop(connection: Connection, run_id: str, kind: StopKind, actor: str | None, at: datetime) -> bool:
    """Commit who asks for the end of a starting or running run. The first request stays: False when there is one."""
    return _request_stop(connection, runs.c.id == run_id, kind, actor, at)


def time_out(connection: Connection, run_id: str, timeout_seconds: int, at: datetime) -> bool:
    """The same when its time is over; False also when it was extended meanwhile, and so has another limit."""
    guard = and_(runs.c.id == run_id, runs.c.timeout_seconds == timeout_seconds)
    return _request_stop(connection, guard, StopKind.TIMEOUT, None, at)


def _request_stop(
    connection: Connection, which: ColumnElement[bool], kind: StopKind, actor: str | None, at: datetime
) -> bool:
    guard = and_(which, runs.c.status.in_(_ON_NODE), runs.c.stop_kind.is_(None))
    values = {"stop_kind": kind.value, "stop_actor": actor, "stop_at": to_us(at)}
    return connection.execute(update(runs).where(guard).values(values)).rowcount == 1


def extend_if_going(connection: Connection, run_id: str, timeout_seconds: int) -> bool:
    """A new time limit, and a new warning before it, unless somebody asked for the run's end already."""
    guard = and_(runs.c.id == run_id, runs.c.status.in_(_GOING), runs.c.stop_kind.is_(None))
    return (
        connection.execute(update(runs).where(guard).values(timeout_seconds=timeout_seconds, warned_at=None)).rowcount
        == 1
    )


def warn_if_leased(connection: Connection, run_id: str, lease: str, at: datetime) -> bool:
    """Its time limit is near; False when that was said already."""
    guard = and_(runs.c.id == run_id, runs.c.lease == lease, runs.c.status.in_(_ON_NODE), runs.c.warned_at.is_(None))
    return connection.execute(update(runs).where(guard).values(warned_at=to_us(at))).rowcount == 1


def save_seen(connection: Connection, run_ids: Sequence[str], at: datetime) -> None:
    guard = and_(runs.c.id.in_(run_ids), runs.c.status == RunStatus.RUNNING.value)
    connection.execute(update(runs).where(guard).values(seen_at=to_us(at)))


def _end_values(end: End) -> dict[str, Any]:
    outcome = end.outcome
    return {
        "status": outcome.status.value,
        "reason": outcome.reason.value,
        "exit_code": outcome.exit_code,
        "signal": outcome.signal,
        "oom_seen": outcome.oom_seen,
        "message": end.message,
        "finished_at": to_us(end.finished_at),
        "stdout_bytes": end.stdout_bytes,
        "stderr_bytes": end.stderr_bytes,
        "missing_bytes": end.missing_bytes,
    }


def _to_run(row: Iterable[Any]) -> Run:
    return Run._make(_converted(row, _FROM_ROW))


def _to_values(run: Run, variables_sealed: bytes) -> tuple[Any, ...]:
    """In the order of `_INSERT_NAMES`."""
    return (*_converted(run, _TO_ROW), variables_sealed)


def _converted(values: Iterable[Any], converters: Iterable[tuple[int, Callable[[Any], Any]]]) -> list[Any]:
    converted = list(values)
    for place, convert in converters:
        if converted[place] is not None:
            converted[place] = convert(converted[place])
    return converted
