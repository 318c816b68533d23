"""Known holes of runc by version and by the distribution's own fixes; finding the programs."""

from __future__ import annotations

import pytest

from oneoff.drivers.oci.driver import OciDriver
from oneoff.drivers.oci.runtime import known_runc_holes
from oneoff.drivers.oci.supervisor import to_words
from oneoff.errors import DriverUnavailable


@pytest.mark.parametrize(
    ("version", "package", "count"),
    [
        ("runc version 1.1.5+ds1", "1.1.5+ds1-1", 2),
        ("runc version 1.1.5+ds1", "1.1.5+ds1-1+deb12u1", 1),
        ("runc version 1.1.5+ds1\ncommit: 1.1.5+ds1-1+deb12u1", "", 1),
        ("runc version 1.1.5+ds1", "1.1.5+ds1-1+deb12u2", 0),
        ("runc version 1.1.12", "", 1),
        ("runc version 1.2.7", "", 1),
        ("runc version 1.2.8", "", 0),
        ("runc version 1.3.2", "", 1),
        ("runc version 1.3.3", "", 0),
        ("runc version 1.4.0", "", 0),
        ("something else", "", 1),
    ],
)
def test_holes_follow_the_fixes_and_not_the_version_alone(version: str, package: str, count: int) -> None:
    assert len(known_runc_holes(version, package)) == count


def test_a_hole_is_told_with_its_mend() -> None:
    (hole,) = known_runc_holes("runc version 1.3.2", "")
    assert "CVE-2025-31133" in hole
    assert "apt-get install runc" in hole


@pytest.mark.anyio
async def test_a_runtime_that_is_not_there_is_told_with_its_mend(tmp_path: object) -> None:
    driver = OciDriver(tmp_path, "missing", "no-such-runtime")  # type: ignore[arg-type]
    with pytest.raises(DriverUnavailable, match="no-such-runtime was not found: apt-get install"):
        await driver.check()
    await driver.close()


def test_an_instance_that_could_be_a_path_is_refused(tmp_path: object) -> None:
    for name in ("", "../up", "a.b", "a b"):
        with pytest.raises(DriverUnavailable):
            OciDriver(tmp_path, name)  # type: ignore[arg-type]


def test_words_of_a_runtime_are_its_errors_only() -> None:
    log = '{"level":"info","msg":"starting"}\n{"level":"error","msg":"runc run failed: no"}\nnot json\n'
    assert to_words(log) == "runc run failed: no; not json"
