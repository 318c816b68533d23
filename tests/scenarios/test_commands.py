"""Commands through `oneoff run` on a real server with each real driver: exit codes, reasons, output (commands.toml)."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.crash.left_behind import docker
from tests.crash.nursery import Nursery
from tests.crash.rig import Server
from tests.rig.dockerd import private_dockerd
from tests.rig.images import image_ref

SCENARIOS = tomllib.loads((Path(__file__).parent / "commands.toml").read_text())["scenario"]
ONEOFF = Path(sys.executable).parent / "oneoff"
FACTS = ("status", "reason", "exit_code", "signal", "oom_seen")


@dataclass
class Client:
    """The command line, pointed at one server."""

    server: Server

    @property
    def environment(self) -> dict[str, str]:
        token = (self.server.data / "admin-token").read_text().strip()
        return {**os.environ, "ONEOFF_URL": f"http://127.0.0.1:{self.server.port}", "ONEOFF_TOKEN": token}

    def oneoff(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run([ONEOFF, *arguments], env=self.environment, capture_output=True, timeout=100, check=False)

    def newest_run(self) -> dict[str, Any]:
        run: dict[str, Any] = self.server.call("GET", "/runs?limit=1")["items"][0]
        return run


@pytest.fixture(scope="module", params=["oci", "docker"])
def client(
    request: pytest.FixtureRequest, nursery: Nursery, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Client]:
    """A server with one service for each image of the rig."""
    folder = tmp_path_factory.mktemp(f"scenarios-{request.param}")
    if request.param == "oci":
        with Server(folder / "data", "oci", nursery=nursery) as server:
            yield prepared(server)
        return
    with private_dockerd(folder) as engine, Server(folder / "data", "docker", engine.host, nursery=nursery) as server:
        yield prepared(server)


def prepared(server: Server) -> Client:
    server.options = {"ONEOFF_GRACE_SECONDS": "2"}
    server.start()
    for tag in sorted({scenario.get("tag", "base") for scenario in SCENARIOS}):
        server.call("POST", "/services", {"path": f"shop/production/{tag}", "image": image_ref(tag)})
    return Client(server)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario["name"].replace(" ", "-"))
def test_the_command_ends_as_written(client: Client, scenario: dict[str, Any]) -> None:
    path = f"shop/production/{scenario.get('tag', 'base')}"
    done = client.oneoff("run", "--quiet", path, *scenario["arguments"])
    run = client.newest_run()
    assert done.returncode == scenario["exits"], (done.stderr, run)
    assert {fact: run[fact] for fact in FACTS if fact in scenario} == {f: scenario[f] for f in FACTS if f in scenario}
    assert_output(done, scenario)
    assert scenario.get("says", "") in (run["message"] or ""), run["message"]


def assert_output(done: subprocess.CompletedProcess[bytes], scenario: dict[str, Any]) -> None:
    if "stdout" in scenario:
        assert done.stdout == scenario["stdout"].encode()
    if "stdout_hex" in scenario:
        assert done.stdout == bytes.fromhex(scenario["stdout_hex"])
    if "stdout_sha256" in scenario:
        assert hashlib.sha256(done.stdout).hexdigest() == scenario["stdout_sha256"]
    if "stdout_begins" in scenario:
        assert done.stdout.startswith(scenario["stdout_begins"].encode())
    if "stderr" in scenario and "says" not in scenario:
        assert done.stderr == scenario["stderr"].encode()


def test_ctrl_c_cancels_the_run_and_exits_with_130(client: Client) -> None:
    argv = [
        ONEOFF,
        "run",
        "shop/production/base",
        "--",
        "sh",
        "-c",
        "trap 'echo bye; exit 1' TERM; echo here; sleep 60 & wait",
    ]
    with subprocess.Popen(argv, env=client.environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"here\n"
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
    assert (process.returncode, rest) == (130, b"bye\n")
    run = client.newest_run()
    assert (run["status"], run["reason"], run["exit_code"]) == ("canceled", "canceled", 1)


def test_one_megabyte_of_variables_arrives_and_more_is_refused(client: Client, tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_text("".join(f"V{number}={'x' * 99_000}\n" for number in range(10)))
    count = "env | grep '^V[0-9]' | wc -c | tr -d ' '"
    done = client.oneoff("run", "--quiet", "--env-file", str(file), "shop/production/base", "--shell", count)
    assert (done.returncode, done.stdout) == (0, b"990040\n"), done.stderr
    file.write_text(file.read_text() + f"MORE={'x' * 99_000}\n")
    refused = client.oneoff("run", "--quiet", "--env-file", str(file), "shop/production/base", "--shell", count)
    assert refused.returncode == 125
    assert b"the limit is 1000000" in refused.stderr
    file.write_text(f"ONE={'x' * 131_072}\n")
    refused = client.oneoff("run", "--quiet", "--env-file", str(file), "shop/production/base", "--shell", count)
    assert refused.returncode == 125
    assert b"131071" in refused.stderr


def test_an_image_that_is_gone_everywhere_exits_with_125(client: Client) -> None:
    done = client.oneoff("service", "create", "shop/gone", "--image", image_ref("volume"), "--json")
    digest = json.loads(done.stdout)["digest"].removeprefix("sha256:")
    drop_image(client.server, digest)
    ended = client.oneoff("run", "--quiet", "shop/gone", "--", "true")
    run = client.newest_run()
    assert (ended.returncode, run["status"], run["reason"]) == (125, "failed", "image_unavailable"), run


def drop_image(server: Server, digest: str) -> None:
    """Behind the back of Oneoff: all that the engine, or the driver's own store, has of it."""
    if server.driver == "oci":
        for path in (server.data / "oci" / "images").rglob(f"*{digest}*"):
            subprocess.run(["rm", "-rf", path], check=True)
        return
    for image in docker(server, "/images/json"):
        if digest in json.dumps(image):
            docker(server, f"/images/{image['Id']}?force=true", "DELETE")
