"""How the driver and a container's supervisor deal with each other: begin, tell, end, and what the folder says."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal

from oneoff.drivers.driver import ContainerState
from oneoff.drivers.oci.folder import (
    CONTROL,
    EXIT,
    RUN,
    START_FAILED,
    STARTED,
    claim_pid,
    claim_state,
    is_there,
    read_json,
)
from oneoff.drivers.oci.launcher import Launcher
from oneoff.drivers.oci.watcher import Watcher, wait_for_news
from oneoff.errors import ExitUnknown, StartFailed

LOOK_AGAIN_SECONDS = 1.0
_CLAIM_SECONDS = 20.0
_END_SECONDS = 15.0
_LISTEN_SECONDS = 0.01


def state_of(folder: str, engine_id: str) -> ContainerState:
    """Where the container of that folder stands. The claim says more than any process list."""
    run = read_json(folder, RUN)
    if run is None or run["engine_id"] != engine_id:
        return ContainerState.ABSENT
    # The claim before the facts: a supervisor writes them before it lets go.
    claimed = claim_state(folder)
    if claimed == "none" or read_json(folder, START_FAILED) is not None:
        return ContainerState.CREATED
    if read_json(folder, EXIT) is not None:
        return ContainerState.EXITED
    return ContainerState.RUNNING if claimed == "held" else ContainerState.UNKNOWN


def tell(folder: str, line: str) -> bool:
    """A word to the supervisor; False when nobody is there to read it."""
    try:
        fd = os.open(f"{folder}/{CONTROL}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return os.write(fd, f"{line}\n".encode()) > 0
    except OSError:
        return False
    finally:
        os.close(fd)


class Supervision:
    """Over all supervisors of one driver. They outlive it; it finds each of them by its folder."""

    def __init__(self) -> None:
        self.launcher = Launcher()
        self.watcher = Watcher()

    async def begin(self, folder: str, name: str, engine_id: str) -> None:
        """Until the command runs or has ended. Raises StartFailed with the runtime's words, or ExitUnknown."""
        loop = asyncio.get_running_loop()
        give_up = loop.time() + _CLAIM_SECONDS
        with self.watcher.watching(folder) as news:
            await self._launch(folder, engine_id)
            while True:
                news.clear()
                claimed = claim_state(folder)
                if is_there(folder, STARTED) or is_there(folder, EXIT):
                    return
                if failure := read_json(folder, START_FAILED):
                    raise StartFailed("the runtime could not start the container", failure["words"])
                if claimed == "free" or not is_there(folder, RUN):
                    raise ExitUnknown(name, "its supervisor was killed while it started")
                if claimed == "none" and loop.time() > give_up:
                    raise StartFailed("its supervisor did not begin: is the disk full, or the machine overloaded?")
                died = self.launcher.died
                await wait_for_news(LOOK_AGAIN_SECONDS, news, died)
                if died.is_set() and claim_state(folder) == "none":
                    # A second supervisor finds the claim of a first one, and ends.
                    await self._launch(folder, engine_id)

    async def ended(self, folder: str, engine_id: str) -> ContainerState:
        """Its state as soon as it is neither created nor running."""
        with self.watcher.watching(folder) as news:
            while True:
                # Before the look: what happens after it is news.
                news.clear()
                state = state_of(folder, engine_id)
                if state not in (ContainerState.CREATED, ContainerState.RUNNING):
                    return state
                await wait_for_news(LOOK_AGAIN_SECONDS, news)

    async def stop(self, folder: str, engine_id: str, grace_seconds: float) -> None:
        """Have it stop its container; nothing when there is no supervisor."""
        await self._tell(folder, engine_id, f"stop {grace_seconds}")

    async def extend(self, folder: str, engine_id: str, deadline: float) -> None:
        """Move its deadline, in seconds since 1970; nothing when there is no supervisor."""
        await self._tell(folder, engine_id, f"deadline {deadline}")

    async def end(self, folder: str) -> None:
        """Have it kill its container and clean up; kill it when it does not."""
        loop = asyncio.get_running_loop()
        give_up = loop.time() + _END_SECONDS
        with self.watcher.watching(folder) as news:
            while claim_state(folder) == "held":
                news.clear()
                if not is_there(folder, EXIT):
                    tell(folder, "stop 0")
                if loop.time() > give_up and (pid := claim_pid(folder)):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                if claim_state(folder) == "held":
                    await wait_for_news(0.2, news)

    async def close(self) -> None:
        self.watcher.close()
        await self.launcher.close()

    async def _launch(self, folder: str, engine_id: str) -> None:
        try:
            await self.launcher.launch(folder, engine_id)
        except OSError as problem:
            raise StartFailed("no supervisor can be started", str(problem)) from problem

    async def _tell(self, folder: str, engine_id: str, line: str) -> None:
        # One that has only just begun does not listen yet.
        with self.watcher.watching(folder) as news:
            while not tell(folder, line):
                if state_of(folder, engine_id) is not ContainerState.RUNNING:
                    return
                await wait_for_news(_LISTEN_SECONDS, news)
