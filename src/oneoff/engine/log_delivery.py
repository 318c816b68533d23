"""Sends the lines of all runs of one log stream over its one connection. The forwarder makes one for each stream, as a
task of its own: a bad receiver delays no other.

The stored logs are the buffer: what cannot be sent is read again later. At least once: lines count as sent when the
receiver has acknowledged them, or, as syslog knows no acknowledgement, when the connection has lived for some seconds
behind them; what was sent on a connection that breaks before is sent again.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections import deque
from dataclasses import dataclass, field

from oneoff import journal, metrics
from oneoff.core.clock import Clock, from_us
from oneoff.core.log_lines import LogLine
from oneoff.core.log_origin import LogOrigin
from oneoff.engine.log_source import LogSource
from oneoff.engine.loop import sleep_unless
from oneoff.senders.sender import Sender, SendFailed
from oneoff.store.log_positions import Progress
from oneoff.store.log_streams import LogStreamState

_MOST_LINES, _MOST_BYTES = 2_000, 256 * 1024  # of a batch
_FIRST_LOOK, _LONGEST_LOOK = 0.05, 1.0  # seconds between looks at the log of a going run
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 60.0
_FIRST_REST, _LONGEST_REST = 60.0, 3600.0  # of a log that cannot be read, and of a delivery with nothing to do
_ENDED_AT_ONCE = 32  # ended runs whose files are open; of a long backlog the others wait


@dataclass(slots=True)
class _Batch:
    lines: list[tuple[LogOrigin, LogLine]] = field(default_factory=list)
    read: dict[LogSource, Progress] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Sent:
    """A batch on its way. `bytes_behind` counts what the connection had sent with it."""

    at: float
    bytes_behind: int
    lines: int
    dropped: int
    read: dict[LogSource, Progress]


@dataclass(slots=True)
class _Look:
    """At the log of a run that is going and quiet. `due` is never once it stands in the line of those that are read:
    where batches are full it may stand there for many turns."""

    source: LogSource
    due: float
    delay: float


class LogDelivery:
    """Until it is cancelled all happens in `run`, but for what the forwarder calls: `add`, `limit` and the `note_…`."""

    def __init__(self, name: str, sender: Sender, clock: Clock, confirm_seconds: float, state: LogStreamState) -> None:
        self.name = name
        self.wake = asyncio.Event()
        self.changed: dict[str, Progress] = {}  # confirmed since the forwarder saved it last
        self.runs: dict[str, LogSource] = {}
        self._sender = sender
        self._clock = clock
        self._confirm_seconds = 0.0 if sender.acknowledges else confirm_seconds
        self.excess_bytes = self._to_skip = 0
        self._news: list[LogSource] = []  # new ones, and those that have ended
        self._reading: asyncio.Future[_Batch] | None = None
        self._ready: deque[LogSource] = deque()
        self._backlog: deque[LogSource] = deque()
        self._quiet: dict[LogSource, _Look] = {}
        self._sent: deque[_Sent] = deque()
        self._in_hand: _Batch | None = None
        self._pause = _FIRST_PAUSE
        self._before = state
        self._lines_confirmed = self._lines_dropped = 0
        self._last_error, self._last_error_at = state.last_error, state.last_error_at
        self.failing_since = state.failing_since
        sender.on_failure(self.wake.set)

    @property
    def is_idle(self) -> bool:
        """Nothing is known that could be sent, or is on its way."""
        return not self.runs and not self._sent and not self.changed

    @property
    def state(self) -> LogStreamState:
        lines = [line for _, line in self._in_hand.lines] if self._in_hand is not None else []
        oldest = min((line.time_us for line in lines if line.time_us), default=None)
        on_their_way = sum(sent.lines for sent in self._sent)
        return LogStreamState(
            connected_since=self._sender.connected_since,
            failing_since=self.failing_since,
            last_error=self._last_error,
            last_error_at=self._last_error_at,
            lines_sent=self._before.lines_sent + self._lines_confirmed + on_their_way,
            lines_dropped=self._before.lines_dropped + self._lines_dropped,
            oldest_unsent_at=None if oldest is None else from_us(oldest),
        )

    def add(self, source: LogSource) -> None:
        self.runs[source.origin.run_id] = source
        self._news.append(source)
        self.wake.set()

    def limit(self, excess_bytes: int) -> None:
        """So much is beyond the budget: of the oldest runs that wait the lines are skipped, and counted."""
        self.excess_bytes = self._to_skip = excess_bytes

    def note_final(self, run_id: str) -> None:
        """The run has ended: what is in its log now is all."""
        source = self.runs[run_id]
        source.is_final = True
        self._news.append(source)
        self.wake.set()

    def note_error(self, words: str) -> None:
        """For whoever looks at the stream; it goes on."""
        self._last_error, self._last_error_at = words, self._clock.now()

    async def run(self) -> None:
        try:
            while True:
                self.wake.clear()
                try:
                    await self._turn()
                except SendFailed as problem:
                    await self._start_over(str(problem), problem.wait_seconds)
                except Exception as problem:  # noqa: BLE001 - a defect in one stream must not stop the others
                    journal.error("log stream interrupted", problem, stream=self.name)
                    await self._start_over("an error of Oneoff's own: the server's log has it", None)
        finally:
            if self._reading is not None:  # its files must not be closed under it
                await asyncio.wait({self._reading})
            await self._sender.close()
            for source in self.runs.values():
                source.close()

    async def _turn(self) -> None:
        self._take_news()
        self._reading = asyncio.ensure_future(asyncio.to_thread(self._collect))
        batch = await asyncio.shield(self._reading)
        self._in_hand = batch
        if batch.lines:
            bytes_behind = await self._sender.send(batch.lines)
            self._note_refused()
        else:
            bytes_behind = self._sent[-1].bytes_behind if self._sent else 0
        self._in_hand = None
        if batch.read:
            dropped = sum(line.dropped for _, line in batch.lines)
            self._sent.append(_Sent(self._clock.monotonic(), bytes_behind, len(batch.lines), dropped, batch.read))
        self._check_connection()
        self._confirm()
        if not batch.read:
            await sleep_unless(self.wake, self._clock, self._seconds_to_next())

    def _take_news(self) -> None:
        """Here, as queues are a thread's while it collects."""
        for source in self._news:
            look = self._quiet.pop(source, None)
            if look is not None and look.due < math.inf:
                self._ready.append(source)
            elif source not in self._ready and source not in self._backlog and not source.finished:
                self._enqueue(source)
        self._news.clear()

    def _collect(self) -> _Batch:
        """A turn for each run that may have something, until the batch is full. Blocks for the disk."""
        batch = _Batch()
        now = self._clock.monotonic()
        for look in [look for look in self._quiet.values() if look.due <= now]:
            self._ready.append(look.source)
            look.due = math.inf
        self._admit_ended()
        size = 0
        for _ in range(len(self._ready)):
            if len(batch.lines) >= _MOST_LINES or size >= _MOST_BYTES:
                break
            source = self._ready.popleft()
            before = source.progress
            try:
                lines, has_more = self._read(source)
            except Exception as problem:  # noqa: BLE001 - a log that is damaged must not hold up the others
                self._set_aside(source, problem, now)
                continue
            batch.lines += [(source.origin, line) for line in lines]
            size += sum(len(line.data) + 200 for line in lines)
            if source.progress != before:
                batch.read[source] = source.progress
            self._put_back(source, has_more or bool(lines), now)
        return batch

    def _read(self, source: LogSource) -> tuple[list[LogLine], bool]:
        if self._to_skip <= 0 and not source.is_hidden:
            return source.read()
        self._to_skip -= source.unread_bytes()
        notice = source.skip()
        return ([] if notice is None else [notice]), False

    def _set_aside(self, source: LogSource, problem: Exception, now: float) -> None:
        """It is read again later: it may have been a moment without file handles, and files can be restored."""
        run_id = source.origin.run_id
        journal.error("log cannot be read", problem, run=run_id)
        self.note_error(f"the log of {run_id} cannot be read: the server's log has the cause")
        source.rewind()
        before = self._quiet.get(source)
        delay = _FIRST_REST if before is None else min(_LONGEST_REST, max(_FIRST_REST, before.delay * 2))
        self._quiet[source] = _Look(source, now + delay, delay)

    def _enqueue(self, source: LogSource) -> None:
        (self._backlog if source.is_final else self._ready).append(source)

    def _admit_ended(self) -> None:
        room = _ENDED_AT_ONCE - sum(source.is_final for source in self._ready)
        while room > 0 and self._backlog:
            self._ready.append(self._backlog.popleft())
            room -= 1

    def _put_back(self, source: LogSource, is_busy: bool, now: float) -> None:
        if source.finished:
            self._quiet.pop(source, None)
            source.close()
        elif is_busy or source.is_final:
            self._quiet.pop(source, None)
            self._ready.append(source)
        else:
            before = self._quiet.get(source)
            delay = _FIRST_LOOK if before is None else min(_LONGEST_LOOK, before.delay * 1.5)
            self._quiet[source] = _Look(source, now + delay, delay)

    def _note_refused(self) -> None:
        if count := self._sender.refused():
            self._lines_dropped += count
            metrics.LOG_STREAM_LINES.add("dropped", by=count)
            self.note_error(f"the receiver refused {count} lines for what they are: they are lost")

    def _check_connection(self) -> None:
        """It may be lost without anybody having sent: then what was on its way is sent again, or there is nothing to do
        until something is to be sent."""
        if self._sender.failure is not None:
            raise SendFailed(self._sender.failure)

    def _confirm(self) -> None:
        now = self._clock.monotonic()
        arrived = self._sender.arrived() if self._sent else 0
        while self._sent and (
            self._sender.acknowledges
            or (self._sent[0].at + self._confirm_seconds <= now and self._sent[0].bytes_behind <= arrived)
        ):
            sent = self._sent.popleft()
            self._lines_confirmed += sent.lines
            self._lines_dropped += sent.dropped
            metrics.LOG_STREAM_LINES.add("sent", by=sent.lines)
            metrics.LOG_STREAM_LINES.add("dropped", by=sent.dropped)
            if sent.lines:
                self._pause, self.failing_since = _FIRST_PAUSE, None
            for source, progress in sent.read.items():
                source.confirmed = progress
                self.changed[source.origin.run_id] = progress
                if progress.is_complete:
                    self.runs.pop(source.origin.run_id, None)

    def _seconds_to_next(self) -> float:
        now = self._clock.monotonic()
        looks = [look.due - now for look in self._quiet.values()]
        confirmations = [max(0.2, self._sent[0].at + self._confirm_seconds - now)] if self._sent else []
        return max(0.0, min([_LONGEST_REST, *looks, *confirmations]))

    async def _start_over(self, why: str, wait_seconds: float | None) -> None:
        """From what is confirmed, over a new connection, after a pause."""
        lost_lines = any(sent.lines for sent in self._sent) or self._in_hand is not None
        self._sent.clear()
        self._to_skip = self.excess_bytes
        await self._sender.close()
        for waiting in (self._ready, self._backlog, self._quiet, self._news):
            waiting.clear()
        for source in self.runs.values():
            if source.progress != source.confirmed:
                source.rewind()
            self._enqueue(source)
        if not lost_lines:
            return
        metrics.LOG_STREAM_FAILURES.add()
        self.note_error(why)
        self.failing_since = self.failing_since or self._clock.now()
        pause = self._pause * random.uniform(0.5, 1.0)  # noqa: S311 - so that many servers do not come back in step
        self._pause = min(_LONGEST_PAUSE, self._pause * 2)
        journal.warning("log stream fails", stream=self.name, error=why, pause=round(pause, 1))
        await self._clock.sleep(max(pause, wait_seconds or 0.0))
        self._in_hand = None
