"""Who must look again, within one server: the API tells the engine, the engine tells the followers.

Only hints: whoever waits here also looks by itself now and then, so a lost hint costs time and nothing else.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager

_GATHER_SECONDS = 0.1


class Signals:
    """All methods are called from the event loop's thread."""

    def __init__(self) -> None:
        self.dispatch = asyncio.Event()  # a run was accepted, or a slot is free
        self.schedule = asyncio.Event()  # a cron may be due earlier than the scheduler thinks
        self.batches = asyncio.Event()  # items of a batch ended, or a batch is new or canceled
        self.changed_batches: set[str] = set()  # which; the batcher takes them
        self.deploy = asyncio.Event()  # a deploy may go on
        self.gate_runs: frozenset[str] = frozenset()  # those that deploys wait for
        self.stopping = asyncio.Event()  # the server is going down: streams end now
        self.forward = asyncio.Event()  # a log may have lines to send, or a log stream is another one now
        self.logs: set[str] = set()  # runs that began or ended, for the forwarder
        self.is_forwarding = False  # whether anybody wants to know
        self.streams_changed = False
        self.ended: deque[str] = deque()  # runs whose log the janitor may compress
        self.deliver = asyncio.Event()  # a webhook may have something to be told
        self.wants_events = True  # whether there are webhooks, as far as the deliverer knows
        self._deliver_soon = False
        self.events_come = asyncio.Event()  # set at each commit with events, and replaced by a fresh one
        self._watchers: dict[str, set[asyncio.Event]] = defaultdict(set)

    def run_accepted(self) -> None:
        self.dispatch.set()

    def slot_freed(self) -> None:
        self.dispatch.set()

    def crons_changed(self) -> None:
        self.schedule.set()

    def events_happened(self) -> None:
        """Whoever waits for events takes `events_come` before it looks, and waits for that one."""
        come, self.events_come = self.events_come, asyncio.Event()
        come.set()
        if self.wants_events and not self._deliver_soon:
            # Many commits in a row are looked at together.
            self._deliver_soon = True
            asyncio.get_running_loop().call_later(_GATHER_SECONDS, self._deliver)

    def webhooks_changed(self) -> None:
        self.deliver.set()

    def _deliver(self) -> None:
        self._deliver_soon = False
        self.deliver.set()

    def batch_changed(self, batch_id: str | None) -> None:
        """One of its runs has ended, or it is new, or canceled. None = the run is of no batch."""
        if batch_id is not None:
            self.changed_batches.add(batch_id)
            self.batches.set()

    def deploy_changed(self, service_id: str) -> None:
        """A deploy of the service was asked for, or is further than before."""
        self.deploy.set()
        self._tell(service_id)

    def run_changed(self, run_id: str) -> None:
        """Its row changed: a status, a stop request, its waiting reason."""
        if run_id in self.gate_runs:
            self.deploy.set()
        self._tell(run_id)
        if self.is_forwarding:
            self.logs.add(run_id)
            self.forward.set()

    def log_streams_changed(self) -> None:
        self.streams_changed = True
        self.forward.set()

    def server_stopping(self) -> None:
        self.stopping.set()
        self.events_happened()
        for events in self._watchers.values():
            for event in events:
                event.set()

    @contextmanager
    def watch(self, subject_id: str) -> Iterator[asyncio.Event]:
        """Of a run, or of the deploys of a service: an event that is set at each change. The watcher clears it before
        looking."""
        event = asyncio.Event()
        self._watchers[subject_id].add(event)
        try:
            yield event
        finally:
            self._watchers[subject_id].discard(event)
            if not self._watchers[subject_id]:
                del self._watchers[subject_id]

    def _tell(self, subject_id: str) -> None:
        for event in self._watchers.get(subject_id, ()):
            event.set()
