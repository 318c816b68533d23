"""`./demo`, whole: what a newcomer sees first must work, and must leave nothing but its cache."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rig import process
from tests.rig.dockerd import Dockerd

ROOT = Path(__file__).resolve().parents[1]
# The first time it makes a small Debian and fetches Django.
FIRST_TIME_SECONDS = 360


@pytest.fixture
def folder() -> Iterator[Path]:
    """For the demo's TMPDIR. Not below pytest's: those are closed to PostgreSQL's user."""
    made = Path(tempfile.mkdtemp(prefix="oneoff-test-demo-"))
    made.chmod(0o711)
    yield made
    process.remove_tree(made)


def run_demo(folder: Path, docker_host: str) -> str:
    environment = os.environ | {"TMPDIR": str(folder), "DOCKER_HOST": docker_host}
    argv = [str(ROOT / "demo")]
    # In one stream, so that all words are in their order.
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    done = subprocess.run(argv, env=environment, **streams, text=True, check=False)
    assert done.returncode == 0, done.stdout
    return done.stdout


def images_and_containers(dockerd: Dockerd) -> tuple[str, str]:
    return dockerd.docker("images", "--quiet", "--no-trunc"), dockerd.docker("ps", "--all", "--quiet")


def assert_shows_the_main_job(words: str) -> None:
    before, after = words.split("oneoff run shop/production -- python manage.py migrate")
    assert "no tables yet" in before
    assert "Applying catalogue.0001_products... OK" in after
    assert "exit code 0" in after
    assert "Chair at 129.00" in after
    # The very process that saw no tables sees them now, and after the failed deploy: it was not restarted.
    since = re.findall(r"up since (\S+)", words)
    assert len(since) == 4
    assert len(set(since[:3])) == 1


def assert_shows_the_gates(words: str) -> None:
    before, failed, done = re.split(r"\$ oneoff deploy shop/production --image \S+:[23]", words)
    assert "CommandError: Chair costs 129.00" in failed
    assert "did not become live: job migrate failed with exit code 1" in failed
    assert "exit code 1, so the app is not restarted" in failed
    assert "Applying catalogue.0003_prices... OK" in done
    assert [re.findall(r"^ *release (\d)$", part, re.MULTILINE) for part in (before, failed, done)] == [
        ["1", "1"],
        ["1"],
        ["3"],
    ]
    listed = done.partition("$ oneoff deploys list")[2].splitlines()
    statuses = [line.split()[1] for line in listed if line.startswith("dep-")]
    assert statuses == ["live", "pre_deploy_failed", "deactivated"]


@pytest.mark.timeout(FIRST_TIME_SECONDS)
def test_the_demo_migrates_a_real_database_with_no_docker_at_all(folder: Path) -> None:
    words = run_demo(folder, f"unix://{folder}/no-engine-here.sock")
    assert_shows_the_main_job(words)
    assert_shows_the_gates(words)
    assert list(folder.iterdir()) == []
    assert process.pids_naming(f"{folder}/") == []


@pytest.mark.timeout(FIRST_TIME_SECONDS)
def test_the_demo_migrates_a_real_database_with_docker_and_takes_its_image_out_again(
    folder: Path, dockerd: Dockerd
) -> None:
    before = images_and_containers(dockerd)
    words = run_demo(folder, dockerd.host)
    assert_shows_the_main_job(words)
    assert_shows_the_gates(words)
    assert images_and_containers(dockerd) == before
    assert process.pids_naming(f"{folder}/") == []
