"""Ready network namespaces, a pool per service, each lent to one run at a time. Used by the driver.

    run's namespace: eth0 -- veth -- bridge of this instance -- NAT -- wherever the host can go

Inside only lo and answers are let in; between runs the bridge forwards nothing. `state/net/NAME` says whose a
namespace is: a namespace of a server that is gone, and that no run uses, is removed by the next one.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Coroutine
from dataclasses import dataclass
from pathlib import Path

from oneoff.drivers.oci import netrules
from oneoff.drivers.oci.netrules import Plan
from oneoff.drivers.oci.owner import Owner
from oneoff.errors import StartFailed

NETNS = Path("/run/netns")
_SPARE = 3
_MOST_IDLE_PER_SCOPE = 16
_MOST_IDLE = 64


@dataclass(frozen=True, slots=True)
class Lease:
    """A namespace lent to one run."""

    name: str
    address: str
    gateway: str

    @property
    def path(self) -> str:
        return str(NETNS / self.name)


class NetworkPool:
    """Made with the driver; touches the host's network at the first lending, or when told to warm up."""

    def __init__(self, instance: str, state: Callable[[], Path], owner: Owner) -> None:
        self._tag = netrules.to_tag(instance)
        self._state = state
        self._owner = owner
        self._plan: Plan | None = None
        self._planning = asyncio.Lock()
        self._making = asyncio.Semaphore(3)
        self._spare: deque[str] = deque()
        self._idle: dict[str, deque[str]] = defaultdict(deque)
        self._work: set[asyncio.Task[None]] = set()
        self._closed = False

    async def lend(self, scope: str) -> Lease:
        """One that nobody is in. Costs nothing as long as the pool keeps up. Raises StartFailed."""
        plan = await self._planned()
        if self._idle[scope]:
            name = self._idle[scope].pop()
        elif self._spare:
            name = self._spare.popleft()
        else:
            name = await self._make(plan)
        self._refill()
        index = int(name.rpartition("-")[2])
        return Lease(name, plan.address(index), plan.gateway)

    async def give_back(self, name: str, scope: str, *, empty: bool) -> None:
        """`empty` = the caller knows that no process is left in it; else it is looked at."""
        if not self._is_ours(name) or not (NETNS / name).exists():
            return
        if not empty and await asyncio.to_thread(_has_processes, name):
            return
        idle = sum(len(names) for names in self._idle.values())
        if self._closed or len(self._idle[scope]) >= _MOST_IDLE_PER_SCOPE or idle >= _MOST_IDLE:
            self._spawn(self._delete(name))
            return
        # It may be of a server that is gone: from here on it is ours.
        self._note(name)
        self._idle[scope].append(name)

    async def warm(self) -> None:
        """Have some ready. Problems are told by the first lending."""
        with contextlib.suppress(StartFailed):
            await self._planned()
            self._refill()

    async def reconcile(self, used: Collection[str]) -> None:
        """Remove namespaces of servers that are gone, except those in `used` and those with somebody inside."""
        for name in await asyncio.to_thread(self._orphans):
            if name not in used and not await asyncio.to_thread(_has_processes, name):
                await self._delete(name)

    async def close(self, used: Collection[str]) -> None:
        """Remove what is idle, and the bridge when nobody needs it."""
        self._closed = True
        for task in list(self._work):
            with contextlib.suppress(asyncio.CancelledError):
                await task
        names = [*self._spare, *(name for names in self._idle.values() for name in names)]
        self._spare.clear()
        self._idle.clear()
        await asyncio.gather(*(self._delete(name) for name in names if name not in used))
        async with self._host_lock():
            if not self._names() and netrules.bridge_exists(self._tag):
                await netrules.tear_down(self._tag)
        self._plan = None

    def resolvers(self, gateway: str) -> list[str]:
        return netrules.resolvers(gateway)

    async def _planned(self) -> Plan:
        async with self._planning:
            if self._plan is None or not netrules.bridge_exists(self._tag):
                async with self._host_lock():
                    self._plan = await netrules.set_up(self._tag)
            return self._plan

    def _refill(self) -> None:
        for _ in range(_SPARE - len(self._spare) - len(self._work)):
            if not self._closed:
                self._spawn(self._add_spare())

    async def _add_spare(self) -> None:
        # A failure shows at the next lending, which has a caller to tell.
        with contextlib.suppress(StartFailed):
            self._spare.append(await self._make(await self._planned()))

    async def _make(self, plan: Plan) -> str:
        name, index = self._take_name(plan)
        try:
            async with self._making:
                await netrules.make_namespace(plan, name, index)
        except StartFailed:
            await self._delete(name)
            raise
        return name

    async def _delete(self, name: str) -> None:
        await netrules.delete_namespace(name, self._tag)
        if not (NETNS / name).exists():
            (self._folder() / name).unlink(missing_ok=True)

    def _take_name(self, plan: Plan) -> tuple[str, int]:
        taken = self._names()
        for index in range(plan.first, plan.last + 1):
            name = f"oneoff-{self._tag}-{index}"
            if name not in taken and self._note(name, only_if_absent=True):
                return name, index
        raise StartFailed("all network addresses of this instance are in use: fewer slots, or --network host")

    def _note(self, name: str, *, only_if_absent: bool = False) -> bool:
        """Whose it is, complete as soon as it has its name. False when somebody else was first."""
        staged = self._folder() / f".{self._owner.id}"
        staged.write_text(json.dumps({"owner": self._owner.id}))
        if not only_if_absent:
            staged.replace(self._folder() / name)
            return True
        try:
            (self._folder() / name).hardlink_to(staged)
        except FileExistsError:
            return False
        finally:
            staged.unlink()
        return True

    def _orphans(self) -> list[str]:
        found = []
        for name in self._names():
            owner = ""
            with contextlib.suppress(OSError, ValueError):
                owner = json.loads((self._folder() / name).read_text())["owner"]
            if not self._owner.is_alive(owner):
                found.append(name)
        return found

    def _names(self) -> set[str]:
        known = {name for name in os.listdir(self._folder()) if self._is_ours(name)}  # noqa: PTH208
        with contextlib.suppress(FileNotFoundError):
            known |= {name for name in os.listdir(NETNS) if self._is_ours(name)}  # noqa: PTH208
        return known

    def _is_ours(self, name: str) -> bool:
        return name.startswith(f"oneoff-{self._tag}-")

    def _folder(self) -> Path:
        folder = self._state() / "net"
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder

    def _host_lock(self) -> netrules.HostLock:
        return netrules.HostLock(self._state().parent / "network.lock")

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.ensure_future(work)
        self._work.add(task)
        task.add_done_callback(self._work.discard)


def _has_processes(name: str) -> bool:
    """Whether any process of this machine lives in it."""
    try:
        inode = (NETNS / name).stat().st_ino
    except FileNotFoundError:
        return False
    for pid in os.listdir("/proc"):  # noqa: PTH208
        if pid.isdigit():
            with contextlib.suppress(OSError):
                if os.stat(f"/proc/{pid}/ns/net").st_ino == inode:  # noqa: PTH116
                    return True
    return False
