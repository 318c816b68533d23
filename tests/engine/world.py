"""A server's engine on a real SQLite file, the fake driver and a clock whose hands the test turns."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, func, insert, select

from oneoff.core.clock import to_us
from oneoff.core.ids import make_id
from oneoff.core.outcome import StopKind
from oneoff.core.run import Run, RunStatus, Trigger
from oneoff.drivers.fake import FakeDriver, FakeEngine
from oneoff.engine.context import Context
from oneoff.engine.dispatcher import Dispatcher
from oneoff.engine.executor import Executor
from oneoff.engine.janitor import Janitor
from oneoff.engine.loop import keep_ticking
from oneoff.engine.rescuer import Rescuer
from oneoff.engine.signals import Signals
from oneoff.engine.spec import variables_place
from oneoff.logs.folder import log_folder
from oneoff.logs.reader import LogReader
from oneoff.sealing import Sealer
from oneoff.settings import Settings
from oneoff.store import runs, tables
from oneoff.store.schema import upgrade
from oneoff.store.sqlite import SqliteDatabase

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
WORKSPACE = "tea-" + "0" * 20
IMAGE = "registry.example.com/shop/web:42"
DIGEST = "sha256:" + "a" * 64
_AGENTS = ("dispatcher", "rescuer")  # each sleeps between its ticks, as does the watch of each running run


class TurnedClock:
    """Stands still until `turn`."""

    def __init__(self) -> None:
        self._now = START
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._numbers = itertools.count()

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return (self._now - START).total_seconds()

    async def sleep(self, seconds: float) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self.monotonic() + seconds, next(self._numbers), future))
        await future

    @property
    def sleeping(self) -> int:
        """How many sleep now."""
        return sum(not future.done() for _, _, future in self._sleepers)

    def turn(self, seconds: float) -> None:
        """Let time pass; whoever's sleep is over wakes."""
        self._now += timedelta(seconds=seconds)
        while self._sleepers and self._sleepers[0][0] <= self.monotonic():
            _, _, future = heapq.heappop(self._sleepers)
            if not future.done():
                future.set_result(None)


@dataclass
class World:
    """What outlives a server: the data folder, the engine of containers, the clock."""

    folder: Path
    settings: Settings
    clock: TurnedClock = field(default_factory=TurnedClock)
    numbers: Any = field(default_factory=itertools.count)
    signals: list[Signals] = field(default_factory=list)  # of the servers alive
    secrets: dict[str, str] = field(default_factory=dict)  # variables of runs accepted from now on

    def __post_init__(self) -> None:
        self.engine = FakeEngine(now=self.clock.now)
        self.engine.kills_by_itself = False
        self.engine.add_image(IMAGE, DIGEST)
        self.database = SqliteDatabase(f"sqlite:///{self.folder / 'oneoff.db'}")
        self.sealer = Sealer(b"k" * 32)

    async def open(self) -> None:
        await self.database.run(upgrade)

        def work(c: Connection) -> None:
            now = to_us(START)
            c.execute(insert(tables.workspaces).values(id=WORKSPACE, name="w", plan="team", created_at=now))
            c.execute(insert(tables.projects).values(id="prj", workspace_id=WORKSPACE, name="shop", created_at=now))
            c.execute(insert(tables.environments).values(id="evm", project_id="prj", name="production", created_at=now))

        await self.database.run(work)

    async def add_service(self, name: str) -> str:
        service_id = make_id("service", START, next(self.numbers).to_bytes(8))
        row = {
            "id": service_id, "workspace_id": WORKSPACE, "environment_id": "evm", "name": name,
            "path": f"shop/production/{name}", "type": "web_service", "instance_type": "plan-srv-006",
            "networks": "[]", "entrypoint": '"keep"', "capabilities": "[]", "read_only_root": False,
            "suspended": False, "created_at": to_us(START),
        }  # fmt: skip
        await self.database.run(lambda c: c.execute(insert(tables.services).values(row)) and None)
        return service_id

    async def accept(
        self,
        service_id: str,
        *argv: str,
        trigger: Trigger = Trigger.API,
        timeout: int = 3600,
        also: Callable[[Connection, str], None] = lambda *_: None,
    ) -> str:
        """A queued run, as the operations write it, with what `also` adds in the same transaction."""
        run_id = make_id("run", self.clock.now(), next(self.numbers).to_bytes(8))
        nothing: dict[str, Any] = dict.fromkeys(Run._fields)
        run = Run(
            **{
                **nothing, "id": run_id, "workspace_id": WORKSPACE, "service_id": service_id,
                "service": "shop/production", "attempt": 1,
                "trigger": trigger, "actor": "tester",
                "status": RunStatus.QUEUED, "oom_seen": False,
                "command": argv or ("true",), "entrypoint": "keep",
                "image": IMAGE, "image_ref": IMAGE, "digest": DIGEST,
                "instance_type": "plan-srv-006", "timeout_seconds": timeout, "grace_seconds": 10,
                "created_at": self.clock.now(), "stdout_bytes": 0, "stderr_bytes": 0, "missing_bytes": 0,
            }
        )  # fmt: skip
        variables = self.sealer.seal(
            json.dumps({"variables": {"A": "1", **self.secrets}, "secret": list(self.secrets)}).encode(),
            variables_place(run_id),
        )

        def save(connection: Connection) -> None:
            runs.save_new(connection, run, variables)
            also(connection, run_id)

        await self.database.run(save)
        for signals in self.signals:
            signals.run_accepted()
        return run_id

    async def get(self, run_id: str) -> Run:
        return await self.database.read(lambda c: runs.get_run(c, run_id))

    async def cancel(self, run_id: str) -> bool:
        now = self.clock.now()
        asked = await self.database.run(lambda c: runs.request_stop(c, run_id, StopKind.CANCEL, "tester", now))
        for signals in self.signals:
            signals.run_changed(run_id)
        return asked

    def output(self, run_id: str) -> dict[str, bytes]:
        found = {"stdout": b"", "stderr": b""}
        with LogReader(log_folder(self.settings.logs_dir, run_id)) as reader:
            while records := reader.read():
                for record in records:
                    found[record.stream] += record.data
        return found

    async def until_status(self, run_id: str, *statuses: str) -> Run:
        async def reached() -> Run | None:
            run = await self.get(run_id)
            return run if run.status in statuses else None

        return await eventually(reached, f"{run_id} did not become {statuses}: {await self.get(run_id)}")

    async def until_noticed(self, run_id: str) -> Run:
        """A run of the one server there is, when all have done what is due by the clock, and sleep; or an ended one."""
        going = select(func.count()).select_from(tables.runs).where(tables.runs.c.status == RunStatus.RUNNING)

        async def noticed() -> Run | None:
            run = await self.get(run_id)
            watches = await self.database.read(lambda c: c.execute(going).scalar_one())
            return run if run.status.is_final or self.clock.sleeping == len(_AGENTS) + watches else None

        found: Run = await eventually(noticed, "somebody does not come to rest")
        return found

    async def until_ended(self, run_id: str) -> Run:
        return await self.until_status(run_id, "succeeded", "failed", "canceled")


class Server:
    """One server's life on a world. `crash` is SIGKILL: its tasks stop where they are, and nothing is tidied."""

    def __init__(self, world: World, lease: str, node: str | None = None) -> None:
        self.world = world
        self.signals = Signals()
        self.driver = FakeDriver("test", world.engine)
        self._node = node
        self._lease = lease
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> Server:
        facts = await self.driver.check()
        context = Context(
            settings=self.world.settings, database=self.world.database, driver=self.driver,
            facts=replace(facts, node=self._node or facts.node), sealer=self.world.sealer, clock=self.world.clock,
            signals=self.signals, instance="test", workspace_id=WORKSPACE, lease=self._lease,
        )  # fmt: skip
        self.context = context
        self.dispatcher = Dispatcher(context, Executor(context))
        self.rescuer = Rescuer(context, self.dispatcher)
        self.janitor = Janitor(context, self.dispatcher)
        await self.rescuer.tick()
        self.world.signals.append(self.signals)
        self._tasks = [asyncio.create_task(keep_ticking(a, self.world.clock)) for a in (self.dispatcher, self.rescuer)]
        return self

    async def crash(self) -> None:
        if self.signals in self.world.signals:
            self.world.signals.remove(self.signals)
        for task in self._tasks:
            task.cancel()
        await self.dispatcher.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def eventually(found: Callable[[], Any], why: str = "it did not happen") -> Any:
    """What `found` returns once it is true. Other threads work meanwhile, so this polls real time, briefly."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        result = found()
        if asyncio.iscoroutine(result):
            result = await result
        if result:
            return result
        await asyncio.sleep(0.002)
    raise AssertionError(why)
