"""A real `oneoff serve` in a folder of its own, and a plain client of it. Used by the benchmarks."""

from __future__ import annotations

import http.client
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.rig import process
from tests.rig.images import image_ref

TRUE = {"command": ["true"]}
_KEPT_SECONDS = 3  # the server closes a connection that rests for longer than this
_PROGRAM = Path(sys.executable).parent / "oneoff"


class Failed(Exception):
    """What was measured went wrong: a failed container must not look fast."""


class Oneoff:
    """One server process. `driver_options` are settings in the environment, by their names."""

    def __init__(self, folder: Path, driver: str, **settings: object) -> None:
        self.data = folder / "data"
        self.driver = driver
        self.service_id = ""
        self._folder = folder
        self._settings = {f"ONEOFF_{name.upper()}": str(value) for name, value in settings.items()}
        self._port = process.free_port()
        self._used_at = 0.0
        self._connection: http.client.HTTPConnection | None = None
        self._process: Any = None

    @property
    def pid(self) -> int:
        return int(self._process.pid)

    @property
    def port(self) -> int:
        return self._port

    @property
    def token(self) -> str:
        return (self.data / "admin-token").read_text().strip()

    def start(self) -> None:
        runtime = self._folder / "runtime"
        runtime.mkdir(parents=True, exist_ok=True)
        argv = [_PROGRAM, "serve", "--data", self.data, "--driver", self.driver, "--listen", f"127.0.0.1:{self._port}"]
        log = self._folder / "server.log"
        environment = {**os.environ, "XDG_RUNTIME_DIR": str(runtime), **self._settings}
        self._process = process.start([str(word) for word in argv], log, env=environment)
        process.wait_until_ready(self._is_ready, self._process, log, 30)
        self._connection = http.client.HTTPConnection("127.0.0.1", self._port)

    def stop(self) -> None:
        if self._connection is not None:
            self._connection.close()
        if self._process is not None:
            process.end(self._process)

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """The answer as JSON, else as bytes, over one kept connection. Raises Failed."""
        assert self._connection is not None
        if time.monotonic() - self._used_at > _KEPT_SECONDS:
            self._connection.close()
        self._used_at = time.monotonic()
        content = None if body is None else json.dumps(body)
        self._connection.request(method, f"/api/v1{path}", content, self._headers())
        answer = self._connection.getresponse()
        words = answer.read()
        if answer.status >= 400:
            raise Failed(f"{method} {path}: {answer.status} {words!r}")
        return json.loads(words) if "json" in (answer.getheader("Content-Type") or "") else words

    def create_service(self, image: str = "", **settings: Any) -> str:
        body = {"path": "bench/production", "image": image or image_ref("base"), **settings}
        self.service_id = str(self.call("POST", "/services", body)["id"])
        return self.service_id

    def accept(self, body: Mapping[str, Any]) -> dict[str, Any]:
        accepted: dict[str, Any] = self.call("POST", f"/services/{self.service_id}/runs", body)
        return accepted

    def follow(self, run_id: str) -> dict[str, Any]:
        """The ended run, as the live stream tells it."""
        assert self._connection is not None
        self._connection.request("GET", f"/api/v1/runs/{run_id}/logs/stream", headers=self._headers())
        answer = self._connection.getresponse()
        self._used_at = time.monotonic()
        is_end = False
        for line in iter(answer.readline, b""):
            if line.startswith(b"event: "):
                is_end = line == b"event: end\n"
            elif is_end and line.startswith(b"data: "):
                ended: dict[str, Any] = json.loads(line.removeprefix(b"data: "))
                answer.read()
                self._used_at = time.monotonic()
                return ended
        raise Failed(f"the stream of {run_id} ended without its end")

    def run(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Accept and follow to the end. Raises Failed unless it succeeded."""
        ended = self.follow(self.accept(body)["id"])
        if ended["status"] != "succeeded":
            raise Failed(f"{self.driver}: {ended['status']}, {ended['reason']}: {ended}")
        return ended

    def run_quietly(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The same without reading the output: the run is looked at every few milliseconds."""
        run_id = self.accept(body)["id"]
        while not (run := self.call("GET", f"/runs/{run_id}"))["finished_at"]:
            time.sleep(0.01)
        if run["status"] != "succeeded":
            raise Failed(f"{self.driver}: {run['status']}, {run['reason']}: {run}")
        ended: dict[str, Any] = run
        return ended

    def timed_run(self, body: Mapping[str, Any]) -> tuple[float, float]:
        """Seconds from before the request to the end as the client sees it, and from accepted to finished as the
        server wrote them down."""
        began = time.perf_counter()
        ended = self.run(body)
        seconds = time.perf_counter() - began
        created, finished = (datetime.fromisoformat(ended[name]) for name in ("created_at", "finished_at"))
        return seconds, (finished - created).total_seconds()

    def containers(self) -> list[Path]:
        """Folders of containers that the oci driver has not removed yet."""
        return [path for path in self.data.glob("oci/runs/*/*") if not path.name.startswith(".")]

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}

    def _is_ready(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=5)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()


@contextmanager
def oneoff(folder: Path, driver: str, **settings: object) -> Iterator[Oneoff]:
    """A started server; ended by its pid."""
    server = Oneoff(folder, driver, **settings)
    try:
        server.start()
        yield server
    finally:
        server.stop()


def wait_until(holds: Callable[[], bool], seconds: float = 30) -> None:
    """Not timed by anybody: looks every few milliseconds. Raises Failed."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise Failed(f"not so after {seconds} s: {holds}")
        time.sleep(0.005)
