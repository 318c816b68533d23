"""The CLI as a real process, in an environment of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import oneoff as package
from tests.cli.fake_api import FakeApi, fake_api
from tests.cli.live import LiveServer, live_server
from tests.operations.home import IMAGE

PATH = "shop/production"


class Cli:
    """Starts `oneoff` with nothing of the tester's own settings."""

    def __init__(self, home: Path, **variables: str) -> None:
        self.home = home
        self.environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(Path(package.__file__).parents[1]),  # the code that is tested here, not one installed
            "HOME": str(home),
            "XDG_RUNTIME_DIR": str(home / "runtime"),
            "XDG_CONFIG_HOME": str(home / "config"),
            **variables,
        }

    def start(self, *arguments: str | bytes, **options: Any) -> subprocess.Popen[bytes]:
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE) | options
        environment = self.environment | pipes.pop("extra", {})
        argv = [sys.executable, "-m", "oneoff.cli.main", *arguments]
        return subprocess.Popen(argv, env=environment, **({"preexec_fn": _heed_hangups} | pipes))

    def run(self, *arguments: str | bytes, stdin: bytes = b"", **options: Any) -> subprocess.CompletedProcess[bytes]:
        with self.start(*arguments, **options) as process:
            out, err = process.communicate(stdin, timeout=60)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def _heed_hangups() -> None:
    """Also where the tests themselves are run under nohup."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture
def api() -> Iterator[FakeApi]:
    with fake_api() as running:
        yield running


@pytest.fixture
def cli(tmp_path: Path, api: FakeApi) -> Cli:
    return Cli(tmp_path, ONEOFF_URL=api.url, ONEOFF_TOKEN="good")


@pytest.fixture
def lonely_cli(tmp_path: Path) -> Cli:
    """Nothing says where a server is."""
    return Cli(tmp_path)


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with live_server(tmp_path_factory.mktemp("live")) as running:
        yield running


@pytest.fixture(scope="module")
def admin(live: LiveServer, tmp_path_factory: pytest.TempPathFactory) -> Cli:
    """Of the live server, which has nothing yet."""
    return Cli(tmp_path_factory.mktemp("home"), ONEOFF_URL=live.url, ONEOFF_TOKEN=live.home.admin_token)


@pytest.fixture(scope="module")
def oneoff(admin: Cli) -> Cli:
    """Of the live server, with a service at PATH."""
    assert admin.run("service", "create", PATH, "--image", IMAGE).returncode == 0
    return admin
