"""Engines that are killed, lose things or answer nothing: the truth or an error, and never a second start."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from oneoff.drivers.docker.driver import DockerDriver
from oneoff.drivers.driver import ContainerState, LogPosition, Resources
from oneoff.drivers.registry import DriverChoice, open_driver
from oneoff.errors import (
    AlreadyStarted,
    ContainerExists,
    DriverUnavailable,
    EngineUnavailable,
    ExitUnknown,
)
from tests.drivers import commands
from tests.drivers.bench import INSTANCE, Bench
from tests.drivers.proxy import Proxy
from tests.drivers.rigs import Rig
from tests.engine.world import eventually
from tests.rig import images, process
from tests.rig.dockerd import Dockerd, private_dockerd

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dockerd]:
    """One that may be killed: nobody else uses it."""
    runsc = tmp_path_factory.mktemp("runsc") / "runsc-offline"
    # gVisor's own network stack cannot be set up by this old runsc on every kernel; a runtime is found all the same.
    runsc.write_text('#!/bin/sh\nexec runsc --network=none "$@"\n')
    runsc.chmod(0o755)
    options = (f"--add-runtime=runsc-offline={runsc}",)
    with private_dockerd(tmp_path_factory.mktemp("killed"), live_restore=True, options=options) as engine:
        yield engine


@pytest.fixture
async def bench(anyio_backend: str, engine: Dockerd, tmp_path: Path) -> AsyncIterator[Bench]:
    refs = {tag: images.image_ref(tag) for tag in images.TAGS}
    rig = Rig("docker", lambda instance: DockerDriver(instance, engine.host), refs)
    driver = rig.make(INSTANCE)
    await driver.check()
    bench = Bench(rig, driver, tmp_path)
    yield bench
    await bench.close()


async def test_an_engine_started_anew_cannot_vouch_that_there_was_no_start(bench: Bench, engine: Dockerd) -> None:
    known, forgotten = [await bench.create(commands.TRUE) for _ in range(2)]
    after_a_crash = bench.another_driver()
    await after_a_crash.remove(known, force=False)
    engine.kill9()
    engine.start()
    with pytest.raises(ExitUnknown, match="nobody can tell whether it was started"):
        await after_a_crash.remove(forgotten, force=False)
    for handle in (known, forgotten):
        assert await bench.driver.inspect(handle) is ContainerState.ABSENT


async def test_an_exit_while_the_engine_is_away_is_collected_with_its_true_code(bench: Bench, engine: Dockerd) -> None:
    script = "echo before; while [ ! -e /tmp/go ]; do sleep 0.05; done; echo after; exit 7"
    handle = await bench.start(("sh", "-c", script))
    await bench.read_until(handle, b"before")
    init = Path("/proc", engine.docker("inspect", "--format", "{{.State.Pid}}", handle.engine_id).strip())
    waiting = asyncio.create_task(bench.driver.wait(handle))
    reading = asyncio.create_task(bench.read_logs(handle))
    await asyncio.sleep(0.2)
    engine.kill9()
    for task in (waiting, reading):
        with pytest.raises(EngineUnavailable):
            await task
    with pytest.raises(EngineUnavailable):
        await bench.driver.inspect(handle)
    (init / "root/tmp/go").touch()
    await eventually(lambda: not init.exists(), "it does not end")
    await asyncio.to_thread(engine.start)
    assert (await bench.driver.wait(handle)).code == 7
    # With live restore Docker loses what is written while it is away; nobody can tell afterwards.
    assert await bench.read_logs(handle) in {(b"before\n", b""), (b"before\nafter\n", b"")}
    with pytest.raises(AlreadyStarted):
        await bench.driver.start(handle)


async def test_a_container_whose_task_was_lost_has_an_unknown_exit(bench: Bench, engine: Dockerd) -> None:
    handle = await bench.start(commands.FOREVER)
    honest = await bench.start(commands.EXITS[255])
    assert (await bench.driver.wait(honest)).code == 255
    # As after a power cut: containerd, its shims and its memory of tasks are gone.
    shims = process.pids_naming(handle.engine_id)
    engine.kill9()
    await asyncio.to_thread(_kill_containerd, engine)
    process.kill(shims)
    await asyncio.to_thread(_forget_tasks, engine)
    await asyncio.to_thread(engine.start)
    with pytest.raises(ExitUnknown):
        await bench.driver.wait(handle)
    assert await bench.driver.inspect(handle) is not ContainerState.RUNNING
    with pytest.raises(AlreadyStarted):
        await bench.driver.start(handle)
    await bench.driver.remove(handle)


async def test_a_start_whose_reply_is_lost_is_not_sent_twice(bench: Bench, engine: Dockerd, tmp_path: Path) -> None:
    async with Proxy(engine.socket, tmp_path / "proxy.sock") as proxy:
        driver = DockerDriver(INSTANCE, f"unix://{proxy.socket}")
        await driver.check()
        handle = await driver.create(await bench.spec(commands.BOTH_STREAMS))
        proxy.lose_replies_to = b"/start "
        with pytest.raises(EngineUnavailable):
            await driver.start(handle)
        proxy.lose_replies_to = None
        ended = await driver.wait(handle)
        with pytest.raises(AlreadyStarted):
            await driver.start(handle)
        assert await driver.wait(handle) == ended
        assert [chunk.data async for chunk in driver.logs(handle, LogPosition())]
        assert (await bench.read_logs(handle))[0].count(b"out 1") == 1
        await driver.close()


async def test_a_create_whose_reply_is_lost_is_found_by_its_name(bench: Bench, engine: Dockerd, tmp_path: Path) -> None:
    async with Proxy(engine.socket, tmp_path / "proxy.sock") as proxy:
        driver = DockerDriver(INSTANCE, f"unix://{proxy.socket}")
        await driver.check()
        spec = await bench.spec(commands.EXITS[7])
        proxy.lose_replies_to = b"/containers/create"
        with pytest.raises(EngineUnavailable):
            await driver.create(spec)
        proxy.lose_replies_to = None
        with pytest.raises(ContainerExists):
            await driver.create(spec)
        handle = await driver.find(spec.name)
        assert handle is not None
        await driver.start(handle)
        assert (await driver.wait(handle)).code == 7
        await driver.close()


async def test_a_log_whose_connection_is_cut_raises_or_is_complete(
    bench: Bench, engine: Dockerd, tmp_path: Path
) -> None:
    handle = await bench.start(commands.LINES)
    await bench.driver.wait(handle)
    whole = await bench.read_logs(handle)
    async with Proxy(engine.socket, tmp_path / "proxy.sock") as proxy:
        driver = DockerDriver(INSTANCE, f"unix://{proxy.socket}")
        await driver.check()
        proxy.cut_answers_after = 100_000
        kept = {"stdout": b"", "stderr": b""}
        with pytest.raises(EngineUnavailable):
            async for chunk in driver.logs(handle, LogPosition()):
                kept[chunk.stream] += chunk.data
        proxy.cut_answers_after = None
        async for chunk in driver.logs(handle, LogPosition(len(kept["stdout"]), len(kept["stderr"]))):
            kept[chunk.stream] += chunk.data
        assert (kept["stdout"], kept["stderr"]) == whole
        await driver.close()


async def test_an_attached_stream_that_is_cut_is_completed_from_the_engines_log(
    bench: Bench, engine: Dockerd, tmp_path: Path
) -> None:
    async with Proxy(engine.socket, tmp_path / "proxy.sock") as proxy:
        driver = DockerDriver(INSTANCE, f"unix://{proxy.socket}")
        await driver.check()
        handle = await driver.create(await bench.spec(("sh", "-c", "seq 1 50000; sleep 0.3; seq 50001 60000")))
        proxy.cut_answers_after = 150_000
        await driver.start(handle)
        await driver.wait(handle)
        proxy.cut_answers_after = None
        data = b"".join([chunk.data async for chunk in driver.logs(handle, LogPosition())])
        assert data == b"".join(b"%d\n" % number for number in range(1, 60_001))
        await driver.close()


async def test_a_command_is_not_held_up_by_a_reader_that_does_not_read(bench: Bench) -> None:
    script = f"yes {'x' * 999} | head -n 20000"
    began = time.monotonic()
    handle = await bench.start(("sh", "-c", script))
    assert (await bench.driver.wait(handle)).code == 0
    assert time.monotonic() - began < 60
    await bench.driver.remove(handle)


async def test_strangers_with_labels_like_ours_are_not_seen(bench: Bench, engine: Dockerd) -> None:
    engine.load(images.docker_archive("base"))
    labels = [
        f"dev.oneoff.instance={INSTANCE}2",
        f"dev.oneoff.instance={INSTANCE[:-1]}",
        f"dev.oneoff.instances={INSTANCE}",
        f"dev.oneoff.instance={INSTANCE}",
    ]
    names = [f"oneoff-run-decoy{number}" for number in range(len(labels))]
    for name, label in zip(names, labels, strict=True):
        engine.docker("create", "--name", name, "--label", label, "oneoff-test/base:1", "true")
    ours = await bench.create(commands.TRUE)
    assert await bench.driver.list() == [ours]
    assert [await bench.driver.find(name) for name in names] == [None] * len(names)
    engine.docker("rm", *names)


async def test_the_sandbox_runtime_of_a_spec_is_used(bench: Bench) -> None:
    # gVisor's own kernel lives inside the limits.
    roomy = Resources(memory_bytes=512 << 20, cpus=1.0, pids=512)
    command = ("sh", "-c", "dmesg | head -1; exit 7")
    spec = await bench.spec(command, sandbox="runsc-offline", resources=roomy)
    handle = await bench.driver.create(spec)
    await bench.driver.start(handle)
    ended = await bench.driver.wait(handle)
    stdout, stderr = await bench.read_logs(handle)
    assert (ended.code, stderr) == (7, b"")
    assert b"Starting gVisor" in stdout


async def test_volumes_of_the_image_are_removed_with_the_container(bench: Bench, engine: Dockerd) -> None:
    await bench.run(commands.TRUE, image=await bench.image("volume"))
    assert engine.docker("volume", "ls", "--quiet") == ""


async def test_an_engine_that_is_not_there_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nothing.sock")
    with pytest.raises(DriverUnavailable, match=r"nothing\.sock: start it"):
        await open_driver(DriverChoice("docker", "inst", tmp_path))
    monkeypatch.setenv("DOCKER_HOST", "ssh://somewhere")
    with pytest.raises(DriverUnavailable, match="unix:///path"):
        await open_driver(DriverChoice("docker", "inst", tmp_path))


async def test_auto_takes_docker_where_it_answers(
    engine: Dockerd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", engine.host)
    driver, facts = await open_driver(DriverChoice("auto", "inst", tmp_path))
    assert (driver.name, facts.engine.partition(" ")[0]) == ("docker", "docker")
    await driver.close()


def _kill_containerd(engine: Dockerd) -> None:
    assert engine._containerd is not None
    process.end(engine._containerd, 0)
    engine._containerd = None


def _forget_tasks(engine: Dockerd) -> None:
    state = engine.socket.parent / "containerd"
    process.unmount_below(state)
    shutil.rmtree(state)
