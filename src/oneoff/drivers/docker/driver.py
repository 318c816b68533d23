"""The `docker` driver: containers by the Engine API of Docker or of Podman. Made by `drivers.registry`.

It keeps nothing in memory that matters: what is remembered here only saves calls.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from pathlib import Path

from oneoff.core.image import ImageRef
from oneoff.drivers.docker.client import OTHERWISE, Call, Engine, Refusals
from oneoff.drivers.docker.clock import EngineClock
from oneoff.drivers.docker.convert import (
    INSTANCE_LABEL,
    is_ours,
    to_create_body,
    to_handle,
    to_instant,
    to_listed_handle,
    to_state,
    was_started,
)
from oneoff.drivers.docker.ending import Ending
from oneoff.drivers.docker.executable import ExecutableCheck
from oneoff.drivers.docker.facts import to_capabilities, to_node_facts
from oneoff.drivers.docker.imagedrop import drop_images
from oneoff.drivers.docker.images import ImageStore
from oneoff.drivers.docker.live import LiveOutput
from oneoff.drivers.docker.logs import LogReader
from oneoff.drivers.docker.networks import check_networks, find_missing
from oneoff.drivers.driver import (
    Capabilities,
    ContainerSpec,
    ContainerState,
    Exit,
    Handle,
    LogChunk,
    LogPosition,
    NodeFacts,
    PreparedImage,
    RegistryCredentials,
)
from oneoff.errors import (
    AlreadyStarted,
    ContainerBusy,
    ContainerExists,
    ContainerGone,
    DriverError,
    DriverUnavailable,
    EngineUnavailable,
    ExitUnknown,
    ImageUnavailable,
    StartFailed,
)

_REMOVAL_SECONDS = 30.0
_FORGOTTEN = (
    "the engine has no record of it from before it was to start, as after a restart of the engine: nobody can tell "
    "whether it was started, and it may be going on"
)


class DockerDriver:
    """Containers of one Oneoff instance in one engine. `host` is like DOCKER_HOST; None means that variable."""

    def __init__(self, instance: str, host: str | None = None, machine_id: str | None = None) -> None:
        self._instance = instance
        self._machine_id = machine_id
        self._engine = Engine(host)
        self._images = ImageStore(self._engine)
        self._executables = ExecutableCheck(self._engine)
        self._clock = EngineClock(self._engine)
        self._ending = Ending(self._engine, self._clock)
        self._facts: NodeFacts | None = None
        self._is_podman = False
        self._sandboxes: tuple[str, ...] = ()
        self._cgroup_version = ""
        # Made by this very object and never asked to start: the only ones that need no look before the start.
        self._fresh: set[str] = set()
        self._live: dict[str, LiveOutput] = {}

    @property
    def name(self) -> str:
        return "docker"

    def capabilities(self) -> Capabilities:
        return to_capabilities(self._sandboxes, is_podman=self._is_podman, cgroup_version=self._cgroup_version)

    async def check(self) -> NodeFacts:
        self._engine.forget_version()
        try:
            version = await self._engine.version()
            info = await self._engine.send(Call("GET", "/info", read_seconds=30))
        except EngineUnavailable as error:
            raise DriverUnavailable(
                f"no Docker Engine answers at {self._engine.host}: start it (systemctl start docker), give this user "
                "access to its socket (group docker), or set DOCKER_HOST",
                error.detail,
            ) from error
        self._is_podman = version.is_podman
        self._cgroup_version = str(info.get("CgroupVersion") or "")
        self._sandboxes = () if version.is_podman else tuple({"runsc"} & set(info.get("Runtimes") or {}))
        self._facts = to_node_facts(version, info, self._machine_id or self._read_machine_id())
        return self._facts

    async def prepare(self, image: ImageRef, credentials: RegistryCredentials | None = None) -> PreparedImage:
        return await self._images.prepare(image, credentials)

    async def resolve(self, image: ImageRef, credentials: RegistryCredentials | None = None) -> str:
        return await self._images.resolve(image, credentials)

    async def check_networks(self, names: Sequence[str]) -> None:
        await check_networks(self._engine, names)

    async def create(self, spec: ContainerSpec) -> Handle:
        node = await self._node()
        if spec.sandbox and self._is_podman:
            raise StartFailed(f"no sandbox {spec.sandbox}", to_capabilities((), is_podman=True).notes["sandboxes"])
        refusals: Refusals = {
            # 404 "No such image: …"; networks and runtimes are refused with other statuses.
            404: lambda words: ImageUnavailable(spec.image.ref, words),
            409: lambda _: ContainerExists(spec.name),
            OTHERWISE: lambda words: (
                _name_taken(spec.name, words) or self._start_failed("the engine refused to create it", words)
            ),
        }
        body = to_create_body(spec, self._instance, is_podman=self._is_podman)
        call = Call("POST", "/containers/create", params={"name": spec.name}, body=body, refusals=refusals)
        engine_id = (await self._engine.send(call))["Id"]
        handle = Handle(self.name, node, spec.name, engine_id, spec.run_id)
        try:
            for network in spec.networks[1:]:
                await self._connect(handle, network)
            if not self._executables.is_known_good(spec):
                await self._executables.check(engine_id, spec)
        except DriverError:
            await self.remove(handle)
            raise
        self._fresh.add(engine_id)
        return handle

    async def start(self, handle: Handle) -> None:
        if handle.engine_id in self._fresh:
            self._fresh.discard(handle.engine_id)
        else:
            await self._raise_unless_startable(handle)
        await self._attach(handle)
        try:
            await self._start(handle)
        except DriverError:
            await self._detach(handle)
            raise
        self._ending.started(handle)

    async def _start(self, handle: Handle) -> None:
        why = "the engine could not start it"
        refusals: Refusals = {
            # 404 is "No such container: …", and also "network x not found".
            404: lambda words: _gone(handle, words) or self._start_failed(why, words),
            OTHERWISE: lambda words: self._start_failed(why, words),
        }
        call = Call("POST", f"/containers/{handle.engine_id}/start", refusals=refusals, read_seconds=300)
        try:
            async with self._engine.stream(call) as answer:
                already = answer.status == 304
        except StartFailed:
            # A start that failed late (a lost connection to containerd, a timeout) may have happened all the same.
            if await self.inspect(handle) in (ContainerState.CREATED, ContainerState.ABSENT):
                raise
            return
        if already:
            raise AlreadyStarted(handle.name)

    def logs(self, handle: Handle, position: LogPosition) -> AsyncIterator[LogChunk]:
        reader = LogReader(self._engine, self._clock, handle, position)
        is_fresh = position == LogPosition()
        return reader.read(self._ending, lambda: self._live.pop(handle.engine_id, None) if is_fresh else None)

    async def wait(self, handle: Handle) -> Exit:
        return await self._ending.wait(handle)

    async def stop(self, handle: Handle, grace_seconds: float) -> None:
        await self._ending.stop(handle, grace_seconds)

    async def extend(self, handle: Handle, deadline: datetime) -> None:
        """The engine knows no deadlines."""

    async def remove(self, handle: Handle, *, force: bool = True) -> None:
        created_at = 0.0
        if not force:
            inspected = await self._ending.inspect(handle)
            if inspected is None:
                return
            if to_state(inspected) is not ContainerState.CREATED:
                raise ContainerBusy(handle.name)
            created = to_instant(inspected["Created"])
            created_at = created.timestamp() if created else 0.0
        await self._delete(handle, force=force)
        self._fresh.discard(handle.engine_id)
        self._ending.forget(handle)
        await self._detach(handle)
        if not force:
            await self._raise_unless_never_started(handle, created_at - 1)

    async def inspect(self, handle: Handle) -> ContainerState:
        inspected = await self._ending.inspect(handle)
        return ContainerState.ABSENT if inspected is None else to_state(inspected)

    async def find(self, name: str) -> Handle | None:
        refusals: Refusals = {404: ContainerGone}
        try:
            inspected = await self._engine.send(Call("GET", f"/containers/{name}/json", refusals=refusals))
        except ContainerGone:
            return None
        # The engine also takes an id, or the beginning of one, for a name.
        if inspected["Name"].removeprefix("/") != name or not is_ours(inspected["Config"]["Labels"], self._instance):
            return None
        return to_handle(inspected, await self._node())

    async def list(self) -> list[Handle]:
        filters = json.dumps({"label": [f"{INSTANCE_LABEL}={self._instance}"]})
        call = Call("GET", "/containers/json", params={"all": "1", "filters": filters})
        node = await self._node()
        found = await self._engine.send(call) or []
        return [to_listed_handle(item, node) for item in found if is_ours(item.get("Labels"), self._instance)]

    async def drop_images(self, keep: frozenset[str], budget_bytes: int) -> list[str]:  # type: ignore[valid-type]
        return await drop_images(self._engine, self._images, keep, budget_bytes)

    async def close(self) -> None:
        for live in self._live.values():
            await live.close()
        self._live.clear()
        await self._ending.close()
        await self._engine.close()

    async def _node(self) -> str:
        return (self._facts or await self.check()).node

    async def _attach(self, handle: Handle) -> None:
        # Podman's attached stream ends before the output does.
        if (await self._engine.version()).is_podman:
            return
        live = LiveOutput(self._engine, handle.engine_id)
        self._live[handle.engine_id] = live
        if not await live.opened():
            await self._detach(handle)

    async def _detach(self, handle: Handle) -> None:
        if live := self._live.pop(handle.engine_id, None):
            await live.close()

    async def _connect(self, handle: Handle, network: str) -> None:
        why = f"network {network} cannot be joined"
        refusals: Refusals = {OTHERWISE: lambda words: self._start_failed(why, words)}
        body = {"Container": handle.engine_id}
        await self._engine.act(Call("POST", f"/networks/{network}/connect", body=body, refusals=refusals))

    def _start_failed(self, why: str, words: str) -> StartFailed:
        return find_missing(words, is_podman=self._is_podman) or StartFailed(why, words)

    async def _raise_unless_startable(self, handle: Handle) -> None:
        """POST start on an exited container would run it a second time."""
        inspected = await self._ending.inspect(handle)
        if inspected is None:
            raise ContainerGone(handle.name)
        if was_started(inspected) or to_state(inspected) is not ContainerState.CREATED:
            raise AlreadyStarted(handle.name)

    async def _raise_unless_never_started(self, handle: Handle, since: float) -> None:
        """By the engine's own record of a container that is gone, so that no start can come any more. The record lives
        in the engine's memory: Docker keeps a start on disk only after the command has begun, and an engine that was
        killed between the two calls it `created` for ever, also while the command goes on."""
        events = await self._ending.read_events(handle, ("create", "start"), since)
        actions = {event.get("Action") or event.get("status") for event in events}
        if "start" in actions:  # between our look and the removal
            raise ContainerBusy(handle.name)
        if "create" not in actions:
            raise ExitUnknown(handle.name, _FORGOTTEN)

    async def _delete(self, handle: Handle, *, force: bool) -> None:
        """With its anonymous volumes. Returns when it is gone."""
        refusals: Refusals = {404: ContainerGone, 409: ContainerBusy, OTHERWISE: EngineUnavailable}
        params = {"v": "1", "force": "1" if force else "0"}
        call = Call("DELETE", f"/containers/{handle.engine_id}", params=params, refusals=refusals)
        deadline = time.monotonic() + _REMOVAL_SECONDS
        while True:
            try:
                await self._engine.act(call)
            except ContainerGone:
                return
            except ContainerBusy as busy:
                # Without force: it runs. With force: "removal of container … is already in progress".
                if not force:
                    raise ContainerBusy(handle.name) from busy
                if time.monotonic() > deadline:
                    raise EngineUnavailable(f"the engine does not get rid of {handle.name}", str(busy)) from busy
                await asyncio.sleep(0.1)
            else:
                return

    def _read_machine_id(self) -> str:
        """Of this machine; a remote engine is told apart by its own id alone."""
        try:
            return Path("/etc/machine-id").read_text().strip() if self._engine.is_local else ""
        except OSError:
            return hashlib.sha256(b"no machine id").hexdigest()


def _name_taken(name: str, words: str) -> DriverError | None:
    """Podman says 500 where Docker says 409."""
    return ContainerExists(name) if "name" in words and "already in use" in words else None


def _gone(handle: Handle, words: str) -> DriverError | None:
    is_meant = words.lower().startswith("no such container") or "no container with" in words.lower()
    return ContainerGone(handle.name) if is_meant else None
