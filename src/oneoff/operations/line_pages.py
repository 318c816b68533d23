"""Lines of many runs by time, a page of them forwards or backwards. Used by the Render-compatible API.

A page never ends between two lines of the same time, so that the next one, which begins behind it, loses and repeats
none.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from oneoff import journal
from oneoff.core.clock import to_us
from oneoff.core.run import Run, RunStatus
from oneoff.engine.spec import open_secret_values
from oneoff.errors import InvalidBody, WrongSecretKey
from oneoff.logs.cursor import LogCursor
from oneoff.logs.folder import log_folder
from oneoff.operations.context import Context
from oneoff.operations.timed_lines import Line, Marks, TimedLines, damage_line, get_marks
from oneoff.store import log_positions, runs
from oneoff.store.dialect import Connection
from oneoff.store.runs import RunFilter, Window

BOTH = ("stdout", "stderr")
_MOST_RUNS = 1_000
# Read for one page; where they end the page does, full or not. Of one run at least so many.
_MOST_BYTES = 64 << 20
_FEWEST_BYTES = 256 << 10
_SLACK = timedelta(minutes=1)  # between the clock of an engine and ours
_SETTLED_US = 2_000_000  # so late a line may still come to be seen, behind a secret that is held back


@dataclass(frozen=True, slots=True)
class LineQuery:
    """From `first_us` to `last_us`, both included."""

    first_us: int
    last_us: int
    backward: bool
    limit: int
    matches: Callable[[Line], bool]


@dataclass(frozen=True, slots=True)
class LinePage:
    """In the order of time, also when the last ones were asked for; the next page is from `next_first_us` to
    `next_last_us`."""

    lines: list[Line]
    has_more: bool
    next_first_us: int
    next_last_us: int


@dataclass(frozen=True, slots=True)
class _Part:
    """Of one run. Every line between the query's beginning and `reached_us`, in its direction, was looked at."""

    lines: list[Line]
    reached_us: int
    is_complete: bool


# Of each run the values that its log must not show, or why nobody knows them.
_Secrets = Mapping[str, list[bytes] | WrongSecretKey]


async def list_runs_within(context: Context, service_id: str, first: datetime, last: datetime) -> list[Run]:
    """Runs of a service that may have written something in that time. Raises InvalidBody when they are too many."""
    began = Window(before=last + _SLACK)

    def work(connection: Connection) -> list[Run]:
        ended = RunFilter(service_id, started=began, finished=Window(after=first - _SLACK))
        going = RunFilter(service_id, status=[RunStatus.RUNNING], started=began)
        return [run for wanted in (going, ended) for run in runs.list_runs(connection, wanted, _MOST_RUNS + 1, None)]

    found = await context.database.read(work)
    if len(found) > _MOST_RUNS:
        most = f"{service_id} has more than {_MOST_RUNS} runs in that time"
        raise InvalidBody(f"{most}: ask for less time, or for single jobs", "resource")
    return list({run.id: run for run in found}.values())


async def read_lines(context: Context, found: Sequence[Run], query: LineQuery) -> LinePage:
    """A page of the lines of `found`; in the place of a log that cannot be shown is a line that says why."""
    secrets = await _fetch_secrets(context, found)
    found = [run for run in found if run.id in secrets]  # the history has let go of the others meanwhile
    if len(found) > 1 and any(run.is_going for run in found):
        # A line of one run may come to be seen after a later one of another: both wait.
        settled = to_us(context.clock.now()) - _SETTLED_US
        asked = replace(query, last_us=min(query.last_us, settled))
        page = await asyncio.to_thread(_read_lines, context, found, secrets, asked)
        return page if query.backward else replace(page, next_last_us=query.last_us)
    return await asyncio.to_thread(_read_lines, context, found, secrets, query)


async def _fetch_secrets(context: Context, found: Sequence[Run]) -> _Secrets:
    run_ids = [run.id for run in found]
    boxes = await context.database.read(lambda c: log_positions.find_sealed_variables(c, run_ids))
    secrets: dict[str, list[bytes] | WrongSecretKey] = {}
    for run_id, box in boxes.items():
        try:
            secrets[run_id] = open_secret_values(context, run_id, box)
        except WrongSecretKey as problem:
            secrets[run_id] = problem
    return secrets


def _read_lines(context: Context, found: Sequence[Run], secrets: _Secrets, query: LineQuery) -> LinePage:
    most = max(_FEWEST_BYTES, _MOST_BYTES // max(1, len(found)))
    parts = [_read_part(context, run, secrets[run.id], most, query) for run in found]
    lines = sorted((line for part in parts for line in part.lines), key=lambda line: line.order)
    if query.backward:
        return _page_backward(lines, parts, query)
    return _page_forward(lines, parts, query)


def _read_part(
    context: Context, run: Run, secrets: list[bytes] | WrongSecretKey, most_bytes: int, query: LineQuery
) -> _Part:
    if isinstance(secrets, WrongSecretKey):
        return _tell(run, secrets, query)
    try:
        return _RunReader(context, run, secrets, most_bytes).read(query)
    except OSError:  # it may pass, as when there are no more file handles
        raise
    except Exception as problem:  # noqa: BLE001 - a log that is damaged must not hide the others
        journal.error("log cannot be read", problem, run=run.id)
        return _tell(run, ValueError("its file is damaged"), query)


def _tell(run: Run, problem: Exception, query: LineQuery) -> _Part:
    line = damage_line(run, problem)
    is_wanted = query.first_us <= line.time_us <= query.last_us and query.matches(line)
    return _Part([line] if is_wanted else [], query.first_us if query.backward else query.last_us, True)


def _page_forward(lines: list[Line], parts: list[_Part], query: LineQuery) -> LinePage:
    reached = min((part.reached_us for part in parts), default=query.last_us)
    lines = [line for line in lines if line.time_us <= reached]
    shown = lines[: _cut(lines, query.limit)]
    has_more = len(shown) < len(lines) or not all(part.is_complete for part in parts)
    first = shown[-1].time_us + 1 if shown else query.first_us
    if has_more and len(shown) == len(lines):
        first = reached + 1  # nothing that matches lies up to there
    return LinePage(shown, has_more, first, query.last_us)


def _page_backward(lines: list[Line], parts: list[_Part], query: LineQuery) -> LinePage:
    reached = max((part.reached_us for part in parts), default=query.first_us)
    lines = [line for line in lines if line.time_us >= reached][::-1]
    shown = lines[: _cut(lines, query.limit)]
    has_more = len(shown) < len(lines) or not all(part.is_complete for part in parts)
    last = shown[-1].time_us - 1 if shown else query.last_us
    if has_more and len(shown) == len(lines):
        last = reached - 1
    return LinePage(shown[::-1], has_more, query.first_us, last)


def _cut(lines: list[Line], limit: int) -> int:
    """Where a page of about `limit` lines ends: between two times."""
    if len(lines) <= limit:
        return len(lines)
    cut = limit
    while cut > 0 and lines[cut - 1].time_us == lines[cut].time_us:
        cut -= 1
    if cut == 0:
        cut = limit
        while cut < len(lines) and lines[cut].time_us == lines[0].time_us:
            cut += 1
    return cut


class _RunReader:
    """Reads one run's part of a page. Blocks for the disk."""

    def __init__(self, context: Context, run: Run, secrets: list[bytes], bytes_left: int) -> None:
        self._folder = log_folder(context.settings.logs_dir, run.id)
        self._run = run
        self._secrets = secrets
        self._bytes_left = bytes_left
        self._marks: Marks = get_marks(context.instance, run.id, self._folder)

    def read(self, query: LineQuery) -> _Part:
        return self._read_backward(query) if query.backward else self._read_forward(query)

    def _read_forward(self, query: LineQuery) -> _Part:
        found: list[Line] = []
        for line in self._lines(self._marks.before(query.first_us), query.last_us):
            if line.time_us < query.first_us:
                continue
            if query.matches(line):
                found.append(line)
            if len(found) > query.limit or self._bytes_left <= 0:
                return _Part(found, line.time_us, False)
        return _Part(found, query.last_us, True)

    def _read_backward(self, query: LineQuery) -> _Part:
        """From mark to mark, the last ones first."""
        found: deque[Line] = deque()
        number, last_us = self._marks.before(query.last_us), query.last_us
        while True:
            lines = (line for line in self._lines(number, last_us) if line.time_us >= query.first_us)
            tail = deque(filter(query.matches, lines), maxlen=query.limit + 1)
            found.extendleft(reversed(tail))
            begin_us = self._marks.times[number]
            if len(found) > query.limit:
                last = list(found)[-query.limit - 1 :]
                return _Part(last, last[0].time_us, False)
            if number == 0 or begin_us < query.first_us:
                return _Part(list(found), query.first_us, True)
            if self._bytes_left <= 0:
                return _Part(list(found), begin_us + 1, False)
            number, last_us = number - 1, begin_us

    def _lines(self, number: int, last_us: int) -> Iterator[Line]:
        """From a mark up to a time."""
        timed = TimedLines(self._run, self._marks, number)
        cursor = LogCursor(self._folder, timed.position, BOTH, self._secrets)
        try:
            while True:
                records, has_more = cursor.read()
                is_end = not has_more and self._run.status.is_final
                if is_end:
                    records = cursor.flush()
                self._bytes_left -= sum(len(record.data) for record in records)
                for line in (*timed.feed(records), *(timed.flush() if is_end else ())):
                    if line.time_us > last_us:
                        return
                    yield line
                if not has_more:
                    return
        finally:
            cursor.close()
