"""How fast output gets from a command into its stored log, in lines of 100 bytes."""

from __future__ import annotations

import hashlib
import os
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.rig import images, layout
from tests.rig.dockerd import private_dockerd
from tests.rig.layout import Entry

from bench import floor
from bench.floor import EngineApi
from bench.measuring import Sample, in_turn, percentile, ratio
from bench.report import Mark, Result, Table
from bench.server import Failed, Oneoff, oneoff, wait_until

_LINES, _COPIES = 100_000, 10  # 10 MB, ten times over
_BYTES = 100 * _LINES * _COPIES
_SCRIPT = f"for i in $(seq {_COPIES}); do cat /srv/lines; done"
# Two processors: the command and whoever takes its output.
_RUN = {"shell": _SCRIPT, "instance_type": "plan-srv-010"}
_FLOOR, _OCI, _DOCKER = "pipe to file", "Oneoff, oci", "Oneoff, docker"
_JSON, _LOCAL = "bare engine, json-file", "bare engine, local"


def logs(folder: Path, samples: int) -> Result:
    lines = b"".join(b"%099d\n" % number for number in range(_LINES))
    image = _image(folder, lines)
    (folder / "lines").write_bytes(lines)
    with ExitStack() as stack:
        (folder / "engine").mkdir()
        engine = stack.enter_context(private_dockerd(folder / "engine"))
        docker = stack.enter_context(oneoff(folder / "docker", "docker", docker_host=engine.host))
        oci = stack.enter_context(oneoff(folder / "oci", "oci"))
        for server in (docker, oci):
            server.create_service(image)
        api = EngineApi(engine.socket)
        stack.callback(api.close)
        body = floor.body_of_a_run(docker, api)
        peers = [
            _pipe_to_file(folder),
            _ours(oci, _OCI, lines, lambda: not oci.containers()),
            _ours(docker, _DOCKER, lines, api.is_empty),
            _bare(api, _JSON, body, {"Type": "json-file", "Config": {}}),
            _bare(api, _LOCAL, body, body["HostConfig"]["LogConfig"]),
        ]
        taken = in_turn(peers, max(1, samples // 6))
    return _result(taken)


def _result(taken: Mapping[str, list[float]]) -> Result:
    rows = []
    for name, seconds in taken.items():
        against = ratio(taken[_FLOOR], seconds)
        speeds = [f"{_BYTES / percentile(seconds, p) / 1e6:.0f}" for p in (50, 95)]
        rows.append([name, str(len(seconds)), *speeds, str(against)])
    oci = ratio(taken[_FLOOR], taken[_OCI])
    # The driver takes all output through the engine, whose own log is the limit.
    docker = ratio(taken[_LOCAL], taken[_DOCKER])
    over_json = ratio(taken[_JSON], taken[_OCI])
    marks = [
        Mark("oci driver at least 0.3 of pipe to file", str(oci), oci.median >= 0.3),
        Mark("docker driver at least 0.3 of what Docker's own log takes", str(docker), docker.median >= 0.3),
        Mark("oci driver at least 3 × Docker's json-file", str(over_json), over_json.median >= 3),
    ]
    return Result(
        f"{_BYTES // 1_000_000} MB in lines of 100 bytes, written by `cat` with all the processor it can get. Oneoff: "
        "from before the `POST` to the ended run, start and durable log included, and sha256 of what is stored is the "
        "one of what was written. Bare engine: create, start, wait, remove; `local` is the log driver that Oneoff has "
        "Docker use. Floor: the same shell command outside a "
        "container, its pipe read in pieces of 64 KiB by Python and written to a file.",
        Table(["", "samples", "MB/s at p50", "MB/s at p95", f"share of {_FLOOR} [95 % CI]"], rows),
        marks,
    )


def _image(folder: Path, lines: bytes) -> str:
    base = images.images()["base"]
    made = replace(base, layers=(*base.layers, (Entry("srv/lines", lines, 0o644),)))
    layout.write_layout(folder / "image", {"lines": made})
    return f"oci:{folder}/image:lines"


def _pipe_to_file(folder: Path) -> Sample:
    script = _SCRIPT.replace("/srv/lines", f"{folder}/lines").replace("cat", "busybox cat")

    def work() -> None:
        with subprocess.Popen(["busybox", "sh", "-c", script], stdout=subprocess.PIPE) as command:
            assert command.stdout is not None
            with (folder / "floor").open("wb", buffering=0) as file:
                while data := os.read(command.stdout.fileno(), 65_536):
                    file.write(data)
        if command.returncode or (folder / "floor").stat().st_size != _BYTES:
            raise Failed("the floor lost bytes")

    def sample() -> Mapping[str, float]:
        seconds = _seconds(work)
        (folder / "floor").unlink()
        return {_FLOOR: seconds}

    return sample


def _ours(server: Oneoff, name: str, lines: bytes, is_settled: Callable[[], bool]) -> Sample:
    expected = hashlib.sha256(lines * _COPIES).hexdigest()

    def sample() -> Mapping[str, float]:
        ended: list[dict[str, Any]] = []
        seconds = _seconds(lambda: ended.append(server.run_quietly(_RUN)))
        wait_until(is_settled)
        stored = server.call("GET", f"/runs/{ended[0]['id']}/logs?format=text")
        if hashlib.sha256(stored).hexdigest() != expected:
            raise Failed(f"{name}: {len(stored)} of {_BYTES} bytes are stored, or other ones")
        return {name: seconds}

    return sample


def _bare(engine: EngineApi, name: str, body: Mapping[str, Any], log: Mapping[str, Any]) -> Sample:
    host = {**body["HostConfig"], "LogConfig": log, "NanoCpus": 2_000_000_000, "Memory": 4 << 30, "MemorySwap": 4 << 30}
    asked = {**body, "Entrypoint": ["/bin/sh", "-c", _SCRIPT], "HostConfig": host}

    def sample() -> Mapping[str, float]:
        return {name: _seconds(lambda: engine.run(asked))}

    return sample


def _seconds(work: Callable[[], None]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
