"""The image `oneoff demo` makes for itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from oneoff.cli import demo_image
from tests.rig.dockerd import Dockerd


def test_the_image_made_of_busybox_has_a_shell_and_a_user(dockerd: Dockerd, tmp_path: Path) -> None:
    busybox = demo_image.find_busybox()
    assert busybox is not None
    (tmp_path / "image.tar").write_bytes(demo_image.to_docker_archive(busybox.read_bytes()))
    dockerd.load(tmp_path / "image.tar")
    command = "echo $(id -un) | cat; uname | grep -c Linux"
    assert dockerd.docker("run", "--rm", "demo/app:1", "sh", "-c", command) == "app\n1\n"


def test_a_dynamic_program_is_not_taken_for_a_static_busybox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "busybox").symlink_to("/bin/ls")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert demo_image.find_busybox() is None


def test_where_there_is_no_busybox_none_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert demo_image.find_busybox() is None
