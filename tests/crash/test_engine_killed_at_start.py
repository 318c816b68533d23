"""SIGKILL of the Docker Engine between the start of a command and its own note of that: the command is begun once."""

from __future__ import annotations

import os
import signal
import time
from contextlib import closing
from pathlib import Path

import pytest

from tests.crash.gate import Gate
from tests.crash.nursery import Nursery
from tests.crash.rig import Oracle, Server, wait_until
from tests.crash.test_engine_killed import command
from tests.rig.dockerd import private_dockerd


def slow_runtime(folder: Path) -> tuple[tuple[str, ...], Path]:
    """Options of an engine whose runtime does not return from `start` while a file is there, and that file."""
    hold, runtime = folder / "hold", folder / "slow-runc"
    hold.touch()
    runtime.write_text(f"""#!/bin/sh
        runc "$@"
        code=$?
        case " $* " in *" start "*) while [ -e {hold} ]; do sleep 0.05; done ;; esac
        exit $code
    """)
    runtime.chmod(0o755)
    return (f"--add-runtime=slow={runtime}", "--default-runtime=slow"), hold


@pytest.mark.timeout(180)
@pytest.mark.parametrize("with_server", [True, False], ids=["with-the-server", "alone"])
@pytest.mark.parametrize("live_restore", [True, False], ids=["live-restore", "without"])
def test_a_command_whose_start_the_engine_has_forgotten_is_lost_and_not_begun_again(
    tmp_path: Path, truth: Oracle, nursery: Nursery, with_server: bool, live_restore: bool
) -> None:
    options, hold = slow_runtime(tmp_path)
    with (
        closing(Gate()) as gate,
        private_dockerd(tmp_path, live_restore=live_restore, options=options) as engine,
        Server(tmp_path / "data", "docker", engine.host, nursery=nursery) as server,
    ):
        server.start()
        run = server.create_run(server.create_service(), command(gate, truth), "one")
        assert run is not None
        wait_until(lambda: gate.waiting == {run["id"]}, 30, lambda: "it did not begin")
        os.kill(engine.pid, signal.SIGSTOP)
        hold.unlink()
        time.sleep(0.5)  # containerd answers an engine that does not hear it
        if with_server:
            server.kill()
        engine.kill9()
        engine.start()
        if with_server:
            # What this is about: the command goes on, and the engine says that it was never started.
            assert gate.waiting == {run["id"]}
            assert engine.docker("ps", "--all", "--format", "{{.State}}").split() == ["created"]
            server.start()
        ended = server.wait_for_end(run["id"])
        assert (ended["reason"], ended["exit_code"], ended["started_at"]) == ("lost", None, None)
        assert "it may be going on" in ended["message"]
        wait_until(lambda: not engine.docker("ps", "--all", "--quiet"), 20, lambda: "its container is left")
        assert truth.lines(run["id"]) == ["start"]
        gate.let({run["id"]})
