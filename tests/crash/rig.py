"""A server under test, the truth about what its runs did, and a look at what they left behind."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.crash.nursery import Nursery, Nursling
from tests.rig import process
from tests.rig.images import image_ref

ROOT = Path(__file__).parents[2]


class Oracle:
    """Listens on loopback; each line a command sends is appended to a file and synced before it is answered."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._file.touch()
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def lines(self, run_id: str) -> list[str]:
        return [line.partition(" ")[2] for line in self._file.read_text().splitlines() if line.startswith(run_id + " ")]

    def close(self) -> None:
        # Ends `accept` in its thread, which else takes a connection of the next listener with this file's number.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._record, args=(connection,), daemon=True).start()

    def _record(self, connection: socket.socket) -> None:
        # A command may be killed while it speaks.
        with suppress(OSError), connection, connection.makefile("rb") as lines:
            for line in lines:
                with self._lock, self._file.open("ab") as file:
                    file.write(line)
                    file.flush()
                    os.fsync(file.fileno())
                connection.sendall(b"ok\n")


@dataclass
class Server:
    """One data folder, over any number of processes one after the other."""

    data: Path
    driver: str
    docker_host: str = ""
    options: dict[str, str] = field(default_factory=dict)
    port: int = field(default_factory=process.free_port)
    running: subprocess.Popen[bytes] | Nursling | None = None
    nursery: Nursery | None = None  # where starts are not what is tested

    @property
    def log(self) -> Path:
        return self.data.parent / f"{self.data.name}.server.log"

    @property
    def points(self) -> Path:
        return self.data.parent / f"{self.data.name}.points"

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, crash_at: int = 0) -> None:
        self.points.unlink(missing_ok=True)
        environment = {**os.environ, **self.options, "CRASH_AT": str(crash_at), "CRASH_LOG": str(self.points)}
        arguments = [str(word) for word in (self.data, self.driver, self.docker_host, self.port)]
        if self.nursery is not None:
            self.running = self.nursery.start(arguments, self.log, environment)
        else:
            argv = [sys.executable, "-m", "tests.crash.crashing_server", *arguments]
            self.running = process.start(argv, self.log, cwd=ROOT, env=environment)
        process.wait_until_ready(self._is_ready, self.running, self.log, 30)

    def arm(self) -> None:
        assert self.running is not None
        self.running.send_signal(signal.SIGUSR1)

    def kill(self) -> None:
        assert self.running is not None
        self.running.kill()
        self.running.wait()

    def wait_for_death(self, seconds: float) -> bool:
        assert self.running is not None
        try:
            self.running.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def stop(self) -> None:
        if self.running is not None:
            process.end(self.running)

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        """The API's answer as JSON, or bytes when it is not JSON. Raises urllib.error.HTTPError, OSError."""
        token = (self.data / "admin-token").read_text().strip()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/api/v1{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json", **headers},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            content = answer.read()
            return json.loads(content) if "json" in answer.headers.get("Content-Type", "") else content

    def create_service(self) -> str:
        """The id of `shop/production`: busybox, on the host's network, so that its runs reach the oracle."""
        body = {"path": "shop/production", "image": image_ref("base"), "networks": ["host"]}
        return str(self.call("POST", "/services", body)["id"])

    def create_run(self, service_id: str, body: dict[str, Any], key: str) -> dict[str, Any] | None:
        """The run, or None when the server died before it answered."""
        try:
            answer: dict[str, Any] = self.call("POST", f"/services/{service_id}/runs", body, **{"Idempotency-Key": key})
        except (urllib.error.URLError, ConnectionError, TimeoutError, OSError):
            return None
        return answer

    def wait_for_end(self, run_id: str, seconds: float = 30) -> dict[str, Any]:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            run: dict[str, Any] = self.call("GET", f"/runs/{run_id}")
            if run["finished_at"]:
                return run
            time.sleep(0.03)
        raise AssertionError(f"{run_id} did not end in {seconds} s: {run}\n{self.log.read_text()[-3000:]}")

    def output(self, run_id: str, stream: str) -> bytes:
        answer: bytes = self.call("GET", f"/runs/{run_id}/logs?format=text&stream={stream}")
        return answer

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False


def wait_until(holds: Callable[[], bool], seconds: float, what: Callable[[], str]) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, what()
        time.sleep(0.05)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@contextmanager
def oracle(folder: Path) -> Iterator[Oracle]:
    watching = Oracle(folder / "oracle")
    try:
        yield watching
    finally:
        watching.close()
