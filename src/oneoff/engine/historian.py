"""Keeps the history bounded: drops ended runs with their logs, by core.retention, some lines at a time, in rounds.

A row goes before its log: what a crash leaves in between, or another server whose disk this is not, is a folder without
a row, and those are looked for in turn.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path

from oneoff import journal
from oneoff.core.plan import Plan
from oneoff.core.retention import Retention, oldest_kept, runs_to_drop, within
from oneoff.engine.context import Context
from oneoff.engine.unsent import count_unsent_lines
from oneoff.logs.folder import log_folder
from oneoff.store import crons, history, log_positions, runs
from oneoff.store.database import Connection
from oneoff.store.history import Line

_LOOK_AGAIN_SECONDS = 60.0
_GO_ON_SECONDS = 0.5  # while there is more to drop than one tick takes
_LINES_AT_ONCE = 200
_RUNS_AT_ONCE = 1000  # of one tick
_RUNS_IN_A_TRANSACTION = 50  # accepting waits for no more than these
_SHELVES_AT_ONCE = 22  # all 1,296 in an hour
_IDS_IN_A_QUERY = 500
_MARK = "instance"  # the file that says whose logs these are


@dataclass(frozen=True, slots=True)
class Place:
    """How far the round is: behind this job, or, once those are done, behind this service."""

    job_id: str = ""
    service_id: str | None = None


class Historian:
    name = "historian"

    def __init__(self, context: Context) -> None:
        self.wake = asyncio.Event()
        self._context = context
        self._place = Place()
        self._shelf = ""

    async def tick(self) -> float:
        dropped = await self._drop_runs()
        await self._sweep_logs()
        return _GO_ON_SECONDS if dropped >= _RUNS_AT_ONCE else _LOOK_AGAIN_SECONDS

    async def _drop_runs(self) -> int:
        context, now, place = self._context, self._context.clock.now(), self._place

        def look(connection: Connection) -> tuple[list[str], Place]:
            plan = context.plans.get(crons.find_plan(connection, context.workspace_id))
            if plan is None:  # an operator's file has lost it: nothing is dropped until it is known what is kept
                return [], Place()
            return _choose(connection, plan, place, now)

        chosen, self._place = await context.database.read(look)
        for begin in range(0, len(chosen), _RUNS_IN_A_TRANSACTION):
            some = chosen[begin : begin + _RUNS_IN_A_TRANSACTION]
            unsent = await count_unsent_lines(context, some)
            gone = await context.database.run(partial(_drop, run_ids=some, unsent=unsent))
            folders = [log_folder(context.settings.logs_dir, run_id) for run_id in gone]
            await asyncio.to_thread(_remove, folders)
        if chosen:
            journal.info("history dropped", runs=len(chosen))
        return len(chosen)

    async def _sweep_logs(self) -> None:
        """Folders of runs that are not known any more; not those of another installation, which may come back."""
        root = self._context.settings.logs_dir
        if not await asyncio.to_thread(_is_ours, root, self._context.instance):
            return
        shelves = await asyncio.to_thread(_shelves_after, root, self._shelf)
        self._shelf = shelves[-1].name if len(shelves) == _SHELVES_AT_ONCE else ""
        folders = await asyncio.to_thread(lambda: [each for shelf in shelves for each in _runs_in(shelf)])
        for begin in range(0, len(folders), _IDS_IN_A_QUERY):
            some = folders[begin : begin + _IDS_IN_A_QUERY]
            ids = [each.name for each in some]
            known = await self._context.database.read(lambda c, ids=ids: runs.fetch_statuses(c, ids))  # type: ignore[misc]
            unknown = [each for each in some if each.name not in known]
            await asyncio.to_thread(_remove, unknown)
            if unknown:
                journal.info("logs without a run removed", folders=len(unknown))


def _drop(connection: Connection, run_ids: Sequence[str], unsent: Mapping[str, int]) -> list[str]:
    """`unsent` lines by run: their log stream is told that they are dropped."""
    log_positions.drop(connection, unsent)
    return history.drop_ended(connection, run_ids)


def _choose(connection: Connection, plan: Plan, place: Place, now: datetime) -> tuple[list[str], Place]:
    """Ids of runs to drop, and where to go on: at the same line when it has more."""
    referred = history.fetch_referred(connection)
    chosen: list[str] = []
    for _ in range(_LINES_AT_ONCE):
        before, (line, place) = place, _next(connection, place)
        if line is None:
            place = Place()
            break
        wish = None if line.job_id is None else history.find_wish(connection, line.job_id)
        chosen += _choose_of(connection, line, within(wish, plan.retention), now, _RUNS_AT_ONCE - len(chosen))
        if len(chosen) >= _RUNS_AT_ONCE:
            place = before
            break
    return [run_id for run_id in chosen if run_id not in referred], place


def _next(connection: Connection, place: Place) -> tuple[Line | None, Place]:
    if place.service_id is None:
        if (job_id := history.find_job_after(connection, place.job_id)) is not None:
            return Line(job_id=job_id), Place(job_id)
        place = replace(place, service_id="")
    service_id = history.find_service_after(connection, place.service_id or "")
    return (None, place) if service_id is None else (Line(service_id=service_id), replace(place, service_id=service_id))


def _choose_of(connection: Connection, line: Line, retention: Retention, now: datetime, most: int) -> Iterator[str]:
    """At most `most` of the oldest. Lines that have no more than they may are only counted."""
    for failed, count in history.count_ended(connection, line).items():
        is_old = count.oldest is not None and count.oldest < oldest_kept(retention, now, failed=failed)
        if most <= 0 or not (is_old or count.total > retention.most_runs):
            continue
        oldest = history.fetch_oldest(connection, line, failed=failed, most=most)
        # The newer ones, which are not looked at, have their places already.
        room = max(0, retention.most_runs - (count.total - len(oldest)))
        dropped = runs_to_drop(oldest, Retention(room, retention.days), now)
        most -= len(dropped)
        yield from dropped


def _remove(folders: Sequence[Path]) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def _is_ours(root: Path, instance: str) -> bool:
    mark = root / _MARK
    try:
        return mark.read_text() == instance
    except FileNotFoundError:
        root.mkdir(parents=True, exist_ok=True)
        mark.write_text(instance)
        return True


def _shelves_after(root: Path, name: str) -> list[Path]:
    found = sorted(each for each in os.listdir(root) if each > name and len(each) == 2)  # noqa: PTH208 - hundreds
    return [root / each for each in found[:_SHELVES_AT_ONCE]]


def _runs_in(shelf: Path) -> Iterator[Path]:
    return (shelf / each for each in os.listdir(shelf) if each.startswith("run-"))  # noqa: PTH208 - hundreds
