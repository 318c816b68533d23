"""Server processes forked from one that has loaded everything already. Crash tests start hundreds of them, and most of
a start is loading the same modules again.

    python -m tests.crash.nursery FD      requests and answers over a Unix socket of packets, one JSON object each
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
_PACKET_BYTES = 65_536


class Nursling:
    """As much of subprocess.Popen as the rig uses."""

    def __init__(self, nursery: Nursery, args: Sequence[str], pid: int) -> None:
        self.args = args
        self.pid = pid
        self.returncode: int | None = None
        self._nursery = nursery
        self._pidfd = os.pidfd_open(pid)

    def poll(self) -> int | None:
        if self.returncode is None:
            self._nursery.hear(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Raises subprocess.TimeoutExpired."""
        if self.poll() is None:
            select.select([self._pidfd], [], [], timeout)
            self._nursery.hear(30.0 if timeout is None or _has_ended(self._pidfd) else 0)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with suppress(ProcessLookupError):  # it has ended, and nobody told us yet
                signal.pidfd_send_signal(self._pidfd, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)


class Nursery:
    """The tests' end."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        argv = [sys.executable, "-m", "tests.crash.nursery", str(theirs.fileno())]
        with theirs:
            self._process = subprocess.Popen(argv, cwd=ROOT, pass_fds=[theirs.fileno()], start_new_session=True)
        self._children: dict[int, Nursling] = {}

    def start(self, arguments: Sequence[str], log: Path, environment: Mapping[str, str]) -> Nursling:
        request = {"arguments": list(arguments), "log": str(log), "environment": dict(environment)}
        self._socket.send(json.dumps(request).encode())
        while "status" in (answer := self._receive()):
            self._note(answer)
        child = self._children[answer["pid"]] = Nursling(self, arguments, answer["pid"])
        return child

    def hear(self, seconds: float) -> None:
        """Take in what the nursery says of ended children."""
        while select.select([self._socket], [], [], seconds)[0]:
            self._note(self._receive())
            seconds = 0

    def close(self) -> None:
        self._socket.close()
        self._process.wait(10)

    def _receive(self) -> dict[str, Any]:
        received: dict[str, Any] = json.loads(self._socket.recv(_PACKET_BYTES))
        return received

    def _note(self, answer: dict[str, Any]) -> None:
        self._children.pop(answer["pid"]).returncode = answer["status"]


def _has_ended(pidfd: int) -> bool:
    return bool(select.select([pidfd], [], [], 0)[0])


def main(requests: socket.socket) -> None:
    import oneoff.api.app
    import oneoff.drivers.docker.driver
    import oneoff.drivers.oci.driver  # noqa: F401
    from tests.crash import crashing_server

    gc.collect()
    gc.freeze()
    children: dict[int, int] = {}
    while True:
        for fd in select.select([requests, *children], [], [])[0]:
            if fd is not requests:
                pid = children.pop(fd)
                _, status = os.waitpid(pid, 0)
                os.close(fd)
                requests.send(json.dumps({"pid": pid, "status": os.waitstatus_to_exitcode(status)}).encode())
                continue
            if not (packet := requests.recv(_PACKET_BYTES)):
                return
            pid = os.fork()
            if pid == 0:
                requests.close()
                _become(json.loads(packet), crashing_server.main)
            children[os.pidfd_open(pid)] = pid
            requests.send(json.dumps({"pid": pid}).encode())


def _become(request: dict[str, Any], serve: Any) -> None:
    status = 1
    try:
        os.setsid()
        log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.environ.clear()
        os.environ.update(request["environment"])
        status = serve(*request["arguments"])
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])))
