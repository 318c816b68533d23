"""Two servers on one PostgreSQL, each with a node of its own: each forwards what runs on its node, and nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from oneoff.engine.forwarder import Forwarder
from oneoff.settings import Settings
from oneoff.store.database import open_database
from tests.engine.receivers import SyslogReceiver
from tests.engine.test_forwarder import Sending, going_run, numbered, write
from tests.engine.world import Server, World

pytestmark = pytest.mark.anyio


class House:
    """One server's machine: its data folder, its engine of containers, its hands on the clock that all have."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.sending = Sending(world)
        self.servers: list[Server] = []
        self.other: House | None = None

    async def start(self) -> None:
        node = self.world.engine.node
        self.servers.append(await Server(self.world, f"{node}-{len(self.servers)}").start())
        await self.sending.start(self.servers[-1])
        await self.sending.until(lambda: self.forwarder._is_following)

    @property
    def forwarder(self) -> Forwarder:
        assert self.sending.forwarder is not None
        return self.sending.forwarder

    async def crash(self) -> None:
        await self.sending.crash()
        await self.servers[-1].crash()

    async def run(self, service_id: str, *lines: str) -> str:
        """A going run of this house, which has written these lines."""
        run_id = await going_run(self.sending, service_id)
        while (await self.world.get(run_id)).node != self.world.engine.node:
            assert self.other is not None
            await self.other.finish(run_id)  # its server was quicker: both take from one queue
            run_id = await going_run(self.sending, service_id)
        write(self.sending, run_id, *lines)
        return run_id

    async def finish(self, *run_ids: str) -> None:
        for run_id in run_ids:
            self.world.engine.finish(run_id)
            await self.world.until_ended(run_id)


@pytest.fixture
async def houses(schema_url: str, tmp_path: Path, anyio_backend: str) -> AsyncIterator[tuple[House, House]]:
    made: list[House] = []
    for name in ("a", "b"):
        folder = tmp_path / name
        folder.mkdir()
        world = World(folder, Settings(data_dir=folder, slots=4))
        world.database.close()
        world.database = open_database(schema_url)
        world.engine.node = f"node-{name}"
        if made:
            world.clock, world.numbers = made[0].world.clock, made[0].world.numbers
            world.engine.now = world.clock.now
        else:
            await world.open()
        made.append(House(world))
    made[0].other, made[1].other = made[1], made[0]
    yield made[0], made[1]
    for house in made:
        if house.servers:
            await house.crash()
        house.world.database.close()


async def receiving() -> AsyncIterator[SyslogReceiver]:
    made = await SyslogReceiver().start()
    yield made
    await made.stop()


@pytest.fixture
async def receiver(anyio_backend: str) -> AsyncIterator[SyslogReceiver]:
    async for made in receiving():
        yield made


@pytest.fixture
async def own(anyio_backend: str) -> AsyncIterator[SyslogReceiver]:
    async for made in receiving():
        yield made


def check_each_once(receiver: SyslogReceiver, wanted: dict[str, list[str]]) -> None:
    assert {run_id: receiver.lines_of(run_id) for run_id in wanted} == wanted
    sent = Counter((each["run"], each["position"]) for each in receiver.messages)
    assert set(sent.values()) == {1}
    assert len(sent) == sum(len(lines) for lines in wanted.values())


async def test_each_line_is_sent_once_whichever_server_runs_it_also_over_their_restarts(
    houses: tuple[House, House], receiver: SyslogReceiver
) -> None:
    first, _ = houses
    service_id = await first.world.add_service("web")
    await first.sending.set_stream(endpoint=f"127.0.0.1:{receiver.port}")
    for house in houses:
        await house.start()
    runs = {await house.run(service_id, *numbered(20)): house for _ in range(3) for house in houses}
    wanted = {run_id: numbered(20) for run_id in runs}
    ended, going = list(runs)[:4], list(runs)[4:]
    for run_id in ended:
        await runs[run_id].finish(run_id)
    await first.sending.until(lambda: len(receiver.messages) >= 120, receiver.messages)
    assert receiver.connections == 2
    await first.sending.pass_time(100)  # confirmed, saved, and the marks have moved
    for house in houses:
        await house.crash()
    for run_id in going:
        write(runs[run_id].sending, run_id, "meanwhile")
        wanted[run_id] = [*wanted[run_id], "meanwhile"]
    for house in houses:
        await house.start()
    for run_id in going:
        await runs[run_id].finish(run_id)
    await first.sending.until(lambda: len(receiver.messages) >= 122)
    await first.sending.pass_time(100)
    await first.sending.until_unsent(0)
    check_each_once(receiver, wanted)


async def test_what_a_dead_server_s_runs_wrote_waits_for_it(
    houses: tuple[House, House], receiver: SyslogReceiver
) -> None:
    first, second = houses
    service_id = await first.world.add_service("web")
    await first.sending.set_stream(endpoint=f"127.0.0.1:{receiver.port}")
    for house in houses:
        await house.start()
    await second.sending.crash()
    unheard = await second.run(service_id, "unheard")
    await second.finish(unheard)
    heard = await first.run(service_id, "heard")
    await first.finish(heard)
    await first.sending.until(lambda: receiver.lines_of(heard))
    await first.sending.pass_time(200)  # the marks of the living one move on
    await second.crash()
    await second.start()
    await first.sending.until(lambda: receiver.lines_of(unheard))
    await first.sending.pass_time(100)
    check_each_once(receiver, {heard: ["heard"], unheard: ["unheard"]})


async def test_a_stream_that_is_set_at_one_server_is_that_of_the_other_s_next_run(
    houses: tuple[House, House], receiver: SyslogReceiver, own: SyslogReceiver
) -> None:
    first, second = houses
    service_id = await first.world.add_service("web")
    await first.sending.set_stream(endpoint=f"127.0.0.1:{receiver.port}")
    for house in houses:
        await house.start()
    first.world.clock.turn(1)
    await first.sending.set_stream(service_id, endpoint=f"127.0.0.1:{own.port}")
    first.world.clock.turn(1)
    run_id = await second.run(service_id, "for the service's own receiver")
    await second.finish(run_id)
    await first.sending.until(lambda: receiver.messages or own.messages)
    assert (own.lines_of(run_id), receiver.messages) == (["for the service's own receiver"], [])
    await first.sending.pass_time(60)
    check_each_once(own, {run_id: ["for the service's own receiver"]})
