"""A real server that kills itself with SIGKILL at the n-th point of a run's life. The crash tests start it.

    python -m tests.crash.crashing_server DATA DRIVER DOCKER_HOST PORT

A point lies before and behind each commit to the database and each call of the engine (for docker also each of its HTTP
requests). They are counted from SIGUSR1 on, only in what belongs to the run: not in the heartbeat and the janitor.
CRASH_AT=n kills at the n-th; CRASH_LOG=FILE lists the points that were passed.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from oneoff.drivers.docker.client import Call, Engine
from oneoff.drivers.driver import Driver
from oneoff.drivers.registry import DriverChoice, open_driver
from oneoff.server import Parts, serve
from oneoff.settings import load_settings
from oneoff.store.database import Database, open_database

_BACKGROUND = {"heart", "janitor"}


class Points:
    def __init__(self, crash_at: int, listing: Path) -> None:
        self._crash_at = crash_at
        self._listing = listing
        self._count = 0
        self.armed = False

    def passed(self, name: str) -> None:
        task = asyncio.current_task()
        if not self.armed or (task is not None and task.get_name() in _BACKGROUND):
            return
        self._count += 1
        with self._listing.open("a") as file:
            file.write(f"{name}\n")
        if self._count == self._crash_at:
            os.kill(os.getpid(), signal.SIGKILL)


class CountedDatabase:
    """Every transaction that writes."""

    def __init__(self, inner: Database, points: Points) -> None:
        self._inner = inner
        self._points = points

    async def run(self, work: Callable[..., Any]) -> Any:
        name = getattr(work, "__qualname__", "work").rpartition("<locals>.")[2]
        self._points.passed(f"before commit {name}")
        result = await self._inner.run(work)
        self._points.passed(f"behind commit {name}")
        return result

    async def read(self, work: Callable[..., Any]) -> Any:
        return await self._inner.read(work)

    def on_events(self, tell: Callable[[], None]) -> None:
        self._inner.on_events(tell)

    def close(self) -> None:
        self._inner.close()


class CountedDriver:
    """Every call of the driver that is awaited; `logs` at its first piece."""

    def __init__(self, inner: Driver, points: Points) -> None:
        self._inner = inner
        self._points = points

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._inner, name)
        if name in {"name", "capabilities"}:
            return attribute
        if name == "logs":
            return self._counted_logs
        return counted(attribute, name, self._points)

    async def _counted_logs(self, *arguments: Any) -> Any:
        self._points.passed("before logs")
        async for chunk in self._inner.logs(*arguments):
            self._points.passed("in logs")
            yield chunk


def counted(call: Callable[..., Any], name: str, points: Points) -> Callable[..., Any]:
    async def around(*arguments: Any, **options: Any) -> Any:
        points.passed(f"before {name}")
        result = await call(*arguments, **options)
        points.passed(f"behind {name}")
        return result

    return around


def count_requests(points: Points) -> None:
    """Docker: each HTTP request to the engine, which may have taken effect or not."""
    original = Engine.stream

    @asynccontextmanager
    async def stream(self: Engine, call: Call) -> AsyncIterator[Any]:
        words = call.path.strip("/").split("/")
        name = f"{call.method} {words[0]} {words[-1] if len(words) > 2 else ''}".strip()
        points.passed(f"before {name}")
        async with original(self, call) as response:
            points.passed(f"answered {name}")
            yield response

    Engine.stream = stream  # type: ignore[method-assign,assignment]


def main(data: str, driver: str, docker_host: str, port: str) -> int:
    points = Points(int(os.environ.get("CRASH_AT", "0")), Path(os.environ["CRASH_LOG"]))
    signal.signal(signal.SIGUSR1, lambda *_: setattr(points, "armed", True))
    count_requests(points)
    settings = load_settings(
        {"data_dir": data, "driver": driver, "docker_host": docker_host or None, "listen": f"127.0.0.1:{port}"}
    )

    async def open_counted_driver(choice: DriverChoice) -> Any:
        driver, facts = await open_driver(choice)
        return CountedDriver(driver, points), facts

    def open_counted_database(url: str) -> Any:
        return CountedDatabase(open_database(url), points)

    return serve(settings, Parts(open_counted_database, open_counted_driver))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
