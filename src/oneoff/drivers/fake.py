"""The `fake` driver: scripted, in memory, and strict about the order of calls. For the tests of the engine.

It passes the same contract suite as the real ones. A breach of the contract by the caller raises ContractBreach.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime

from oneoff.core.image import ImageRef
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
from oneoff.drivers.fake_engine import ContractBreach, FakeContainer, FakeEngine
from oneoff.errors import (
    AlreadyStarted,
    ContainerBusy,
    ContainerExists,
    ContainerGone,
    DriverUnavailable,
    EngineUnavailable,
    ExitUnknown,
    ImageUnavailable,
)

__all__ = ["ContractBreach", "FakeDriver", "FakeEngine"]


class FakeDriver:
    """One server's driver on a `FakeEngine`. `crash` is what SIGKILL does to it: the engine goes on."""

    def __init__(self, instance: str, engine: FakeEngine) -> None:
        self._instance = instance
        self._engine = engine
        self._is_dead = False
        self._kills: dict[str, tuple[float, asyncio.Task[None]]] = {}

    @property
    def name(self) -> str:
        return "fake"

    def capabilities(self) -> Capabilities:
        return self._engine.capabilities

    async def check(self) -> NodeFacts:
        try:
            async with self._call("check", ""):
                engine = self._engine
                return NodeFacts(engine.node, engine.cpus, engine.memory_bytes, "fake 1")
        except EngineUnavailable as error:
            raise DriverUnavailable("the fake engine is away: set is_away = False") from error

    async def prepare(self, image: ImageRef, credentials: RegistryCredentials | None = None) -> PreparedImage:
        async with self._call("prepare", str(image)):
            found = self._find_image(image)
            self._engine.local.pop(found.digest, None)
            self._engine.local[found.digest] = (found, 1)
            return found

    async def resolve(self, image: ImageRef, credentials: RegistryCredentials | None = None) -> str:
        async with self._call("resolve", str(image)):
            return self._find_image(image).digest

    async def check_networks(self, names: Sequence[str]) -> None:
        async with self._call("check_networks", ""):
            self._engine.check_networks(names)

    async def create(self, spec: ContainerSpec) -> Handle:
        _require(bool(spec.argv and spec.name and spec.run_id), "a spec needs argv, name and run_id")
        _require(all("\0" not in word for word in (*spec.argv, *spec.variables.values())), "NUL cannot be passed")
        async with self._call("create", spec.run_id):
            if spec.image.digest not in self._engine.local:
                raise ImageUnavailable(spec.image.ref, "the fake engine does not have it: prepare it first")
            if any(container.handle.name == spec.name for container in self._engine.containers.values()):
                raise ContainerExists(spec.name)
            self._engine.check_networks(spec.networks)
            container = self._engine.make(spec, self.name, self._instance)
            if container.script.refusal is not None:
                del self._engine.containers[container.handle.engine_id]
                raise container.script.refusal
            return container.handle

    async def start(self, handle: Handle) -> None:
        async with self._call("start", handle.run_id):
            container = self._get(handle)
            if container.state is not ContainerState.CREATED:
                raise AlreadyStarted(handle.name)
            self._engine.begin(container)

    async def logs(self, handle: Handle, position: LogPosition) -> AsyncIterator[LogChunk]:
        async with self._call("logs", handle.run_id):
            container = self._get(handle)
        _require(container.state is not ContainerState.CREATED, "logs() is for started containers")
        skip = {"stdout": position.stdout, "stderr": position.stderr}
        held = {stream: sum(len(data) for name, data, _ in container.log if name == stream) for stream in skip}
        _require(all(skip[stream] <= held[stream] for stream in skip), "the position is beyond what was written")
        total, index = position.stdout + position.stderr, 0
        while True:
            while index < len(container.log):
                stream, data, time = container.log[index]
                index += 1
                left_out = min(skip[stream], len(data))
                skip[stream] -= left_out
                if data := data[left_out:]:
                    total += len(data)
                    yield LogChunk(total, stream, time, data)
            if container.state is not ContainerState.RUNNING:
                return
            await self._engine.change()
            self._engine.raise_if_away()

    async def wait(self, handle: Handle) -> Exit:
        async with self._call("wait", handle.run_id):
            container = self._get(handle)
        _require(container.state is not ContainerState.CREATED, "wait() is for started containers")
        while container.state is ContainerState.RUNNING:
            await self._engine.change()
            self._engine.raise_if_away()
            self._get(handle)
        if container.state is ContainerState.UNKNOWN:
            raise ExitUnknown(handle.name, "the fake engine lost it")
        assert container.started_at is not None
        assert container.finished_at is not None
        return Exit(
            container.code,
            container.oom_seen,
            container.started_at,
            container.finished_at,
            unseen=container.is_unseen,
        )

    async def stop(self, handle: Handle, grace_seconds: float) -> None:
        _require(grace_seconds >= 0, "a grace is not negative")
        async with self._call("stop", handle.run_id):
            container = self._engine.containers.get(handle.engine_id)
            if container is None or container.state is not ContainerState.RUNNING:
                return
            due = asyncio.get_running_loop().time() + grace_seconds
            going = self._kills.get(handle.engine_id)
            if going is None:
                container.terms += 1
                if container.script.code_on_term is not None:
                    self._engine.end(container, container.script.code_on_term)
                    return
            elif due >= going[0]:
                return
            else:
                going[1].cancel()
            if self._engine.kills_by_itself:
                self._kills[handle.engine_id] = (due, asyncio.create_task(self._kill_after(container, grace_seconds)))

    async def extend(self, handle: Handle, deadline: datetime) -> None:
        async with self._call("extend", handle.run_id):
            if (container := self._engine.containers.get(handle.engine_id)) is not None:
                container.deadline = deadline

    async def remove(self, handle: Handle, *, force: bool = True) -> None:
        async with self._call("remove", handle.run_id):
            container = self._engine.containers.get(handle.engine_id)
            if container is None:
                return
            if not force and container.state is not ContainerState.CREATED:
                raise ContainerBusy(handle.name)
            self._engine.end(container, 137)
            del self._engine.containers[handle.engine_id]
            self._engine.notify()
            if not force and container.is_forgotten:
                raise ExitUnknown(handle.name, "the fake engine was killed while it was to start")

    async def inspect(self, handle: Handle) -> ContainerState:
        async with self._call("inspect", handle.run_id):
            container = self._engine.containers.get(handle.engine_id)
            return container.state if container else ContainerState.ABSENT

    async def find(self, name: str) -> Handle | None:
        async with self._call("find", name):
            found = self._engine.find({"name": name, "instance": self._instance})
            return found.handle if found else None

    async def list(self) -> list[Handle]:
        async with self._call("list", ""):
            return [c.handle for c in self._engine.containers.values() if c.instance == self._instance]

    async def drop_images(self, keep: frozenset[str], budget_bytes: int) -> list[str]:  # type: ignore[valid-type]
        async with self._call("drop_images", ""):
            in_use = {container.spec.image.digest for container in self._engine.containers.values()}
            dropped = []
            for digest in [digest for digest in self._engine.local if digest not in keep | in_use]:
                if sum(size for _, size in self._engine.local.values()) <= budget_bytes:
                    break
                del self._engine.local[digest]
                dropped.append(digest)
            return dropped

    async def close(self) -> None:
        self.crash()

    def crash(self) -> None:
        """The server is gone: no call of it does anything any more, and a KILL that was due is not sent."""
        self._is_dead = True
        for _, task in self._kills.values():
            task.cancel()
        self._kills.clear()

    @asynccontextmanager
    async def _call(self, name: str, key: str) -> AsyncIterator[None]:
        """Around the effect of a call: records it, and lets an injected failure strike before or after."""
        _require(not self._is_dead, f"{name}() was called on a driver that is closed or crashed")
        self._engine.calls.append((name, key))
        # A real engine lets other tasks run meanwhile.
        await asyncio.sleep(0)
        self._engine.raise_if_away()
        failure = self._engine.take_failure(name, key)
        if failure is not None and not failure.after_effect:
            raise failure.error
        yield
        if failure is not None:
            raise failure.error

    def _get(self, handle: Handle) -> FakeContainer:
        _require(handle.driver == self.name and handle.node == self._engine.node, "this handle is of another node")
        container = self._engine.containers.get(handle.engine_id)
        if container is None:
            raise ContainerGone(handle.name)
        _require(container.handle == handle, "this handle was put together by hand")
        return container

    def _find_image(self, image: ImageRef) -> PreparedImage:
        text = str(image)
        for known in (*self._engine.sources.values(), *(known for known, _ in self._engine.local.values())):
            if known.ref == text or (image.digest and known.digest == image.digest):
                return known
        if text not in self._engine.sources:
            raise ImageUnavailable(text, "manifest unknown")
        return self._engine.sources[text]

    async def _kill_after(self, container: FakeContainer, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self._engine.end(container, 137)
        self._kills.pop(container.handle.engine_id, None)


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise ContractBreach(otherwise)
