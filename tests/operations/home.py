"""A Context as a server has it: a real database of either kind, the fake driver, and nearly the real clock."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from oneoff.core.outcome import Outcome
from oneoff.core.run import Reason, RunStatus
from oneoff.core.service import ServiceType
from oneoff.drivers.fake import FakeDriver, FakeEngine
from oneoff.engine.context import Context
from oneoff.engine.loop import SystemClock
from oneoff.engine.signals import Signals
from oneoff.logs.folder import LogEnd, log_folder, write_end
from oneoff.logs.writer import LogWriter
from oneoff.operations.installation import set_up
from oneoff.operations.services import NewService, Service, create_service
from oneoff.sealing import Sealer
from oneoff.settings import Settings
from oneoff.store import runs
from oneoff.store.database import open_database
from oneoff.store.runs import End, Placement
from oneoff.store.schema import upgrade

IMAGE = "registry.example.com/shop/web:42"
NEXT_IMAGE = "registry.example.com/shop/web:43"
DIGEST = "sha256:" + "a" * 64
NEXT_DIGEST = "sha256:" + "b" * 64
LEASE = "this-server"


class GrowingClock(SystemClock):
    """The real one, but no two readings are of one millisecond: so ids sort as they were made. It waits for the next
    one rather than run ahead, as its times are compared with those of other clocks."""

    def __init__(self) -> None:
        self._told = datetime.min.replace(tzinfo=UTC)
        self._reading = threading.Lock()

    def now(self) -> datetime:
        with self._reading:
            earliest = self._told + timedelta(milliseconds=1)
            if timedelta(0) < (left := earliest - super().now()) <= timedelta(milliseconds=1):
                time.sleep(left.total_seconds())
            self._told = max(super().now(), earliest)  # it may have been set back
            return self._told


@dataclass
class Home:
    """What a test works with. `close` ends it."""

    context: Context
    engine: FakeEngine
    folder: Path

    @property
    def admin_token(self) -> str:
        return (self.folder / "admin-token").read_text().strip()

    async def add_service(self, path: str = "shop/production/web", image: str | None = IMAGE) -> Service:
        return await create_service(self.context, NewService(path, ServiceType.WEB_SERVICE, image, None), "tester")

    def write_log(self, run_id: str, *pieces: tuple[str, bytes], ended: bool = False) -> None:
        """Append to a run's log as the engine does."""
        folder = log_folder(self.context.settings.logs_dir, run_id)
        writer = LogWriter(folder, self.context.settings.log_cap_bytes)
        for stream, data in pieces:
            writer.append(stream, 1_700_000_000_000_000, data)
        writer.close()
        if ended:
            write_end(folder, LogEnd(writer.stdout_bytes, writer.stderr_bytes, 0))

    async def start(self, run_id: str) -> None:
        """queued -> running, as the engine writes it."""
        now, node = self.context.clock.now(), self.context.facts.node
        placement = Placement(node, "fake", f"oneoff-{run_id}", LEASE)
        assert await self.context.database.run(lambda c: runs.start_if_queued(c, run_id, placement, now))
        assert await self.context.database.run(lambda c: runs.run_if_leased(c, run_id, LEASE, now))
        self.context.signals.run_changed(run_id)

    async def finish(self, run_id: str) -> None:
        """running -> succeeded, as the engine writes it."""
        end = End(Outcome(RunStatus.SUCCEEDED, Reason.COMPLETED, 0), self.context.clock.now())
        assert await self.context.database.run(lambda c: runs.end_if_leased(c, run_id, LEASE, end))
        self.context.signals.run_changed(run_id)

    def close(self) -> None:
        self.context.database.close()


async def open_home(folder: Path, database_url: str | None = None) -> Home:
    settings = Settings(data_dir=folder, database_url=database_url, disk_reserve_bytes=0)
    database = open_database(settings.store_url)
    await database.run(upgrade)
    signals = Signals()
    database.on_events(signals.events_happened)
    sealer, clock = Sealer(b"k" * 32), GrowingClock()
    installed = await set_up(database, sealer, clock, folder)
    engine = FakeEngine(now=clock.now)  # whether an end was asked for before is told by comparing times
    engine.add_image(IMAGE, DIGEST)
    engine.add_image(NEXT_IMAGE, NEXT_DIGEST)
    driver = FakeDriver(installed.instance, engine)
    context = Context(
        settings=settings,
        database=database,
        driver=driver,
        facts=await driver.check(),
        sealer=sealer,
        clock=clock,
        signals=signals,
        instance=installed.instance,
        workspace_id=installed.workspace_id,
        lease=LEASE,
    )
    return Home(context, engine, folder)
