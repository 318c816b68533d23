"""The driver's end of the zygote: starts it, asks it for supervisors, starts another when it has died."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import subprocess
import sys

from oneoff.drivers.oci.zygote import LENGTH

_END_SECONDS = 2.0


class Launcher:
    """`died` is set each time a zygote is found dead: what was asked of it may never have begun."""

    def __init__(self) -> None:
        self.died = asyncio.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._sending = asyncio.Lock()

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def warm(self) -> None:
        """Start the zygote now, so that the first run does not wait for it."""
        if self._socket is None:
            self._begin()

    async def launch(self, folder: str, engine_id: str) -> None:
        """Ask for a supervisor. It may still never begin: watch for its claim and for `died`."""
        body = json.dumps({"folder": folder, "engine_id": engine_id}).encode()
        async with self._sending:
            for _ in range(2):
                self.warm()
                assert self._socket is not None
                try:
                    await asyncio.get_running_loop().sock_sendall(self._socket, LENGTH.pack(len(body)) + body)
                except OSError:
                    self._forget()
                else:
                    return
        raise BrokenPipeError("the process that starts supervisors cannot be kept alive")

    async def close(self) -> None:
        process, self._process = self._process, None
        self._let_go()
        if process is not None:
            # The end of its socket ends it.
            await asyncio.to_thread(_reap, process, _END_SECONDS)

    def _begin(self) -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        null = subprocess.DEVNULL
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-m", "oneoff.drivers.oci.zygote", str(theirs.fileno())],
                stdin=null,
                stdout=null,
                stderr=null,
                cwd="/",
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        self._socket = ours
        asyncio.get_running_loop().add_reader(ours.fileno(), self._on_news)

    def _on_news(self) -> None:
        if self._socket is None:
            return
        try:
            alive = bool(self._socket.recv(64))
        except BlockingIOError:
            return
        except OSError:
            alive = False
        if not alive:
            self._forget()

    def _forget(self) -> None:
        self._let_go()
        if self._process is not None:
            _reap(self._process, 0.1)
            self._process = None

    def _let_go(self) -> None:
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None
            self.died.set()
            self.died = asyncio.Event()


def _reap(process: subprocess.Popen[bytes], seconds: float) -> None:
    """It ends by itself; where it does not, it is killed."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
    if process.returncode is None:
        process.kill()
        process.wait()
