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
FIRST_TIME_SECONDS = 240


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
    done = subprocess.run(argv, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def images_and_containers(dockerd: Dockerd) -> tuple[str, str]:
    return dockerd.docker("images", "--quiet", "--no-trunc"), dockerd.docker("ps", "--all", "--quiet")


def assert_shows_the_main_job(words: str) -> None:
    before, after = words.split("oneoff run shop/production -- python manage.py migrate")
    assert "no tables yet" in before
    assert "Applying catalogue.0001_products... OK" in after
    assert "exit code 0" in after
    assert "Chair at 129.00" in after
    # The very process that saw no tables sees them now: it was not restarted.
    since = re.findall(r"up since (\S+)", words)
    assert len(since) == 2
    assert since[0] == since[1]


@pytest.mark.timeout(FIRST_TIME_SECONDS)
def test_the_demo_migrates_a_real_database_with_no_docker_at_all(folder: Path) -> None:
    assert_shows_the_main_job(run_demo(folder, f"unix://{folder}/no-engine-here.sock"))
    assert list(folder.iterdir()) == []
    assert process.pids_naming(f"{folder}/") == []


@pytest.mark.timeout(FIRST_TIME_SECONDS)
def test_the_demo_migrates_a_real_database_with_docker_and_takes_its_image_out_again(
    folder: Path, dockerd: Dockerd
) -> None:
    before = images_and_containers(dockerd)
    assert_shows_the_main_job(run_demo(folder, dockerd.host))
    assert images_and_containers(dockerd) == before
    assert process.pids_naming(f"{folder}/") == []
