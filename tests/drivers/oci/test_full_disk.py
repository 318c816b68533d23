"""A disk that fills up under a run: the run goes on, and its end is known. A small tmpfs plays the disk."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from oneoff.logs.folder import read_end
from tests.drivers.oci.conftest import Workbench

pytestmark = pytest.mark.anyio


@pytest.fixture
def disk(oci: Workbench) -> Iterator[Path]:
    folder = oci.data_dir / "oci/runs" / oci.instance
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "small", folder], check=True)
    yield folder
    subprocess.run(["umount", folder], check=True)


async def test_output_beyond_the_disk_is_counted_and_the_end_is_known(oci: Workbench, disk: Path) -> None:
    log_dir = disk / ".logs"
    script = "dd if=/dev/zero bs=64k count=64 2>/dev/null; echo last >&2; exit 7"
    handle = await oci.driver.create(oci.spec("sh", "-c", script, log_dir=log_dir))
    await oci.driver.start(handle)
    assert (await oci.driver.wait(handle)).code == 7
    end = read_end(log_dir)
    if end is not None:
        assert (end.stdout_bytes, end.stderr_bytes) == (64 << 16, 5)
        assert end.missing_bytes > 3 << 20
    await oci.driver.remove(handle)


async def test_a_command_that_fills_the_disk_itself_ends_with_its_own_code(oci: Workbench, disk: Path) -> None:
    handle = await oci.driver.create(oci.spec("sh", "-c", "dd if=/dev/zero of=/srv/big bs=64k; exit 3"))
    await oci.driver.start(handle)
    assert (await oci.driver.wait(handle)).code == 3
    await oci.driver.remove(handle)
