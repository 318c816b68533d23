"""Logs go to their streams: at least once, in order, whatever receivers and servers do. A given clock, real sockets."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Connection, delete, func, select, update

from oneoff import metrics
from oneoff.core.log_stream import Framing, LogStreamKind, LogStreamProtocol, LogStreamSetting, Receiver
from oneoff.drivers.fake_engine import Script
from oneoff.engine.forwarder import FAILING, RECOVERED, Forwarder
from oneoff.engine.loop import keep_ticking
from oneoff.engine.spec import variables_place
from oneoff.engine.unsent import count_unsent_lines
from oneoff.errors import StoreUnavailable
from oneoff.logs.archive import compress_log
from oneoff.logs.folder import ARCHIVE, log_folder
from oneoff.sealing import Sealer
from oneoff.store import events, log_positions, log_streams, tables
from oneoff.store.events import EventFilter
from oneoff.store.log_stream_tables import log_positions as positions_table
from oneoff.store.log_streams import LogStream, LogStreamState
from tests.engine.receivers import OtlpReceiver, SyslogReceiver
from tests.engine.world import WORKSPACE, Server, World, eventually
from tests.monitoring.samples import Moved

pytestmark = pytest.mark.anyio


class Sending:
    """A world with a forwarder of its own server, and hands that turn the clock while something is waited for."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.server: Server | None = None
        self.forwarder: Forwarder | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self, server: Server) -> None:
        self.server = server
        self.forwarder = Forwarder(server.context)
        self._task = asyncio.create_task(keep_ticking(self.forwarder, self.world.clock))

    async def crash(self) -> None:
        """SIGKILL: nothing more is saved."""
        if self._task is not None and self.forwarder is not None:
            self._task.cancel()
            for task in self.forwarder._tasks.values():
                task.cancel()
            await asyncio.gather(self._task, *self.forwarder._tasks.values(), return_exceptions=True)
        self._task = None

    async def set_stream(self, scope_id: str = WORKSPACE, **values: Any) -> LogStream:
        endpoint = values.pop("endpoint", "127.0.0.1:1")
        receiver = values.pop(
            "receiver", Receiver(LogStreamKind.SYSLOG, endpoint, LogStreamProtocol.TCP, Framing.OCTETS)
        )
        now = self.world.clock.now()
        made = LogStream(
            id=f"lgs-{scope_id[4:]}", workspace_id=WORKSPACE, scope_id=scope_id,
            setting=LogStreamSetting.SEND if receiver else LogStreamSetting.DROP, receiver=receiver,
            token_sealed=None, ca_pem=None, created_at=now, updated_at=now,
        )  # fmt: skip
        await self.world.database.run(lambda c: log_streams.save_stream(c, made))
        if self.server is not None:
            self.server.signals.log_streams_changed()
        return made

    async def until(self, holds: Callable[[], Any], told: object = "it did not happen", step: float = 0.25) -> Any:
        async def turned() -> Any:
            self.world.clock.turn(step)
            found = holds()
            return await found if asyncio.iscoroutine(found) else found

        return await eventually(turned, str(told))

    async def pass_time(self, seconds: float) -> None:
        """What is saved meanwhile is saved, however slow the disk."""
        for _ in range(int(seconds * 2)):
            self.world.clock.turn(0.5)
            for _ in range(3):
                await asyncio.sleep(0.001)
            await self.world.database.run(lambda _: None)

    async def state(self, stream: LogStream) -> LogStreamState:
        states = await self.world.database.read(log_streams.fetch_states)
        return states.get(stream.id, [LogStreamState()])[0]

    async def unsent(self) -> int:
        query = select(func.count()).where(~positions_table.c.is_complete)
        return int(await self.world.database.read(lambda c: c.execute(query).scalar_one()))

    async def until_unsent(self, count: int) -> None:
        async def reached() -> bool:
            self.world.clock.turn(0.5)
            return await self.unsent() == count

        await eventually(reached, "its position is not complete")

    async def until_confirmed(self, run_id: str, receiver: SyslogReceiver) -> None:
        """All lines that it has, and this is saved."""
        query = select(positions_table.c.position).where(positions_table.c.run_id == run_id)
        behind = receiver.messages[-1]["position"]

        async def saved() -> bool:
            return await self.world.database.read(lambda c: c.execute(query).scalar()) == behind

        await self.until(saved, "its lines are not saved as sent")

    async def failing(self, stream: LogStream) -> bool:
        return (await self.state(stream)).failing_since is not None

    async def count_positions(self, count: int) -> bool:
        query = select(func.count()).select_from(positions_table)
        return await self.world.database.read(lambda c: c.execute(query).scalar_one()) == count

    async def events(self, kind: str) -> list[events.Event]:
        found = await self.world.database.read(
            lambda c: events.list_events(c, WORKSPACE, EventFilter((kind,)), 10, None)
        )
        return list(found)


@pytest.fixture
async def sending(world: World, start_server: Any) -> AsyncIterator[Sending]:
    made = Sending(world)
    yield made
    await made.crash()


@pytest.fixture
async def receiver() -> AsyncIterator[SyslogReceiver]:
    made = await SyslogReceiver().start()
    yield made
    await made.stop()


GOES_ON = Script(code=None)


async def going_run(sending: Sending, service_id: str, **more: Any) -> str:
    world = sending.world
    world.engine.default_script = GOES_ON
    run_id = await world.accept(service_id, **more)
    await world.until_status(run_id, "running")
    return run_id


async def ended_run(sending: Sending, service_id: str, *lines: str) -> str:
    """A run that has written these lines and ended."""
    run_id = await going_run(sending, service_id)
    write(sending, run_id, *lines)
    sending.world.engine.finish(run_id)
    await sending.world.until_ended(run_id)
    return run_id


def write(sending: Sending, run_id: str, *lines: str) -> None:
    for line in lines:
        sending.world.engine.emit(run_id, "stdout", line.encode() + b"\n")


async def start(sending: Sending, start_server: Any, receiver: SyslogReceiver) -> tuple[str, LogStream]:
    """A service whose runs go to the receiver."""
    service_id = await sending.world.add_service("web")
    stream = await sending.set_stream(endpoint=f"127.0.0.1:{receiver.port}")
    await sending.start(await start_server())
    return service_id, stream


def numbered(count: int, first: int = 0) -> list[str]:
    return [f"line {number}" for number in range(first, first + count)]


async def test_lines_arrive_while_the_run_goes_and_count_as_sent_when_their_connection_lived_on(
    sending: Sending, receiver: SyslogReceiver, start_server: Any
) -> None:
    service_id, stream = await start(sending, start_server, receiver)
    run_id = await going_run(sending, service_id)
    write(sending, run_id, "one")
    sending.world.engine.emit(run_id, "stderr", b"half a ")
    sending.world.engine.emit(run_id, "stdout", b"two\nth")
    await sending.until(lambda: receiver.lines_of(run_id) == ["one", "two"])
    sending.world.engine.emit(run_id, "stdout", b"ree")
    sending.world.engine.emit(run_id, "stderr", b"line\n")
    sending.world.engine.finish(run_id)
    await sending.until(lambda: len(receiver.lines_of(run_id)) == 4, receiver.messages)
    found = {each["text"]: each["stream"] for each in receiver.messages}
    assert found == {"one": "stdout", "two": "stdout", "half a line": "stderr", "three": "stdout"}
    await sending.pass_time(20)
    assert await sending.unsent() == 1
    await sending.pass_time(15)
    await sending.until_unsent(0)
    state = await sending.state(stream)
    assert (state.lines_sent, state.lag_bytes, state.last_error) == (4, 0, None)
    assert receiver.connections == 1


async def test_a_run_that_nobody_heard_of_before_a_crash_is_found_afterwards(
    sending: Sending, receiver: SyslogReceiver, start_server: Any
) -> None:
    service_id, _ = await start(sending, start_server, receiver)
    await sending.until(lambda: sending.forwarder and sending.forwarder._deliveries)
    await sending.crash()
    run_id = await ended_run(sending, service_id, "one", "two")
    going = await going_run(sending, service_id)
    write(sending, going, "three")
    await sending.start(await start_server())
    await sending.until(lambda: receiver.lines_of(run_id) == ["one", "two"])
    await sending.until(lambda: receiver.lines_of(going) == ["three"])


async def test_what_was_not_confirmed_before_a_crash_is_sent_again_and_nothing_else(
    sending: Sending, receiver: SyslogReceiver, start_server: Any
) -> None:
    service_id, _ = await start(sending, start_server, receiver)
    run_id = await going_run(sending, service_id)
    write(sending, run_id, *numbered(3))
    await sending.until(lambda: len(receiver.messages) == 3)
    await sending.until_confirmed(run_id, receiver)
    write(sending, run_id, *numbered(2, 3))
    await sending.until(lambda: len(receiver.messages) == 5)
    await sending.crash()
    await sending.start(await start_server())
    await sending.until(lambda: len(receiver.messages) == 7)
    assert [each["text"] for each in receiver.messages] == [*numbered(5), *numbered(2, 3)]


async def test_a_receiver_that_was_away_gets_everything_in_order_when_it_comes_back(
    sending: Sending, receiver: SyslogReceiver, start_server: Any
) -> None:
    await receiver.stop()
    service_id, stream = await start(sending, start_server, receiver)
    runs = [await ended_run(sending, service_id, *numbered(50)) for _ in range(3)]
    await sending.until(lambda: sending.failing(stream))
    assert "refused" in (await sending.state(stream)).last_error.lower()
    await receiver.start()
    for run_id in runs:
        await sending.until(lambda run_id=run_id: receiver.lines_of(run_id) == numbered(50), step=5)


async def test_what_was_sent_on_a_connection_that_breaks_is_sent_again(
    sending: Sending, receiver: SyslogReceiver, start_server: Any
) -> None:
    receiver.resets_after = 40
    service_id, _ = await start(sending, start_server, receiver)
    run_id = await ended_run(sending, service_id, *numbered(100))
    await sending.until(lambda: receiver.connections > 1, step=2)
    receiver.resets_after = None
    await sending.until(lambda: receiver.lines_of(run_id) == numbered(100), step=2)
    # A restart while all is quiet: the lines of the last seconds are doubtful.
    count = len(receiver.messages)
    await receiver.stop()
    await receiver.start()
    await sending.until(lambda: len(receiver.messages) >= count + 100, step=2)


async def test_a_receiver_that_hangs_delays_no_other_stream(
    sending: Sending, receiver: SyslogReceiver, start_server: Any
) -> None:
    hanging = await SyslogReceiver().start()
    hanging.hangs = True
    first, _ = await start(sending, start_server, receiver)
    second = await sending.world.add_service("worker")
    await sending.set_stream(second, endpoint=f"127.0.0.1:{hanging.port}")
    await sending.until(lambda: len(sending.forwarder._deliveries) == 2)
    bad = await ended_run(sending, second, "x" * 2_000_000, "x" * 2_000_000)
    good = await ended_run(sending, first, "one")
    await sending.until(lambda: receiver.lines_of(good) == ["one"])
    assert receiver.lines_of(bad) == []
    hanging.hangs = False
    await sending.until(lambda: len(hanging.lines_of(bad)) == 2)
    await hanging.stop()


async def test_runs_made_before_the_stream_are_not_sent_and_a_service_may_have_its_own_or_none(
    sending: Sending, receiver: SyslogReceiver, start_server: Any
) -> None:
    other = await SyslogReceiver().start()
    services = [await sending.world.add_service(name) for name in ("web", "worker", "noisy")]
    await sending.start(await start_server())
    before = await going_run(sending, services[0])
    write(sending, before, "before")
    sending.world.clock.turn(1)
    await sending.set_stream(endpoint=f"127.0.0.1:{receiver.port}")
    await sending.set_stream(services[1], endpoint=f"127.0.0.1:{other.port}")
    await sending.set_stream(services[2], receiver=None)
    sending.world.clock.turn(1)
    runs = [await ended_run(sending, service_id, name) for service_id, name in zip(services, "abc", strict=True)]
    await sending.until(lambda: receiver.lines_of(runs[0]) == ["a"] and other.lines_of(runs[1]) == ["b"])
    sending.world.engine.finish(before)
    await sending.pass_time(5)
    assert len(receiver.messages) == len(other.messages) == 1
    await other.stop()


async def test_a_stream_that_is_deleted_gets_no_more_and_a_changed_one_goes_on_at_its_new_address(
    sending: Sending, receiver: SyslogReceiver, start_server: Any
) -> None:
    other = await SyslogReceiver().start()
    service_id, _ = await start(sending, start_server, receiver)
    run_id = await going_run(sending, service_id)
    write(sending, run_id, "one")
    await sending.until(lambda: receiver.lines_of(run_id) == ["one"])
    await sending.until_confirmed(run_id, receiver)
    await sending.set_stream(endpoint=f"127.0.0.1:{other.port}")
    await sending.until(lambda: [each.name for each in sending.forwarder._deliveries.values()] == [other.address])
    write(sending, run_id, "two")
    await sending.until(lambda: other.lines_of(run_id) == ["two"])
    await sending.world.database.run(lambda c: log_streams.delete_stream(c, WORKSPACE))
    sending.server.signals.log_streams_changed()
    await sending.until(lambda: not sending.forwarder._deliveries)
    write(sending, run_id, "three")
    await sending.pass_time(5)
    assert len(receiver.messages) == len(other.messages) == 1
    assert await sending.unsent() == 0
    await other.stop()


async def test_secrets_are_masked_also_where_they_come_in_pieces(
    sending: Sending, receiver: SyslogReceiver, start_server: Any
) -> None:
    service_id, _ = await start(sending, start_server, receiver)
    sending.world.secrets = {"KEY": "correct-horse"}
    run_id = await going_run(sending, service_id)
    for piece in (b"key=corr", b"ect-ho", b"rse done\ncor"):
        sending.world.engine.emit(run_id, "stdout", piece)
        await sending.pass_time(1)
    sending.world.engine.finish(run_id)
    await sending.until(lambda: len(receiver.lines_of(run_id)) == 2)
    assert receiver.lines_of(run_id) == ["key=************* done", "cor"]


async def test_a_run_whose_secrets_cannot_be_known_sends_no_line_and_holds_up_nobody(
    sending: Sending, receiver: SyslogReceiver, start_server: Any
) -> None:
    world = sending.world
    service_id, stream = await start(sending, start_server, receiver)
    await sending.until(lambda: sending.forwarder and sending.forwarder._deliveries)
    await sending.crash()
    world.secrets = {"KEY": "correct-horse"}
    bad, good = await going_run(sending, service_id), await going_run(sending, service_id)
    box = Sealer(b"x" * 32).seal(b"{}", variables_place(bad))
    await world.database.run(
        lambda c: c.execute(update(tables.runs).where(tables.runs.c.id == bad).values(variables_sealed=box)) and None
    )
    for run_id in (bad, good):
        write(sending, run_id, "it is correct-horse", "and more")
    await sending.start(sending.server)
    await sending.until(lambda: receiver.lines_of(good) == ["it is *************", "and more"])
    write(sending, bad, "correct-horse again")
    for run_id in (bad, good):
        world.engine.finish(run_id)
    await sending.until(lambda: sum(int(each.get("dropped", 0)) for each in receiver.messages) == 3, receiver.messages)
    assert {each["text"].partition(": ")[2] for each in receiver.messages if each["run"] == bad} == {
        "secrets in them could not be masked"
    }
    await sending.pass_time(40)
    await sending.until_unsent(0)
    state = await sending.state(stream)
    assert (state.lines_dropped, state.failing_since) == (3, None)
    assert state.last_error == f"the lines of {bad} are dropped: its variables cannot be opened"


async def test_a_log_that_cannot_be_read_holds_up_no_other_and_is_sent_when_it_can(
    sending: Sending, receiver: SyslogReceiver, start_server: Any
) -> None:
    service_id, stream = await start(sending, start_server, receiver)
    await sending.until(lambda: sending.forwarder and sending.forwarder._deliveries)
    await sending.crash()
    bad, good = [await ended_run(sending, service_id, "one", "two") for _ in range(2)]
    folder = log_folder(sending.world.settings.logs_dir, bad)
    compress_log(folder)
    archive, whole = folder / ARCHIVE, (folder / ARCHIVE).read_bytes()
    archive.write_bytes(b"damaged" * 9)
    await sending.start(sending.server)
    await sending.until(lambda: receiver.lines_of(good) == ["one", "two"])
    await sending.pass_time(10)
    assert receiver.lines_of(bad) == []
    state = await sending.state(stream)
    assert (state.failing_since, bad in str(state.last_error)) == (None, True)
    assert await count_unsent_lines(sending.server.context, [bad]) == {}, "the history may drop it all the same"
    archive.write_bytes(whole)
    await sending.until(lambda: receiver.lines_of(bad) == ["one", "two"], step=5)


async def test_runs_share_the_connection_fairly(sending: Sending, receiver: SyslogReceiver, start_server: Any) -> None:
    await receiver.stop()
    service_id, _ = await start(sending, start_server, receiver)
    large = await ended_run(sending, service_id, *("x" * 1_000 for _ in range(4_000)))
    small = await ended_run(sending, service_id, "small")
    await receiver.start()
    await sending.until(lambda: len(receiver.lines_of(large)) == 4_000, step=2)
    order = [each["run"] for each in receiver.messages]
    assert order.index(small) < 1_000


async def test_lasting_failure_and_recovery_are_events(
    sending: Sending, receiver: SyslogReceiver, start_server: Any
) -> None:
    await receiver.stop()
    service_id, stream = await start(sending, start_server, receiver)
    await ended_run(sending, service_id, "one")
    await sending.until(lambda: sending.failing(stream))
    await sending.pass_time(200)
    assert await sending.events(FAILING) == []
    await sending.until(lambda: sending.events(FAILING), step=5)
    await receiver.start()
    await sending.until(lambda: sending.events(RECOVERED), step=5)
    [event] = await sending.events(FAILING)
    assert event.body["name"] == stream.receiver.endpoint
    assert (await sending.state(stream)).failing_since is None


async def test_what_the_history_drops_and_what_is_beyond_the_budget_is_told_in_a_line(
    sending: Sending, receiver: SyslogReceiver, start_server: Any
) -> None:
    world = sending.world
    world.settings = replace(world.settings, log_stream_budget_bytes=3_000)
    await receiver.stop()
    moved = Moved()
    service_id, stream = await start(sending, start_server, receiver)
    gone = await ended_run(sending, service_id, *numbered(7))
    await sending.until(lambda: sending.failing(stream))
    counts = await count_unsent_lines(sending.server.context, [gone])
    assert counts == {gone: 7}

    def forget(connection: Connection) -> None:
        log_positions.drop(connection, counts)
        connection.execute(delete(tables.runs).where(tables.runs.c.id == gone))

    await world.database.run(forget)
    shutil.rmtree(log_folder(world.settings.logs_dir, gone))
    large = await ended_run(sending, service_id, *("x" * 99 for _ in range(50)))
    last = await ended_run(sending, service_id, "last")
    await sending.crash()
    await sending.start(await start_server())

    async def knows_of_all() -> bool:
        return (await sending.state(stream)).lag_bytes > 5_000

    await sending.until(knows_of_all)
    await receiver.start()
    await sending.until(lambda: receiver.lines_of(last) == ["last"], receiver.messages, step=5)
    await sending.until(lambda: receiver.lines_of(gone) == ["7 lines dropped"], receiver.messages, step=5)
    await sending.until(lambda: receiver.lines_of(large) == ["50 lines dropped"], receiver.messages, step=5)
    await sending.pass_time(40)
    await sending.until_unsent(0)
    assert (await sending.state(stream)).lines_dropped == 57
    assert moved.by('oneoff_log_stream_lines_total{outcome="dropped"}') == 57
    assert moved.by('oneoff_log_stream_lines_total{outcome="sent"}') >= 3
    assert moved.by("oneoff_log_stream_failures_total") >= 1
    assert metrics.LOG_STREAM_LAG_BYTES.value() == 0


async def test_positions_are_forgotten_when_nobody_needs_them(
    sending: Sending, receiver: SyslogReceiver, start_server: Any
) -> None:
    service_id, _ = await start(sending, start_server, receiver)
    run_id = await ended_run(sending, service_id, "one")
    await sending.until(lambda: receiver.lines_of(run_id))
    await sending.until(lambda: sending.count_positions(0), step=5)
    await sending.crash()
    await sending.start(await start_server())
    await sending.pass_time(5)
    assert len(receiver.messages) == 1


async def test_otlp_counts_as_sent_what_is_answered_and_asks_again_what_is_not(
    sending: Sending, start_server: Any
) -> None:
    otlp = await OtlpReceiver().start()
    otlp.answers = [(503, {}), (429, {"Retry-After": "7"})]
    stream = await sending.set_stream(receiver=Receiver(LogStreamKind.OTLP, f"http://127.0.0.1:{otlp.port}/v1/logs"))
    await sending.start(await start_server())
    service_id = await sending.world.add_service("web")
    run_id = await ended_run(sending, service_id, *numbered(20))
    await sending.until(lambda: otlp.lines_of(run_id) == numbered(20))
    await sending.until_unsent(0)
    # A line that the receiver never takes holds up none of the others.
    otlp.refuses_text = "poison"
    bad = await ended_run(sending, service_id, *numbered(5), "poison", *numbered(5, 5))
    await sending.until(lambda: otlp.lines_of(bad) == numbered(10))
    await sending.until_unsent(0)
    state = await sending.state(stream)
    assert state.lines_dropped == 1
    assert "refused 1 line" in state.last_error
    await otlp.stop()


async def test_a_stream_that_another_server_sets_while_they_are_looked_at_is_no_failure(
    sending: Sending, receiver: SyslogReceiver, start_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    service_id = await sending.world.add_service("web")
    await sending.set_stream()
    take_up_missed = Forwarder._take_up_missed
    looks = 0

    async def look(forwarder: Forwarder) -> None:
        nonlocal looks
        looks += 1
        if looks == 1:
            await sending.set_stream(service_id, endpoint=f"127.0.0.1:{receiver.port}")
        await take_up_missed(forwarder)

    monkeypatch.setattr(Forwarder, "_take_up_missed", look)
    moved = Moved()
    await sending.start(await start_server())
    await sending.until(lambda: looks > 1)
    run_id = await ended_run(sending, service_id, "one")
    await sending.until(lambda: receiver.lines_of(run_id) == ["one"])
    assert moved.by('oneoff_agent_failures_total{agent="forwarder"}') == 0


@pytest.mark.parametrize("where", ["_take_up_missed", "_take_up", "_refill", "_stop"])
async def test_a_database_that_is_away_for_a_moment_costs_no_line(
    sending: Sending, receiver: SyslogReceiver, start_server: Any, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    away = DatabaseAway(monkeypatch, where)
    service_id = await sending.world.add_service("web")
    stream = {"endpoint": f"127.0.0.1:{receiver.port}"}
    await sending.set_stream(**stream)
    server = await start_server()
    runs = [await ended_run(sending, service_id, "one")]
    await sending.start(server)
    await sending.until(lambda: away.told or receiver.lines_of(runs[0]) == ["one"])
    if where == "_stop":
        await sending.set_stream(**stream)
    runs.append(await ended_run(sending, service_id, "one"))
    await sending.until(lambda: away.told)
    away.is_away = False
    for run_id in runs:
        await sending.until(lambda run_id=run_id: receiver.lines_of(run_id) == ["one"])


class DatabaseAway:
    """What this step of the forwarder asks is not answered."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
        self.told = False
        self.is_away = True
        self._asking: Any = None
        for name, is_step in ((step, True), ("_save", False)):
            monkeypatch.setattr(Forwarder, name, self._watched(getattr(Forwarder, name), is_step=is_step))

    def _watched(self, method: Any, *, is_step: bool) -> Any:
        async def watched(forwarder: Forwarder, *arguments: Any) -> Any:
            if is_step and arguments != ([],):
                self._asking = asyncio.current_task()
            database = forwarder._context.database
            try:
                with pytest.MonkeyPatch.context() as patch:
                    for name in ("run", "read"):
                        patch.setattr(database, name, self._asked(getattr(database, name)))
                    return await method(forwarder, *arguments)
            finally:
                self._asking = None if is_step else self._asking

        return watched

    def _asked(self, ask: Any) -> Any:
        async def asked(work: Any) -> Any:
            if self._asking is asyncio.current_task() and self.is_away:
                self.told = True
                raise StoreUnavailable("it is away")
            return await ask(work)

        return asked
