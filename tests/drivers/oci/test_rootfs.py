"""Users and commands of an unpacked image; its symbolic links never lead to the host."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from oneoff.drivers.oci.rootfs import User, check_command, check_mount_points, find_user, resolve_inside
from oneoff.errors import CommandNotExecutable, CommandNotFound, StartFailed

ROOT = User(0, 0, (), "/root")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for folder in ("bin", "etc", "srv", "private"):
        (tmp_path / folder).mkdir()
    (tmp_path / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\nbroken\n")
    (tmp_path / "etc/group").write_text("root:x:0:\napp:x:1000:\nextra:x:7:app,other\n")
    _script(tmp_path / "bin/sh", "not a script")
    _script(tmp_path / "bin/tool", "#!/bin/sh\n")
    return tmp_path


def _script(path: Path, text: str, mode: int = 0o755) -> None:
    path.write_text(text)
    path.chmod(mode)


@pytest.mark.parametrize(
    "target", ["/etc/hostname", "../../../../../../../../etc/hostname", "/proc/self/root/etc/hostname"]
)
def test_links_never_leave_the_image(root: Path, target: str) -> None:
    (root / "srv/link").symlink_to(target)
    assert resolve_inside(root, "/srv/link") is None
    (root / "etc/hostname").touch()
    found = resolve_inside(root, "/srv/link")
    assert found in (None, root / "etc/hostname")


def test_an_image_with_a_link_in_the_place_of_a_mount_point_is_refused(root: Path) -> None:
    check_mount_points(root)
    (root / "dev").symlink_to("/etc")
    with pytest.raises(StartFailed, match="symbolic link in the place of /dev"):
        check_mount_points(root)


def test_link_loops_end(root: Path) -> None:
    (root / "srv/a").symlink_to("b")
    (root / "srv/b").symlink_to("a")
    assert resolve_inside(root, "/srv/a") is None


@pytest.mark.parametrize(
    ("text", "user"),
    [
        ("", User(0, 0, (), "/root")),
        ("app", User(1000, 1000, (7,), "/home/app")),
        ("1000", User(1000, 1000, (7,), "/home/app")),
        ("app:extra", User(1000, 7, (), "/home/app")),
        ("4242", User(4242, 0, (), "/")),
        ("4242:99", User(4242, 99, (), "/")),
    ],
)
def test_users_are_found_by_name_and_number(root: Path, text: str, user: User) -> None:
    assert find_user(root, text) == user


@pytest.mark.parametrize("text", ["ghost", "app:ghosts"])
def test_names_the_image_does_not_have_are_refused(root: Path, text: str) -> None:
    with pytest.raises(StartFailed, match="ghost"):
        find_user(root, text)


def test_a_passwd_that_is_a_link_to_the_host_is_not_read(root: Path) -> None:
    (root / "etc/passwd").unlink()
    (root / "etc/passwd").symlink_to("/../../../../etc/passwd")
    assert find_user(root, "1000") == User(1000, 0, (), "/")


def test_commands_are_found_along_the_path_and_by_name(root: Path) -> None:
    check_command(root, "tool", "/usr/bin:/bin", "", ROOT)
    check_command(root, "/bin/tool", "", "", ROOT)
    check_command(root, "../bin/tool", "", "/srv", ROOT)
    check_command(root, "../bin/tool", "", "/is/made/../../later", ROOT)


def test_what_is_not_there_is_not_found(root: Path) -> None:
    _script(root / "srv/bad", "#!/no/such/interpreter\n")
    for name in ("nothere", "/srv/nothere", "/srv/bad"):
        with pytest.raises(CommandNotFound):
            check_command(root, name, "/bin", "", ROOT)


def test_what_may_not_be_executed_is_told_apart(root: Path) -> None:
    _script(root / "bin/plain", "#!/bin/sh\n", 0o644)
    _script(root / "bin/others", "#!/bin/sh\n", 0o700)
    (root / "bin/elf").write_bytes(b"\x7fELF\x02\x01\x01" + bytes(11) + b"\xff\x7f" + bytes(60))
    (root / "bin/elf").chmod(0o755)
    for name, user in (("plain", ROOT), ("others", User(1000, 1000)), ("/srv", ROOT), ("elf", ROOT)):
        with pytest.raises(CommandNotExecutable):
            check_command(root, name, "/bin", "", user)


def test_a_closed_folder_on_the_way_counts(root: Path) -> None:
    _script(root / "private/tool", "#!/bin/sh\n")
    (root / "private").chmod(0o700)
    check_command(root, "/private/tool", "", "", ROOT)
    with pytest.raises(CommandNotExecutable):
        check_command(root, "/private/tool", "", "", User(1000, 1000))


def test_a_file_that_cannot_be_executed_does_not_hide_a_later_one(root: Path) -> None:
    _script(root / "srv/tool", "#!/bin/sh\n", 0o644)
    check_command(root, "tool", "/srv:/bin", "", ROOT)


def test_a_program_without_its_dynamic_linker_is_not_found(root: Path) -> None:
    python = Path(os.path.realpath("/usr/bin/python3"))
    (root / "bin/python3").write_bytes(python.read_bytes())
    (root / "bin/python3").chmod(0o755)
    with pytest.raises(CommandNotFound, match="interpreter '/lib"):
        check_command(root, "python3", "/bin", "", ROOT)
