"""What a test of the contract works with: a driver, images, specs, and whole runs in one call."""

from __future__ import annotations

import itertools
import os
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from oneoff.core.image import parse_image_ref
from oneoff.drivers.driver import ContainerSpec, Driver, Exit, Handle, LogPosition, PreparedImage, Resources
from tests.drivers.commands import Command
from tests.drivers.rigs import Rig

_NUMBERS = itertools.count(1)


@dataclass(frozen=True)
class Result:
    exit: Exit
    stdout: bytes
    stderr: bytes

    @property
    def lines(self) -> list[str]:
        return self.stdout.decode().splitlines()


class Bench:
    """One test's view of one rig."""

    def __init__(self, rig: Rig, driver: Driver, log_dir: Path) -> None:
        self.rig = rig
        self.driver = driver
        self._log_dir = log_dir
        self._others: list[Driver] = []

    def needs(self, ability: str) -> None:
        """Skip, with the declared reason, when this driver cannot do it."""
        if ability in self.rig.notes:
            pytest.skip(f"{self.rig.name}: {ability}: {self.rig.notes[ability]}")
        capabilities = self.driver.capabilities()
        notes = capabilities.notes
        declared = getattr(capabilities, ability, None)
        if declared is True or (declared is None and ability not in notes) or (declared and declared is not False):
            return
        assert ability in notes, f"{self.rig.name} lacks {ability} and gives no reason for it"
        pytest.skip(f"{self.rig.name}: {ability}: {notes[ability]}")

    async def image(self, tag: str = "base") -> PreparedImage:
        return await self.driver.prepare(parse_image_ref(self.rig.image_refs[tag]))

    async def spec(self, command: Command | tuple[str, ...], **changes: Any) -> ContainerSpec:
        number = f"{os.getpid()}x{next(_NUMBERS)}"
        log_dir = self._log_dir / number
        log_dir.mkdir()
        spec = ContainerSpec(
            run_id=f"run-{number}",
            name=f"oneoff-run-{number}",
            image=changes.pop("image", None) or await self.image(),
            argv=command.argv if isinstance(command, Command) else command,
            variables={},
            resources=Resources(memory_bytes=64 << 20, cpus=1.0, pids=64),
            networks=("none",),
            network_scope="srv-1",
            hostname="runner",
            log_dir=log_dir,
            log_cap_bytes=64 << 20,
            grace_seconds=2.0,
            deadline=None,
        )
        return replace(spec, **changes)

    async def create(self, command: Command | tuple[str, ...], **changes: Any) -> Handle:
        return await self.driver.create(await self.spec(command, **changes))

    async def start(self, command: Command | tuple[str, ...], **changes: Any) -> Handle:
        handle = await self.create(command, **changes)
        await self.driver.start(handle)
        return handle

    async def run(self, command: Command | tuple[str, ...], **changes: Any) -> Result:
        """From create to remove."""
        handle = await self.start(command, **changes)
        found = await self.driver.wait(handle)
        stdout, stderr = await self.read_logs(handle)
        await self.driver.remove(handle)
        return Result(found, stdout, stderr)

    async def sh(self, script: str, **changes: Any) -> Result:
        """A shell script in the container: only for tests that look at it from inside."""
        self.needs("inside")
        return await self.run(("sh", "-c", script), **changes)

    async def read_logs(self, handle: Handle, position: LogPosition | None = None) -> tuple[bytes, bytes]:
        """Both streams to their end; checks the positions on the way."""
        position = position or LogPosition()
        streams: dict[str, list[bytes]] = {"stdout": [], "stderr": []}
        total = position.stdout + position.stderr
        async for chunk in self.driver.logs(handle, position):
            total += len(chunk.data)
            assert chunk.data
            assert chunk.position == total
            streams[chunk.stream].append(chunk.data)
        return b"".join(streams["stdout"]), b"".join(streams["stderr"])

    async def read_until(self, handle: Handle, text: bytes) -> tuple[bytes, bytes]:
        """Both streams as far as `text` on stdout."""
        streams = {"stdout": b"", "stderr": b""}
        async with aclosing(self.driver.logs(handle, LogPosition())) as chunks:  # type: ignore[type-var]
            async for chunk in chunks:
                streams[chunk.stream] += chunk.data
                if text in streams["stdout"]:
                    break
        return streams["stdout"], streams["stderr"]

    def another_driver(self, instance: str | None = None) -> Driver:
        """A second driver object on the same engine, as another server or a restarted one has it."""
        other = self.rig.make(instance or INSTANCE)
        self._others.append(other)
        return other

    async def change_server(self) -> None:
        """The server ended in good order and another one started."""
        await self.driver.close()
        self.driver = self.rig.make(INSTANCE)

    async def close(self) -> None:
        """Remove what is left, of this and of the other drivers, and close them."""
        for driver in (self.driver, *self._others):
            for handle in await driver.list():
                await driver.remove(handle)
            await driver.close()


INSTANCE = f"contract-{os.getpid()}"
