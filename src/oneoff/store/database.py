"""The one seam to the database: `await run(work)` writes, `await read(work)` reads. Every store function takes the
connection that these give it; nobody else opens one.

SQLite: one writer thread that commits many callers' work at once, and read-only readers. PostgreSQL: a pool in threads.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

from sqlalchemy import Connection as Connection
from sqlalchemy import create_engine
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError

from oneoff import metrics
from oneoff.errors import OneoffError, SettingsInvalid, StoreUnavailable
from oneoff.store import counting, events
from oneoff.store.bell import Bell
from oneoff.store.sqlite import SqliteDatabase

T = TypeVar("T")
Work = Callable[[Connection], T]

_POSTGRES_CONNECTIONS = 8


class Database(Protocol):
    """What the rest of Oneoff sees. `work` runs in another thread, once or (after a lost race with another server on
    PostgreSQL) again from the start: it must have no effects but those on its connection."""

    async def run(self, work: Work[T]) -> T:
        """Run `work` in a transaction; durable when it returns. An exception of `work` undoes its work only."""

    async def read(self, work: Work[T]) -> T:
        """Run `work` on a consistent, read-only view."""

    def on_events(self, tell: Callable[[], object]) -> None:
        """`tell` is called in the event loop of the caller after each commit of this process with events in it."""

    def close(self) -> None: ...


class PostgresDatabase:
    """A pool of connections, each used by one thread at a time. Committing is `synchronous_commit=on`, the default."""

    def __init__(self, url: str) -> None:
        self._engine = create_engine(
            _with_driver(url),
            pool_size=_POSTGRES_CONNECTIONS,
            max_overflow=0,
            pool_pre_ping=True,
            isolation_level="REPEATABLE READ",
        )
        self._threads = ThreadPoolExecutor(_POSTGRES_CONNECTIONS, "store")
        self._bell = Bell()

    @property
    def engine(self):  # type: ignore[no-untyped-def]
        return self._engine

    async def run(self, work: Work[T]) -> T:
        return await self._in_thread(work, is_write=True)

    async def read(self, work: Work[T]) -> T:
        return await self._in_thread(work, is_write=False)

    def on_events(self, tell: Callable[[], object]) -> None:
        self._bell.listen(tell)

    def close(self) -> None:
        self._threads.shutdown()
        self._engine.dispose()

    async def _in_thread(self, work: Work[T], *, is_write: bool) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._in_transaction, work, is_write)

    def _in_transaction(self, work: Work[T], is_write: bool) -> T:
        for _ in range(20):
            began = time.perf_counter()
            try:
                with self._engine.begin() as connection:
                    counting.take(connection)  # of a transaction that failed
                    events.drop_pending(connection)
                    result = work(connection)
                    happened = events.write_pending(connection)
                    counts = counting.take(connection)
            except OneoffError:
                raise
            except DBAPIError as problem:
                if getattr(problem.orig, "sqlstate", None) in _RETRY:
                    metrics.STORE_RETRIES.add()
                    continue
                if isinstance(problem, OperationalError) or problem.connection_invalidated:
                    metrics.STORE_FAILURES.add()
                    raise StoreUnavailable(str(problem.orig)) from problem
                raise
            if is_write:
                _count(counts, time.perf_counter() - began)
            if happened:
                self._bell.ring()
            return result
        raise StoreUnavailable("too many transactions at once touch the same rows")


def _count(counts: list[counting.Count], seconds: float) -> None:
    metrics.STORE_COMMIT_SECONDS.observe(seconds)
    metrics.STORE_COMMIT_WRITES.observe(1)
    for count in counts:
        count()


_RETRY = {"40001", "40P01"}  # serialization_failure, deadlock_detected: safe to run again from the start


def open_database(url: str) -> SqliteDatabase | PostgresDatabase:
    """`sqlite:///path` or `postgresql://…`. The schema is brought up to date by `oneoff.store.schema`. Raises
    SettingsInvalid."""
    try:
        return SqliteDatabase(url) if url.startswith("sqlite:") else PostgresDatabase(url)
    except DBAPIError as problem:  # "file is not a database", "unable to open database file"
        file = url.removeprefix("sqlite:///")
        mend = "restore it from a backup, or choose another data folder"
        raise SettingsInvalid([f"the database {file} cannot be opened: {problem.orig}; {mend}"]) from problem
    except (ArgumentError, ValueError) as problem:
        raise SettingsInvalid(["--database: write postgresql://USER@HOST/DATABASE"]) from problem
    except ModuleNotFoundError as problem:
        raise SettingsInvalid(["--database: PostgreSQL needs psycopg: pip install 'oneoff[postgres]'"]) from problem


def _with_driver(url: str) -> str:
    for scheme in ("postgresql://", "postgres://"):
        if url.startswith(scheme):
            return "postgresql+psycopg://" + url.removeprefix(scheme)
    return url
