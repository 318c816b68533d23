"""SQLite behind the seam of `database`: one writer thread with group commit, and a small pool of read-only readers.

Only one read-write connection ever exists, and readers are `mode=ro`: two connections that write or checkpoint at the
same instant can corrupt the file in SQLite 3.7.0 to 3.51.2 (sqlite.org/wal.html#walresetbug), which Debian 12 has.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.pool import QueuePool, StaticPool

from oneoff import metrics
from oneoff.errors import StoreUnavailable
from oneoff.store import counting, events
from oneoff.store.bell import Bell

T = TypeVar("T")
Work = Callable[[Connection], T]

_READERS = 4
_MOST_IN_A_COMMIT = 256
_PRAGMAS = (
    *("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=5000", "cache_size=-8000"),
    # The write-ahead log is copied into the file at 16 MB, not at 4: what is written again and again is copied once.
    "wal_autocheckpoint=4000",
)


@dataclass(slots=True)
class _Waiting:
    work: Work[Any]
    future: asyncio.Future[Any]
    result: Any = None
    problem: BaseException | None = None
    counts: list[counting.Count] = field(default_factory=list)


class SqliteDatabase:
    """Callers of `run` queue up; the writer takes all that wait, and commits once for all. When one of them fails, all
    that was done is undone and done again, each with a savepoint of its own: a savepoint lets other threads run twice,
    which costs more than it does itself."""

    def __init__(self, url: str) -> None:
        path = Path(url.removeprefix("sqlite:///"))
        self.engine = _engine(f"file:{path}", _PRAGMAS, poolclass=StaticPool)
        self._connection = self.engine.connect()
        self._raw: sqlite3.Connection = self._connection.connection.driver_connection  # type: ignore[assignment]
        # One engine for all readers: each statement is compiled once, not once per connection. The connection used last
        # is used next, so that a quiet server opens one and keeps its pages.
        self._readers = _engine(
            f"file:{path}?mode=ro",
            ("query_only=ON", "busy_timeout=5000"),
            poolclass=QueuePool,
            pool_size=_READERS,
            max_overflow=0,
            pool_use_lifo=True,
            pool_reset_on_return=None,
        )
        self._read_threads = ThreadPoolExecutor(_READERS, "store-read")
        self._queue: deque[_Waiting] = deque()
        self._wake = threading.Condition()
        self._closing = False
        self._bell = Bell()
        self._thread = threading.Thread(target=self._write, name="store-write", daemon=True)
        self._thread.start()

    async def run(self, work: Work[T]) -> T:
        waiting = _Waiting(work, asyncio.get_running_loop().create_future())
        with self._wake:
            if self._closing:
                raise StoreUnavailable("the server is stopping")
            self._queue.append(waiting)
            self._wake.notify()
        result: T = await waiting.future
        return result

    async def read(self, work: Work[T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._read_threads, self._read_now, work)

    def on_events(self, tell: Callable[[], object]) -> None:
        self._bell.listen(tell)

    def close(self) -> None:
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join()
        self._read_threads.shutdown()
        for engine in (self._readers, self.engine):
            engine.dispose()

    def _read_now(self, work: Work[T]) -> T:
        with self._readers.connect() as connection:  # as many threads as connections: nobody waits here
            raw = connection.connection.driver_connection
            raw.execute("BEGIN")  # type: ignore[union-attr]
            try:
                return work(connection)
            finally:
                raw.execute("ROLLBACK")  # type: ignore[union-attr]

    def _write(self) -> None:
        while batch := self._take():
            began = time.perf_counter()
            try:
                happened = self._commit(batch)
            except sqlite3.Error as problem:
                happened = False
                self._give_up(batch, problem)
            else:
                self._count(batch, time.perf_counter() - began)
            self._answer(batch)
            if happened:
                self._bell.ring()
        self._connection.close()

    def _take(self) -> list[_Waiting]:
        with self._wake:
            while not self._queue and not self._closing:
                self._wake.wait()
            return [self._queue.popleft() for _ in range(min(len(self._queue), _MOST_IN_A_COMMIT))]

    def _commit(self, batch: list[_Waiting]) -> bool:
        """Whether there were events. Raises sqlite3.Error when nothing of it is there."""
        self._raw.execute("BEGIN IMMEDIATE")
        try:
            happened = [self._do(waiting) for waiting in batch]
        except BaseException as problem:  # noqa: BLE001 - it goes to whose work it is
            self._forget_pending()
            if self._raw.in_transaction:  # a full disk rolls everything back by itself
                self._raw.execute("ROLLBACK")
                if len(batch) == 1:
                    batch[0].problem = problem
                    return False
            self._raw.execute("BEGIN IMMEDIATE")
            happened = [self._do_apart(waiting) for waiting in batch]
        self._raw.execute("COMMIT")
        return any(happened)

    def _do(self, waiting: _Waiting) -> bool:
        waiting.result = waiting.work(self._connection)
        happened = events.write_pending(self._connection)
        waiting.counts = counting.take(self._connection)
        return happened

    def _do_apart(self, waiting: _Waiting) -> bool:
        """Its failure undoes its own work only."""
        self._raw.execute("SAVEPOINT work")
        happened = False
        try:
            happened = self._do(waiting)
        except BaseException as problem:
            waiting.problem = problem
            waiting.counts = []
            self._forget_pending()
            if not self._raw.in_transaction:
                raise sqlite3.OperationalError(str(problem)) from problem
            self._raw.execute("ROLLBACK TO work")
        self._raw.execute("RELEASE work")
        return happened

    def _forget_pending(self) -> None:
        counting.take(self._connection)
        events.drop_pending(self._connection)

    @staticmethod
    def _count(batch: list[_Waiting], seconds: float) -> None:
        metrics.STORE_COMMIT_SECONDS.observe(seconds)
        metrics.STORE_COMMIT_WRITES.observe(len(batch))
        for waiting in batch:
            for count in waiting.counts:
                count()

    def _give_up(self, batch: list[_Waiting], problem: sqlite3.Error) -> None:
        if self._raw.in_transaction:
            self._raw.execute("ROLLBACK")
        metrics.STORE_FAILURES.add()
        for waiting in batch:
            waiting.problem = StoreUnavailable(str(problem))

    @staticmethod
    def _answer(batch: list[_Waiting]) -> None:
        loops: dict[asyncio.AbstractEventLoop, list[_Waiting]] = {}
        for waiting in batch:
            loops.setdefault(waiting.future.get_loop(), []).append(waiting)
        for loop, answered in loops.items():
            if not loop.is_closed():
                loop.call_soon_threadsafe(_resolve, answered)


def _resolve(answered: list[_Waiting]) -> None:
    for waiting in answered:
        if waiting.future.done():  # the caller was cancelled meanwhile
            continue
        if waiting.problem is not None:
            waiting.future.set_exception(waiting.problem)
        else:
            waiting.future.set_result(waiting.result)


def _engine(uri: str, pragmas: tuple[str, ...], **pool: Any) -> Engine:
    """Connections in autocommit mode: the transactions are ours, as the driver's own begin too late."""
    engine = create_engine(
        "sqlite://",
        creator=lambda: sqlite3.connect(uri, uri=True, check_same_thread=False, isolation_level=None),
        isolation_level="AUTOCOMMIT",
        **pool,
    )

    @event.listens_for(engine, "connect")
    def _prepare(connection: sqlite3.Connection, _record: object) -> None:
        for pragma in pragmas:
            connection.execute(f"PRAGMA {pragma}")

    return engine
