"""Sends the logs of runs to log streams: finds the runs, gives each to the delivery of its stream, and keeps in the
store how far they are. Nothing of it lies on a run's own path; without streams it looks for one now and then."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta

from oneoff import journal, metrics
from oneoff.core.clock import to_text
from oneoff.core.ids import CHANCE_BYTES, make_id
from oneoff.core.log_stream import stream_of
from oneoff.engine.context import Context
from oneoff.engine.events import record
from oneoff.engine.log_delivery import LogDelivery
from oneoff.engine.log_source import LogSource
from oneoff.engine.spec import open_secret_values
from oneoff.errors import OneoffError
from oneoff.logs.folder import log_folder
from oneoff.senders.registry import make_sender
from oneoff.store import log_positions, log_streams
from oneoff.store.database import Connection
from oneoff.store.log_positions import LogRun, Progress
from oneoff.store.log_streams import LogStream, LogStreamState

FAILING, RECOVERED = "log_stream.failing", "log_stream.recovered"
_LOOK_AGAIN_SECONDS = 30.0  # another server may have set a stream
_SAVE_SECONDS = 2.0
_MARK_SECONDS = 60.0
_MARK_BEHIND = timedelta(seconds=120)  # ids are made a while before their runs are committed
_RUNS_AT_ONCE = 1_000  # of one stream, in memory
_LAG_SECONDS = 10.0
_LASTING = timedelta(minutes=5)  # a stream that fails for so long raises an event


def token_place(stream_id: str) -> str:
    """Where a stream's token is sealed for."""
    return f"log_streams/{stream_id}/token"


class Forwarder:
    name = "forwarder"

    def __init__(self, context: Context) -> None:
        self.wake = context.signals.forward
        self._context = context
        self._node = context.facts.node
        self._streams: list[LogStream] = []
        self._is_following = False  # all of them, and what was missed was looked for
        self._deliveries: dict[str, LogDelivery] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._saved: dict[str, LogStreamState] = {}
        self._told: dict[str, datetime | None] = {}
        self._lag_at: dict[str, float] = {}
        self._has_more: set[str] = set()  # streams with more runs in the store than in memory
        self._looked_at = self._marked_at = float("-inf")
        self._taken_at: float | None = None  # when the last run came; marks follow for a while

    async def tick(self) -> float:
        try:
            return await self._look()
        except _StreamsChanged:
            self._context.signals.streams_changed = True
            return 0.0

    async def _look(self) -> float:
        now = self._context.clock.monotonic()
        if self._context.signals.streams_changed or now - self._looked_at >= _LOOK_AGAIN_SECONDS:
            self._context.signals.streams_changed = False
            self._looked_at = now
            try:
                await self._follow_streams()
            except Exception:
                # Again at once: the mark must not move past runs that were not looked for.
                self._context.signals.streams_changed, self._is_following = True, False
                raise
        if not self._deliveries:
            return _LOOK_AGAIN_SECONDS
        await self._take_up_changed()
        await self._refill()
        await self._save()
        if self._taken_at is not None and now - self._marked_at >= _MARK_SECONDS:
            self._marked_at = now
            await self._move_mark()
        return _LOOK_AGAIN_SECONDS if self._is_idle() else _SAVE_SECONDS

    async def close(self) -> None:
        """What is confirmed by now is saved."""
        await self._stop(list(self._deliveries))

    def _is_idle(self) -> bool:
        has_told_all = not any(self._saved[stream_id].lag_bytes for stream_id in self._deliveries)
        return has_told_all and not self._has_more and all(each.is_idle for each in self._deliveries.values())

    async def _follow_streams(self) -> None:
        """Start, stop and replace deliveries; then look for what was missed."""
        found = await self._context.database.read(lambda c: log_streams.list_streams(c, self._context.workspace_id))
        if self._is_following and [each.version for each in found] == [each.version for each in self._streams]:
            return
        now = {stream.id: stream for stream in found}
        before = {stream.id: stream for stream in self._streams}
        is_same = {i for i in now.keys() & before.keys() if now[i].version == before[i].version}
        await self._stop([stream_id for stream_id in self._deliveries if stream_id not in is_same])
        self._streams = found
        states = await self._context.database.read(lambda c: log_streams.fetch_states(c, self._node))
        for stream in found:
            if stream.receiver is not None and stream.id not in self._deliveries:
                try:
                    await self._start(stream, next(iter(states.get(stream.id, [])), LogStreamState()))
                except Exception as problem:  # noqa: BLE001 - one that cannot be opened must not stop the others
                    journal.error("log stream cannot be started", problem, stream=stream.id)
        self._context.signals.is_forwarding = bool(self._deliveries)
        if self._deliveries:
            await self._take_up_missed()
        self._is_following = True

    async def _start(self, stream: LogStream, state: LogStreamState) -> None:
        assert stream.receiver is not None
        context = self._context
        token = None
        if stream.token_sealed is not None:
            token = context.sealer.open(stream.token_sealed, token_place(stream.id)).decode()
        # In a thread: the system's certificates are read slowly.
        sender = await asyncio.to_thread(make_sender, stream.receiver, token, stream.ca_pem, context.clock)
        delivery = LogDelivery(
            stream.receiver.shown_endpoint, sender, context.clock, context.settings.log_stream_confirm_seconds, state
        )
        self._deliveries[stream.id] = delivery
        self._saved[stream.id], self._told[stream.id] = state, state.told_at
        self._has_more.add(stream.id)
        self._tasks[stream.id] = asyncio.create_task(delivery.run(), name=f"delivery {stream.id}")
        journal.info("log stream", stream=stream.id, endpoint=stream.receiver.shown_endpoint)

    async def _stop(self, stream_ids: list[str]) -> None:
        # Those that were stopped already, when what they confirmed could not be saved, have no task any more.
        tasks = [self._tasks.pop(stream_id) for stream_id in stream_ids if stream_id in self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._save()
        for stream_id in stream_ids:
            del self._deliveries[stream_id]
            self._has_more.discard(stream_id)

    async def _take_up_missed(self) -> None:
        """What this server, or one before it, has not heard of: see store/log_positions.py."""
        node, oldest = self._node, min(stream.created_at for stream in self._streams)

        def work(connection: Connection) -> list[LogRun]:
            mark = max(log_positions.find_mark(connection, node) or "", _first_id(oldest))
            found = log_positions.find_missed(connection, node, mark)
            log_positions.save_new(connection, self._assign(connection, found))
            return found

        if await self._context.database.run(work):
            self._taken_at = self._context.clock.monotonic()
        self._has_more |= self._deliveries.keys()

    async def _take_up_changed(self) -> None:
        """Runs that began or ended since the last look."""
        changed = self._context.signals.logs
        if not changed:
            return
        run_ids = list(changed)
        changed.clear()
        try:
            await self._take_up(run_ids)
        except Exception:
            changed.update(run_ids)
            raise

    async def _take_up(self, run_ids: list[str]) -> None:
        node = self._node

        def work(connection: Connection) -> list[tuple[str, LogRun]]:
            assigned = self._assign(connection, log_positions.find_runs(connection, node, run_ids))
            log_positions.save_new(connection, [each for each in assigned if each[1].is_new])
            return assigned

        fresh: dict[str, list[LogRun]] = {}
        for stream_id, run in await self._context.database.run(work):
            if stream_id not in self._deliveries or run.progress.is_complete:
                continue
            self._taken_at = self._context.clock.monotonic()
            delivery = self._deliveries[stream_id]
            if run.origin.run_id in delivery.runs:
                if run.is_final:
                    delivery.note_final(run.origin.run_id)
            elif len(delivery.runs) >= _RUNS_AT_ONCE and run.is_final:
                self._has_more.add(stream_id)
            else:
                fresh.setdefault(stream_id, []).append(run)
        for stream_id, runs in fresh.items():
            await self._add(self._deliveries[stream_id], runs)

    def _assign(self, connection: Connection, runs: Iterable[LogRun]) -> list[tuple[str, LogRun]]:
        """Each with the id of the stream that it goes to; those that go nowhere are left out. Raises _StreamsChanged
        when another server has set one that is not known here yet: it may be that of these very runs."""
        known = {stream.version for stream in self._streams}
        if log_streams.fetch_versions(connection, self._context.workspace_id) != known:
            raise _StreamsChanged
        assigned = []
        for run in runs:
            stream = stream_of(self._streams, run.origin.service_id, run.made_at)
            if stream is not None and stream.receiver is not None:
                assigned.append((stream.id, run))
        return assigned

    async def _refill(self) -> None:
        """From the store, where the backlog of a receiver that was away may be long."""
        for stream_id in list(self._has_more):
            delivery = self._deliveries[stream_id]
            if len(delivery.runs) > _RUNS_AT_ONCE // 2:
                continue
            limit = _RUNS_AT_ONCE + len(delivery.runs)
            found = await self._context.database.read(
                lambda c, s=stream_id, n=limit: log_positions.list_unsent(c, s, self._node, n)  # type: ignore[misc]
            )
            # What is confirmed but not saved yet is in the store as it was before.
            known = delivery.runs.keys() | delivery.changed.keys()
            await self._add(delivery, [run for run in found if run.origin.run_id not in known])
            if len(found) < limit:
                self._has_more.discard(stream_id)

    async def _add(self, delivery: LogDelivery, runs: list[LogRun]) -> None:
        run_ids = [run.origin.run_id for run in runs]
        if not run_ids:
            return
        boxes = await self._context.database.read(lambda c: log_positions.find_sealed_variables(c, run_ids))
        for run in runs:
            run_id = run.origin.run_id
            folder = log_folder(self._context.settings.logs_dir, run_id)
            secrets: list[bytes] | None
            try:
                box = boxes.get(run_id)
                secrets = [] if box is None else open_secret_values(self._context, run_id, box)
            except Exception as problem:  # noqa: BLE001 - one that cannot be opened must not stop the others
                secrets = None
                journal.error("log lines dropped", problem, run=run_id)
                delivery.note_error(f"the lines of {run_id} are dropped: its variables cannot be opened")
            delivery.add(LogSource(folder, run, secrets))

    async def _save(self) -> None:
        """Positions and states that changed; events of lasting failure."""
        progress: dict[str, Progress] = {}
        for delivery in self._deliveries.values():
            progress |= delivery.changed
        states = await self._changed_states()
        if not progress and not states:
            return
        now = self._context.clock.now()

        def work(connection: Connection) -> None:
            log_positions.save_progress(connection, self._node, progress)
            for stream_id, state in states.items():
                log_streams.save_state(connection, stream_id, self._node, state, now)
                self._record_news(connection, stream_id, state)

        await self._context.database.run(work)
        for delivery in self._deliveries.values():
            for run_id, saved in progress.items():
                if delivery.changed.get(run_id) is saved:
                    del delivery.changed[run_id]
        for stream_id, state in states.items():
            self._saved[stream_id], self._told[stream_id] = state, state.told_at

    async def _changed_states(self) -> dict[str, LogStreamState]:
        now = self._context.clock.now()
        changed = {}
        for stream_id, delivery in self._deliveries.items():
            lag = await self._lag_of(stream_id, delivery)
            state = replace(delivery.state, lag_bytes=lag, told_at=self._told[stream_id])
            if state.failing_since is None:
                state = replace(state, told_at=None)
            elif state.told_at is None and now - state.failing_since >= _LASTING:
                state = replace(state, told_at=now)
            if state != self._saved[stream_id]:
                changed[stream_id] = state
        metrics.LOG_STREAM_LAG_BYTES.set(sum(each.lag_bytes for each in {**self._saved, **changed}.values()))
        return changed

    async def _lag_of(self, stream_id: str, delivery: LogDelivery) -> int:
        """Bytes that are stored and were not sent, looked at now and then. What is beyond the budget is skipped."""
        if delivery.is_idle and stream_id not in self._has_more:
            return 0
        now = self._context.clock.monotonic()
        if now - self._lag_at.get(stream_id, float("-inf")) < _LAG_SECONDS:
            return self._saved[stream_id].lag_bytes
        self._lag_at[stream_id] = now
        sources, ended = list(delivery.runs.values()), 0
        if stream_id in self._has_more:
            sources = [source for source in sources if not source.is_final]
            ended = await self._context.database.read(
                lambda c: log_positions.sum_unsent_bytes(c, stream_id, self._node)
            )
        lag = ended + await asyncio.to_thread(lambda: sum(source.unread_bytes() for source in sources))
        delivery.limit(max(0, lag - self._context.settings.log_stream_budget_bytes))
        return lag

    def _record_news(self, connection: Connection, stream_id: str, state: LogStreamState) -> None:
        """That a stream has failed for long, or takes lines again after that was told."""
        if (state.told_at is None) == (self._told[stream_id] is None):
            return
        stream = next(stream for stream in self._streams if stream.id == stream_id)
        since = state.failing_since or self._saved[stream_id].failing_since
        body = {
            "scope": stream.scope_id,
            "name": stream.receiver and stream.receiver.shown_endpoint,
            "error": state.last_error,
            "node": self._node,
            "failing_since": None if since is None else to_text(since),
        }
        service_id = None if stream.scope_id == stream.workspace_id else stream.scope_id
        kind = FAILING if state.told_at is not None else RECOVERED
        record(self._context, connection, kind, stream_id, body, service_id)

    async def _move_mark(self) -> None:
        mark = _first_id(self._context.clock.now() - _MARK_BEHIND)

        def work(connection: Connection) -> None:
            log_positions.save_new(connection, self._assign(connection, log_positions.find_unmarked(connection, mark)))
            log_positions.move_mark(connection, self._node, mark)

        await self._context.database.run(work)
        gone = self._context.clock.monotonic() - (self._taken_at or 0.0)
        if gone > 2 * _MARK_BEHIND.total_seconds():
            self._taken_at = None


def _first_id(moment: datetime) -> str:
    """No run made at `moment` or later has a smaller id."""
    return make_id("run", moment, bytes(CHANCE_BYTES))


class _StreamsChanged(OneoffError):
    """Nothing of this transaction may stand."""

    temporary = True
