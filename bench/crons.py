"""Crons: 1,000 due in the same second, beside the plain inserting of such rows; and 10,000 that wait for tomorrow.

The scheduler, its operations and SQLite as a server has them; a clock of its own, so that nobody waits for a minute to
pass, and no engine, as nothing is executed.
"""

from __future__ import annotations

import asyncio
import gc
import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import insert, select, update
from tests.operations.home import Home, open_home

from bench.measuring import milliseconds, percentile
from bench.report import Mark, Result, Table
from oneoff.chance import take
from oneoff.core.clock import to_us
from oneoff.core.ids import make_id
from oneoff.engine.context import Context
from oneoff.engine.firing import Firing
from oneoff.engine.loop import keep_ticking
from oneoff.engine.scheduler import Scheduler
from oneoff.operations.cron_runs import CronRuns
from oneoff.operations.crons import NewCron, insert_cron
from oneoff.operations.jobs import NewJob, insert_job
from oneoff.store import tables

_DUE = 1_000
_WAITING = 10_000
_ROUNDS = 6
_AHEAD = timedelta(seconds=2)
_IDLE_SECONDS = 20.0


class ShiftedClock:
    """The real one, on another day."""

    def __init__(self) -> None:
        self._shift = timedelta(0)

    def now(self) -> datetime:
        return datetime.now(UTC) + self._shift

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def shift_to(self, moment: datetime) -> None:
        self._shift = moment - datetime.now(UTC)


class WatchedScheduler(Scheduler):
    """Notes when each run was durable and its engine was told."""

    def __init__(self, context: Context) -> None:
        super().__init__(context, partial(CronRuns, context))
        self.delays: list[float] = []
        self._clock = context.clock

    def tell(self, firing: Firing) -> None:
        super().tell(firing)
        now = self._clock.now()
        self.delays += [(now - due).total_seconds() for due in firing.due]


def crons(folder: Path, _samples: int) -> Result:
    return asyncio.run(_measure(folder))


async def _measure(folder: Path) -> Result:
    home = await open_home(folder)
    clock = ShiftedClock()
    home.context = replace(home.context, clock=clock)
    try:
        await _add(home, _DUE, lambda _number: "* * * * *")
        gc.collect()
        gc.freeze()  # as a server does once it is up
        rounds, floors = [], []
        for number in range(_ROUNDS):
            delays = await _fire(home, clock)
            floors.append(await _insert_plainly(home))
            if number:
                rounds.append(delays)
        await home.context.database.run(lambda c: c.execute(tables.crons.delete()) and None)
        await _add(home, _WAITING, lambda number: f"{number % 60} {number // 60 % 24} * 1 *")
        clock.shift_to(datetime(2026, 6, 1, 12, 0, 0, 500_000, tzinfo=UTC))
        idle = await _idle(home)
    finally:
        home.close()
    return _judge(rounds, floors[1:], idle)


def _judge(rounds: list[list[float]], floors: list[float], idle: float) -> Result:
    p99s = [percentile(each, 99) for each in rounds]
    rows = [
        [
            f"round {number}",
            str(len(each)),
            *(milliseconds(percentile(each, p)) for p in (0, 50, 99)),
            milliseconds(floor),
        ]
        for number, (each, floor) in enumerate(zip(rounds, floors, strict=True), 1)
    ]
    middle, early = statistics.median(p99s), sum(delay < 0 for each in rounds for delay in each)
    missing = sum(_DUE - len(each) for each in rounds)
    return Result(
        f"{_DUE} crons of as many jobs, due in the same second; from the due instant to the run's commit. The floor "
        f"inserts the same rows, already made, in one transaction. Idle: {_WAITING} crons, none due for months, for "
        f"{_IDLE_SECONDS:.0f} s.",
        Table(["", "fired", "first ms", "p50 ms", "p99 ms", "floor ms"], rows),
        [
            Mark(
                "p99 of due to accepted at most 250 ms",
                f"median of the rounds {milliseconds(middle)} ms, worst {milliseconds(max(p99s))} ms",
                middle <= 0.25,
            ),
            Mark("none early, none missing", f"{early} early, {missing} missing", not early and not missing),
            Mark(f"{_WAITING} crons idle below 1 % of a core", f"{idle:.2%}", idle < 0.01),
        ],
    )


async def _add(home: Home, count: int, expression: Callable[[int], str]) -> None:
    context = home.context
    service = await home.add_service(f"shop/production/s{count}")

    def work(connection: Any) -> None:
        for number in range(count):
            job = insert_job(context, connection, NewJob(service.id, f"j{number}", {"command": ["true"]}))
            insert_cron(context, connection, NewCron(job.id, {"expression": expression(number)}))

    await context.database.run(work)


async def _fire(home: Home, clock: ShiftedClock) -> list[float]:
    """One minute's ticks. The runs of the minute before have ended."""
    ended = {"status": "succeeded", "reason": "completed", "finished_at": to_us(clock.now())}
    await home.context.database.run(lambda c: c.execute(update(tables.runs).values(ended)) and None)
    due = (clock.now() + timedelta(minutes=2)).replace(second=0, microsecond=0)
    skipped = {"cursor": to_us(due - timedelta(seconds=30)), "next_due_at": to_us(due)}
    await home.context.database.run(lambda c: c.execute(update(tables.crons).values(skipped)) and None)
    clock.shift_to(due - _AHEAD)
    scheduler = WatchedScheduler(home.context)
    ticking = asyncio.create_task(keep_ticking(scheduler, clock))
    await asyncio.sleep(_AHEAD.total_seconds() + 3)
    ticking.cancel()
    await asyncio.gather(ticking, return_exceptions=True)
    return scheduler.delays


async def _insert_plainly(home: Home) -> float:
    """Rows like those of the last minute, with other ids; undone afterwards."""
    database = home.context.database

    def read(connection: Any) -> list[dict[str, Any]]:
        query = select(tables.runs).order_by(tables.runs.c.id.desc()).limit(_DUE)
        return [dict(row._mapping) for row in connection.execute(query)]

    rows = await database.read(read)
    now = home.context.clock.now()
    for row in rows:
        row["id"] = make_id("run", now, take(8))
    ticks = [
        {"cron_id": "floor", "due_at": number, "outcome": "fired", "run_id": row["id"], "decided_at": 0}
        for number, row in enumerate(rows)
    ]

    def write(connection: Any) -> None:
        connection.execute(insert(tables.runs), rows)
        connection.execute(insert(tables.ticks), ticks)

    began = time.perf_counter()
    await database.run(write)
    took = time.perf_counter() - began
    ids = [row["id"] for row in rows]
    await database.run(lambda c: c.execute(tables.runs.delete().where(tables.runs.c.id.in_(ids))) and None)
    await database.run(lambda c: c.execute(tables.ticks.delete().where(tables.ticks.c.cron_id == "floor")) and None)
    return took


async def _idle(home: Home) -> float:
    """The share of a core."""
    scheduler = WatchedScheduler(home.context)
    ticking = asyncio.create_task(keep_ticking(scheduler, home.context.clock))
    await asyncio.sleep(2)
    before, began = _cpu_seconds(), time.monotonic()
    await asyncio.sleep(_IDLE_SECONDS)
    used = (_cpu_seconds() - before) / (time.monotonic() - began)
    ticking.cancel()
    await asyncio.gather(ticking, return_exceptions=True)
    return used


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
