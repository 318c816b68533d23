"""A real oci driver on a data folder and an instance of its own, and looks at what it leaves on the machine."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from oneoff.core.image import parse_image_ref
from oneoff.drivers.driver import ContainerSpec, Exit, Handle, LogPosition, PreparedImage, Resources
from oneoff.drivers.oci import netrules
from oneoff.drivers.oci.driver import OciDriver
from tests.rig import images


@dataclass
class Workbench:
    """One instance: its drivers (each as a restarted server would make it), images and traces."""

    instance: str
    data_dir: Path
    driver: OciDriver
    image: PreparedImage

    def spec(self, *argv: str, **changes: Any) -> ContainerSpec:
        number = os.urandom(4).hex()
        spec = ContainerSpec(
            run_id=f"run-{number}",
            name=f"oneoff-run-{number}",
            image=self.image,
            argv=argv,
            variables={},
            resources=Resources(64 << 20, 1.0, 64),
            networks=("none",),
            network_scope="srv-1",
            hostname="runner",
            log_dir=self.data_dir / "logs" / number,
            log_cap_bytes=64 << 20,
            grace_seconds=1.0,
            deadline=None,
        )
        return replace(spec, **changes)

    async def start(self, *argv: str, **changes: Any) -> Handle:
        handle = await self.driver.create(self.spec(*argv, **changes))
        await self.driver.start(handle)
        return handle

    async def run(self, *argv: str, **changes: Any) -> tuple[Exit, str, str]:
        handle = await self.start(*argv, **changes)
        ended = await asyncio.wait_for(self.driver.wait(handle), 30)
        out, err = await self.output(handle)
        await self.driver.remove(handle)
        return ended, out, err

    async def output(self, handle: Handle) -> tuple[str, str]:
        kept = {"stdout": b"", "stderr": b""}
        async for chunk in self.driver.logs(handle, LogPosition()):
            kept[chunk.stream] += chunk.data
        return kept["stdout"].decode(), kept["stderr"].decode()

    async def shell(self, script: str, **changes: Any) -> str:
        """The output of a script that must succeed."""
        ended, out, err = await self.run("sh", "-c", script, **changes)
        assert ended.code == 0, (ended, out, err)
        return out

    def run_folder(self, handle: Handle) -> Path:
        return self.data_dir / "oci/runs" / self.instance / handle.name

    def supervisor_pid(self, handle: Handle) -> int:
        return int((self.run_folder(handle) / "claim").read_text())

    def traces(self) -> list[str]:
        """Everything of this instance that is on the machine beside its images."""
        found = [str(path) for path in Path("/sys/fs/cgroup").glob(f"*/oneoff.{self.instance}.*")]
        found += [str(path) for path in (self.data_dir / "oci/runs" / self.instance).iterdir()]
        for root in (Path("/run"), Path("/dev/shm")):
            found += [str(path) for path in root.glob(f"oneoff/{self.instance}/**/*") if path.is_file()]
        tag = netrules.to_tag(self.instance)
        found += [path.name for path in Path("/run/netns").glob(f"*{tag}*")]
        found += [path.name for path in Path("/sys/class/net").glob(f"*{tag}*")]
        rules = subprocess.run(["iptables-save"], capture_output=True, text=True, check=True).stdout
        found += [line for line in rules.splitlines() if tag in line]
        mounts = Path("/proc/self/mounts").read_text().splitlines()
        return found + [line for line in mounts if self.instance in line]


@pytest.fixture(scope="session")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder whose images all tests of this folder share."""
    return tmp_path_factory.mktemp("oci-images")


@pytest.fixture
def runtime() -> str | None:
    """What a server without the setting takes."""
    return None


@pytest.fixture
async def oci(anyio_backend: str, unpacked: Path, tmp_path: Path, runtime: str | None) -> AsyncIterator[Workbench]:
    (tmp_path / "oci").mkdir()
    (unpacked / "images").mkdir(exist_ok=True)
    (tmp_path / "oci/images").symlink_to(unpacked / "images")
    instance = f"t{os.urandom(4).hex()}"
    driver = OciDriver(tmp_path, instance, runtime)
    await driver.check()
    made = Workbench(instance, tmp_path, driver, await driver.prepare(parse_image_ref(images.image_ref("base"))))
    yield made
    for handle in await made.driver.list():
        await made.driver.remove(handle)
    await made.driver.close()
    assert made.traces() == []


@pytest.fixture
def wait_until() -> Callable[..., Any]:
    async def look(is_so: Callable[[], bool], seconds: float = 10) -> None:
        for _ in range(int(seconds / 0.02)):
            if is_so():
                return
            await asyncio.sleep(0.02)
        raise AssertionError("it did not become so")

    return look
