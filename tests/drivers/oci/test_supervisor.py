"""Containers under their supervisors, and what is left when server, zygote or supervisor is killed. Real crun."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from oneoff.drivers.driver import ContainerState, LogPosition, Resources
from oneoff.drivers.oci.driver import OciDriver
from oneoff.drivers.oci.folder import take_claim
from oneoff.errors import (
    AlreadyStarted,
    CommandNotExecutable,
    CommandNotFound,
    ContainerBusy,
    ContainerExists,
    ContainerGone,
    ExitUnknown,
    StartFailed,
)
from tests.drivers.oci.conftest import Workbench

pytestmark = pytest.mark.anyio


async def test_a_command_runs_with_its_streams_and_its_code(oci: Workbench) -> None:
    ended, out, err = await oci.run("sh", "-c", "echo out; echo err >&2; exit 7")
    assert (ended.code, out, err) == (7, "out\n", "err\n")
    assert ended.started_at <= ended.finished_at
    assert not ended.oom_seen


async def test_a_container_that_the_version_before_made_is_started_by_this_one(oci: Workbench) -> None:
    handle = await oci.driver.create(oci.spec("sh", "-c", "exit 7"))
    file = oci.run_folder(handle) / "run.json"
    run = json.loads(file.read_bytes())
    image, layers = Path(run.pop("image")), run.pop("lowerdir").split(":")
    file.write_text(json.dumps(run | {"rootfs": ":".join(str((image / layer).resolve()) for layer in layers)}))
    await oci.driver.start(handle)
    assert (await asyncio.wait_for(oci.driver.wait(handle), 30)).code == 7
    await oci.driver.remove(handle)


@pytest.mark.parametrize("runtime", ["runc"])
async def test_runc_does_the_same(oci: Workbench) -> None:
    ended, out, err = await oci.run("sh", "-c", "echo out; echo err >&2; exit 7")
    assert (ended.code, out, err) == (7, "out\n", "err\n")
    over, _, _ = await oci.run("tail", "/dev/zero")
    assert (over.code, over.oom_seen) == (137, True)


async def test_a_sandboxed_command_runs_under_another_kernel(oci: Workbench) -> None:
    ended, out, err = await oci.run("sh", "-c", "dmesg | head -1; echo err >&2; exit 7", sandbox="runsc")
    assert (ended.code, err) == (7, "err\n")
    assert "gVisor" in out


async def test_a_sandboxed_command_is_stopped_and_nothing_is_left(oci: Workbench) -> None:
    handle = await oci.start("sleep", "100", sandbox="runsc", resources=Resources(256 << 20, 1.0, 64))
    await oci.driver.stop(handle, 0.3)
    assert (await asyncio.wait_for(oci.driver.wait(handle), 15)).code in (143, 137)


async def test_hardening_holds_inside(oci: Workbench) -> None:
    status = await oci.shell(
        "cat /proc/self/status; cat /proc/1/comm; ls /proc/self/fd | wc -l; readlink /proc/self/fd/0"
    )
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert f"{name}:\t0000000000000000\n" in status
    assert "NoNewPrivs:\t1\n" in status
    assert "Seccomp:\t2\n" in status
    assert "init\n" in status
    assert status.endswith("/dev/null\n")


async def test_a_run_cannot_make_namespaces_of_its_own(oci: Workbench) -> None:
    script = "unshare -U true 2>&1; unshare -m true 2>&1; mount -t tmpfs x /mnt 2>&1; true"
    lines = (await oci.shell(script)).splitlines()
    assert len(lines) == 3
    assert all("not permitted" in line or "denied" in line for line in lines), lines


async def test_allowed_capabilities_are_exactly_those(oci: Workbench) -> None:
    status = await oci.shell("grep Cap /proc/self/status", capabilities=("CHOWN", "SETUID"))
    bits = f"{(1 << 0) | (1 << 7):016x}"
    assert status.split() == [
        *("CapInh:", "0" * 16, "CapPrm:", bits, "CapEff:", bits, "CapBnd:", bits, "CapAmb:", "0" * 16)
    ]


async def test_limits_are_enforced(oci: Workbench) -> None:
    ended, _, _ = await oci.run("tail", "/dev/zero")
    assert (ended.code, ended.oom_seen) == (137, True)
    _, _, err = await oci.run("sh", "-c", "for i in $(seq 80); do sleep 1 & done; wait")
    assert "fork" in err


async def test_a_killed_command_is_no_out_of_memory(oci: Workbench) -> None:
    ended, _, _ = await oci.run("sh", "-c", "kill -9 $$")
    assert (ended.code, ended.oom_seen) == (137, False)


async def test_the_working_folder_is_made_and_the_image_stays_untouched(oci: Workbench) -> None:
    assert await oci.shell("pwd; touch here /srv/mine; hostname; cat /etc/hostname") == "/work\nrunner\nrunner\n"
    assert await oci.shell("ls /work /srv/mine 2>&1 || true") == "ls: /srv/mine: No such file or directory\n/work:\n"


async def test_a_read_only_root_is_read_only(oci: Workbench) -> None:
    _, _, err = await oci.run("touch", "/srv/mine", read_only_root=True)
    assert "Read-only file system" in err


async def test_users_follow_the_image(oci: Workbench) -> None:
    assert await oci.shell("id -u; id -g; id -G; echo $HOME", user="app") == "1000\n1000\n1000 1001\n/home/app\n"


async def test_variables_of_any_shape_arrive(oci: Workbench) -> None:
    values = {"A": "two\nlines", "B": "a=b'\"$x", "C": "grüße", "BIG": "x" * 130_000}
    assert await oci.shell('echo "$A$B$C${#BIG}"', variables=values) == "two\nlinesa=b'\"$xgrüße130000\n"


async def test_no_variable_ever_lies_on_a_disk(oci: Workbench) -> None:
    handle = await oci.start("sleep", "30", variables={"SECRET": "hunter2hunter2"})
    for path in oci.data_dir.rglob("*"):
        if path.is_file() and not path.is_symlink():
            assert b"hunter2hunter2" not in path.read_bytes()
    await oci.driver.remove(handle)


@pytest.mark.parametrize(
    ("argv", "error"),
    [
        (("nothere",), CommandNotFound),
        (("/srv/notexec",), CommandNotExecutable),
        (("/srv",), CommandNotExecutable),
        (("/srv/badinterp",), CommandNotFound),
        (("/srv/dangling",), CommandNotFound),
    ],
)
async def test_what_cannot_run_is_known_before_and_leaves_nothing(
    oci: Workbench, argv: tuple[str, ...], error: type[StartFailed]
) -> None:
    with pytest.raises(error):
        await oci.driver.create(oci.spec(*argv))
    assert await oci.driver.list() == []


async def test_a_container_is_made_once_and_started_once(oci: Workbench) -> None:
    spec = oci.spec("sleep", "20")
    handle = await oci.driver.create(spec)
    with pytest.raises(ContainerExists):
        await oci.driver.create(spec)
    await oci.driver.start(handle)
    with pytest.raises(AlreadyStarted):
        await oci.driver.start(handle)
    with pytest.raises(ContainerBusy):
        await oci.driver.remove(handle, force=False)


async def test_of_many_starts_at_once_one_happens(oci: Workbench) -> None:
    handle = await oci.driver.create(oci.spec("sh", "-c", "echo once; sleep 0.3"))
    answers = await asyncio.gather(*(oci.driver.start(handle) for _ in range(5)), return_exceptions=True)
    assert all(answer is None or isinstance(answer, AlreadyStarted) for answer in answers)
    await oci.driver.wait(handle)
    assert await oci.output(handle) == ("once\n", "")


async def test_a_late_start_of_a_removed_container_finds_nothing(oci: Workbench) -> None:
    spec = oci.spec("sh", "-c", "echo never")
    handle = await oci.driver.create(spec)
    await oci.driver.remove(handle, force=False)
    with pytest.raises(ContainerGone):
        await oci.driver.start(handle)
    again = await oci.driver.create(spec)
    # The supervisor asked for the old one must leave the new one of the same name alone.
    await oci.driver._supervision.launcher.launch(str(oci.run_folder(again)), handle.engine_id)
    await asyncio.sleep(0.3)
    assert await oci.driver.inspect(again) is ContainerState.CREATED
    assert await oci.driver.inspect(handle) is ContainerState.ABSENT


async def test_a_supervisor_that_finds_the_claim_taken_ends(oci: Workbench) -> None:
    handle = await oci.driver.create(oci.spec("true"))
    claim = take_claim(str(oci.run_folder(handle)))
    assert claim is not None
    await oci.driver._supervision.launcher.launch(str(oci.run_folder(handle)), handle.engine_id)
    await asyncio.sleep(0.3)
    assert not (oci.run_folder(handle) / "started.json").exists()
    for fd in claim:
        os.close(fd)


async def test_the_words_of_a_runtime_that_refuses_are_told(oci: Workbench) -> None:
    handle = await oci.driver.create(oci.spec("true"))
    config = next(Path("/dev/shm/oneoff", oci.instance).glob("*/config.json"), None) or next(
        Path("/run/oneoff", oci.instance).glob("*/config.json")
    )
    broken = json.loads(config.read_text())
    broken["mounts"].append({"destination": "/x", "type": "nosuchfs", "source": "x"})
    config.write_text(json.dumps(broken))
    for _ in range(2):
        with pytest.raises(StartFailed, match=r"(?i)no such device"):
            await oci.driver.start(handle)
    assert await oci.driver.inspect(handle) is ContainerState.CREATED
    await oci.driver.remove(handle, force=False)


async def test_stop_terminates_then_kills_and_a_second_one_shortens_the_grace(oci: Workbench) -> None:
    handle = await oci.start("sh", "-c", "trap 'echo term; exit 3' TERM; echo ready; while :; do sleep 0.05; done")
    await _said(oci, handle, "ready")
    await oci.driver.stop(handle, 10)
    assert (await asyncio.wait_for(oci.driver.wait(handle), 30)).code == 3
    deaf = await oci.start("sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done")
    await _said(oci, deaf, "ready")
    await oci.driver.stop(deaf, 60)
    await oci.driver.stop(deaf, 0.1)
    assert (await asyncio.wait_for(oci.driver.wait(deaf), 30)).code == 137


async def test_a_run_past_its_deadline_is_ended_without_a_server(oci: Workbench) -> None:
    deadline = datetime.now(UTC) + timedelta(seconds=0.5)
    handle = await oci.start("sleep", "60", deadline=deadline)
    ended = await asyncio.wait_for(oci.driver.wait(handle), 10)
    assert (ended.code, ended.stopped_by) == (143, "timeout")


async def test_a_deadline_that_was_moved_is_the_one_that_counts(oci: Workbench) -> None:
    deadline = datetime.now(UTC) + timedelta(seconds=0.5)
    handle = await oci.start("sleep", "60", deadline=deadline)
    await oci.driver.extend(handle, deadline + timedelta(seconds=2))
    ended = await asyncio.wait_for(oci.driver.wait(handle), 10)
    assert (ended.code, ended.stopped_by) == (143, "timeout")
    assert ended.finished_at > deadline + timedelta(seconds=2)
    await oci.driver.extend(handle, deadline)


async def test_a_container_outlives_server_and_zygote(oci: Workbench) -> None:
    handle = await oci.start("sh", "-c", "echo one; sleep 1; echo two; exit 5")
    os.kill(oci.driver._supervision.launcher.pid or 0, signal.SIGKILL)
    await oci.driver.close()
    oci.driver = OciDriver(oci.data_dir, oci.instance)
    assert await oci.driver.list() == [handle]
    assert await oci.driver.find(handle.name) == handle
    assert (await asyncio.wait_for(oci.driver.wait(handle), 10)).code == 5
    assert await oci.output(handle) == ("one\ntwo\n", "")


async def test_a_killed_zygote_is_replaced(oci: Workbench) -> None:
    await oci.run("true")
    os.kill(oci.driver._supervision.launcher.pid or 0, signal.SIGKILL)
    assert (await oci.run("sh", "-c", "exit 4"))[0].code == 4


async def test_starts_survive_a_zygote_that_is_killed_again_and_again(oci: Workbench) -> None:
    async def kill() -> None:
        for _ in range(5):
            await asyncio.sleep(0.02)
            if pid := oci.driver._supervision.launcher.pid:
                os.kill(pid, signal.SIGKILL)

    results, _ = await asyncio.gather(asyncio.gather(*(oci.run("sh", "-c", "echo x") for _ in range(6))), kill())
    assert [(ended.code, out) for ended, out, _ in results] == [(0, "x\n")] * 6


async def test_a_killed_supervisor_leaves_an_unknown_end_and_nothing_else(
    oci: Workbench, wait_until: Callable[..., Any]
) -> None:
    handle = await oci.start("sh", "-c", "echo ready; sleep 1000")
    await _said(oci, handle, "ready")
    waiting = asyncio.ensure_future(oci.driver.wait(handle))
    os.kill(oci.supervisor_pid(handle), signal.SIGKILL)
    with pytest.raises(ExitUnknown):
        await asyncio.wait_for(waiting, 30)
    assert await oci.driver.inspect(handle) is ContainerState.UNKNOWN
    with pytest.raises(ContainerBusy):
        await oci.driver.remove(handle, force=False)
    await oci.driver.remove(handle)
    assert await oci.driver.list() == []


async def test_the_server_keeps_no_file_open_for_an_ended_run(oci: Workbench, wait_until: Callable[..., Any]) -> None:
    await oci.run("true")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(4):
        await oci.run("true")
    await wait_until(lambda: len(list(Path("/proc/self/fd").iterdir())) <= before)


async def test_removing_a_running_container_ends_it(oci: Workbench) -> None:
    handle = await oci.start("sleep", "1000")
    await oci.driver.remove(handle)
    await oci.driver.remove(handle)
    assert await oci.driver.inspect(handle) is ContainerState.ABSENT
    with pytest.raises(ContainerGone):
        await oci.driver.wait(handle)


async def test_leftovers_without_a_folder_are_swept_by_the_next_server(oci: Workbench) -> None:
    handle = await oci.start("sleep", "1000")
    os.kill(oci.supervisor_pid(handle), signal.SIGKILL)
    oci.run_folder(handle).rename(oci.run_folder(handle).with_name(".trash-x"))
    await oci.driver.close()
    oci.driver = OciDriver(oci.data_dir, oci.instance)
    await oci.driver.check()
    assert list(Path("/sys/fs/cgroup").glob(f"*/oneoff.{oci.instance}.*")) == []


async def test_a_second_driver_leaves_what_a_living_one_is_making(oci: Workbench) -> None:
    made = await asyncio.gather(*(oci.driver.create(oci.spec("true", networks=())) for _ in range(3)))
    other = OciDriver(oci.data_dir, oci.instance)
    await other.check()
    await other.close()
    for handle in made:
        await oci.driver.start(handle)
        assert (await oci.driver.wait(handle)).code == 0


async def test_logs_go_on_from_a_position_per_stream(oci: Workbench) -> None:
    handle = await oci.start("sh", "-c", "printf abcdef; printf 123456 >&2")
    await oci.driver.wait(handle)
    chunks = [chunk async for chunk in oci.driver.logs(handle, LogPosition(stdout=2, stderr=5))]
    assert b"".join(c.data for c in chunks if c.stream == "stdout") == b"cdef"
    assert b"".join(c.data for c in chunks if c.stream == "stderr") == b"6"


async def test_logs_of_a_run_whose_supervisor_was_killed_do_not_end_quietly(oci: Workbench) -> None:
    handle = await oci.start("sh", "-c", "echo ready; sleep 1000")
    await _said(oci, handle, "ready")
    os.kill(oci.supervisor_pid(handle), signal.SIGKILL)
    with pytest.raises(ExitUnknown):
        await oci.output(handle)


async def test_output_of_what_pid_one_left_behind_ends_with_it(oci: Workbench) -> None:
    ended, out, _ = await oci.run("sh", "-c", "(sleep 100; echo never) & echo done")
    assert (ended.code, out) == (0, "done\n")


async def test_the_init_cannot_be_made_to_speak(oci: Workbench) -> None:
    _, out, err = await oci.run("sh", "-c", "echo done", variables={"TINI_VERBOSITY": "3"})
    assert (out, err) == ("done\n", "")


async def test_a_working_folder_among_the_runtimes_descriptors_is_refused(oci: Workbench) -> None:
    for folder in ("/proc/self/fd/8", "/srv/../proc/self/fd/8"):
        image = replace(oci.image, config=replace(oci.image.config, working_dir=folder))
        with pytest.raises(StartFailed, match="WORKDIR"):
            await oci.driver.create(oci.spec("true", image=image))


async def test_unknown_users_and_sandboxes_are_refused(oci: Workbench) -> None:
    with pytest.raises(StartFailed, match="no user 'nobodyknows'"):
        await oci.driver.create(oci.spec("true", user="nobodyknows"))
    with pytest.raises(StartFailed, match="sandbox"):
        await oci.driver.create(replace(oci.spec("true"), sandbox="kata"))


async def _said(oci: Workbench, handle: Any, text: str) -> None:
    async for chunk in oci.driver.logs(handle, LogPosition()):
        if text.encode() in chunk.data:
            return
