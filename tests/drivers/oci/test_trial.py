"""The runtime is tried before it is taken; what does not work is passed over, and told in its own words."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from oneoff.drivers.oci import runtime
from oneoff.drivers.oci.driver import OciDriver
from oneoff.drivers.oci.runtime import is_too_old
from oneoff.errors import DriverUnavailable
from tests.drivers.oci.conftest import Workbench

pytestmark = pytest.mark.anyio

_REFUSING = """#!/bin/sh
[ "$1" = --version ] && echo "{version}" && exit 0
echo '{{"level":"error","msg":"no such luck"}}' > "$4"
exit 1
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Have PATH find these programs instead: a version that refuses to start, or "" for none at all."""
    real = shutil.which

    def put(**versions: str) -> None:
        for name, version in versions.items():
            (tmp_path / name).write_text(_REFUSING.format(version=version))
            (tmp_path / name).chmod(0o755)

        def which(name: str) -> str | None:
            if name not in versions:
                return real(name)
            return str(tmp_path / name) if versions[name] else None

        monkeypatch.setattr(runtime.shutil, "which", which)

    return put


async def test_crun_is_taken_where_it_works(oci: Workbench) -> None:
    facts = await oci.driver.check()
    assert facts.engine.startswith("crun ")
    assert facts.why == "it starts a run in less time than runc"


async def test_the_setting_decides(tmp_path: Path) -> None:
    driver = OciDriver(tmp_path, "named", "runc")
    facts = await driver.check()
    await driver.close()
    assert (facts.engine.split()[0], facts.why) == ("runc", "the setting oci_runtime names it")


@pytest.mark.parametrize(
    ("crun", "why"),
    [
        ("crun version 1.9", "crun 1.9 cannot start a container here: no such luck"),
        ("crun version 1.7.2", "crun 1.7.2 is too old"),
        ("", "crun, which starts a run in less time, is not installed"),
    ],
)
async def test_runc_stands_in_for_it(tmp_path: Path, install: Callable[..., None], crun: str, why: str) -> None:
    install(crun=crun)
    driver = OciDriver(tmp_path, "standin")
    facts = await driver.check()
    await driver.close()
    assert (facts.engine.split()[0], facts.why) == ("runc", why)


async def test_where_neither_works_their_words_are_told(tmp_path: Path, install: Callable[..., None]) -> None:
    install(crun="crun version 1.9", runc="runc version 1.3.3")
    driver = OciDriver(tmp_path, "neither")
    with pytest.raises(DriverUnavailable) as refused:
        await driver.check()
    await driver.close()
    for words in ("crun 1.9 cannot start a container here: no such luck", "runc 1.3.3 cannot", "install another"):
        assert words in str(refused.value)
    assert not list(tmp_path.glob("oci/runs/neither/.*"))


@pytest.mark.parametrize(("version", "old"), [("1.8.1", False), ("1.14", False), ("1.7.2", True), ("unknown", True)])
def test_old_releases_are_known_by_their_numbers(version: str, old: bool) -> None:
    assert is_too_old(version) is old
