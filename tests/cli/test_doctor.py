"""`oneoff doctor`: on this very machine, and over recorded trees of others."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from email.utils import formatdate
from pathlib import Path

import pytest

from oneoff.cli.driver_checks import check_drivers
from oneoff.cli.machine_checks import (
    check_cgroups,
    check_clock,
    check_disk,
    check_overlay,
    check_permissions,
    check_python,
    check_sqlite,
)
from oneoff.cli.server_checks import check_skew, loopback_names
from oneoff.settings import Settings
from tests.cli.conftest import Cli
from tests.rig.dockerd import Dockerd

_V1_LISTING = "#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpu\t2\t1\t1\nmemory\t3\t1\t{memory}\npids\t4\t1\t1\n"


def test_it_works_on_this_machine_without_a_server(lonely_cli: Cli) -> None:
    done = lonely_cli.run("--url", "http://127.0.0.1:9", "doctor", "--json", "--data", str(lonely_cli.home / "data"))
    report = json.loads(done.stdout)
    levels = {finding["level"] for finding in report["findings"]}
    assert levels <= {"ok", "warning", "problem"}
    assert done.returncode == (1 if "problem" in levels else 0)
    assert report["ok"] == ("problem" not in levels)
    checks = {finding["check"] for finding in report["findings"]}
    assert {"python", "sqlite", "disk", "clock", "cgroups", "overlay", "user", "programs", "server"} <= checks
    assert any(check.startswith("driver ") for check in checks)
    assert all(finding["mend"] for finding in report["findings"] if finding["level"] != "ok")
    assert not (lonely_cli.home / "data").exists()


def test_its_lines_say_level_check_and_mend(lonely_cli: Cli) -> None:
    done = lonely_cli.run("--url", "http://127.0.0.1:9", "doctor")
    lines = done.stdout.decode().splitlines()
    assert "warning  server: none answers at http://127.0.0.1:9 (connection refused)" in lines
    assert "         mend: start one with `oneoff serve`" in lines


@pytest.mark.anyio
async def test_no_driver_at_all_is_a_problem_with_its_mend(tmp_path: Path) -> None:
    [finding] = await check_drivers(Settings(driver="docker", docker_host=f"unix://{tmp_path}/none.sock"))
    assert (finding.level, finding.check) == ("problem", "driver docker")
    assert "systemctl start docker" in finding.mend


def test_cgroups_of_all_kinds_are_told_apart(tmp_path: Path) -> None:
    listing = tmp_path / "cgroups"
    listing.write_text(_V1_LISTING.format(memory=1))
    v2 = tmp_path / "v2"
    v2.mkdir()
    (v2 / "cgroup.controllers").write_text("cpuset cpu io memory pids\n")
    assert check_cgroups(v2, listing).says == "v2: cpu, memory, pids"
    v1 = tmp_path / "v1"
    for name in ("cpu", "memory", "pids"):
        (v1 / name).mkdir(parents=True)
    (v1 / "memory" / "memory.memsw.limit_in_bytes").write_text("0")
    assert check_cgroups(v1, listing).says == "v1: cpu, memory, pids"
    (v1 / "unified").mkdir()
    assert check_cgroups(v1, listing).says.startswith("hybrid")


def test_a_missing_controller_is_a_problem(tmp_path: Path) -> None:
    listing = tmp_path / "cgroups"
    listing.write_text(_V1_LISTING.format(memory=0))
    for name in ("cpu", "memory", "pids"):
        (tmp_path / "v1" / name).mkdir(parents=True)
    finding = check_cgroups(tmp_path / "v1", listing)
    assert finding.level == "problem"
    assert "without memory" in finding.says
    (tmp_path / "v2").mkdir()
    (tmp_path / "v2" / "cgroup.controllers").write_text("memory\n")
    assert "without cpu, pids" in check_cgroups(tmp_path / "v2", listing).says


def test_disk_below_the_reserve_is_a_problem(tmp_path: Path) -> None:
    assert check_disk(tmp_path / "not" / "yet", 1 << 60).level == "problem"
    assert check_disk(tmp_path, 1).level in {"ok", "warning"}


def test_a_clock_of_another_age_is_a_problem() -> None:
    assert check_clock(datetime(1970, 1, 1, tzinfo=UTC)).level == "problem"


def test_clocks_that_differ_are_a_warning() -> None:
    now = 1_800_000_000.0
    assert check_skew(formatdate(now + 1, usegmt=True), now).level == "ok"
    assert check_skew(formatdate(now - 90, usegmt=True), now).says == "the server's clock is -90s from this one's"
    assert check_skew("", now).level == "ok"


def test_versions_are_judged() -> None:
    assert check_python((3, 10, 1)).level == "problem"
    assert check_sqlite((3, 30, 0)).level == "problem"
    assert "WAL-reset" in check_sqlite((3, 51, 2)).says
    assert "WAL-reset" not in check_sqlite((3, 51, 3)).says


def test_secrets_open_to_others_are_a_problem(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    token = tmp_path / "admin-token"
    token.write_text("x")
    token.chmod(0o644)
    findings = list(check_permissions(tmp_path))
    assert [f.mend for f in findings if f.level == "problem"] == [f"chmod 600 {token}"]


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_an_overlay_is_not_tried_where_the_programs_for_it_are_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    finding = check_overlay(tmp_path)
    assert finding.level == "warning"
    assert "unshare: No such file or directory" in finding.says
    assert finding.mend.startswith("apt-get install")


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_a_place_that_cannot_be_written_is_a_problem_of_the_overlay() -> None:
    finding = check_overlay(Path("/proc/self/oneoff"))
    assert finding.level == "problem"
    assert finding.mend == "choose another --data"


def test_variables_that_name_the_own_machine_are_found() -> None:
    values = {
        "A": "postgres://u:p@127.0.0.1:5432/x",
        "B": "redis://localhost",
        "C": "http://[::1]:80",
        "D": "127.10.0.1",
        "OK": "postgres://db.localhost.example.com/127.0.0.1x 10.127.0.0.1",
        "SECRET": None,
    }
    assert loopback_names({name: {"value": value} for name, value in values.items()}) == ["A", "B", "C", "D"]


@pytest.mark.anyio
async def test_a_docker_engine_is_named_with_its_version(dockerd: Dockerd) -> None:
    works, *holes = await check_drivers(Settings(driver="docker", docker_host=dockerd.host))
    assert (works.level, works.check) == ("ok", "driver docker")
    assert works.says.startswith("works: docker ")
    assert all(hole.level == "warning" and hole.mend for hole in holes)
