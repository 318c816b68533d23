"""Users and commands of an unpacked image; its symbolic links never lead to the host."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from oneoff.drivers.oci.rootfs import Root, User, check_command, check_mount_points, find_user, resolve_inside
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


def seen(*layers: Path) -> Root:
    """An image of these layers, from the highest down."""
    return Root(Path("/"), tuple(str(layer) for layer in layers))


def _script(path: Path, text: str, mode: int = 0o755) -> None:
    path.write_text(text)
    path.chmod(mode)


@pytest.mark.parametrize(
    "target", ["/etc/hostname", "../../../../../../../../etc/hostname", "/proc/self/root/etc/hostname"]
)
def test_links_never_leave_the_image(root: Path, target: str) -> None:
    (root / "srv/link").symlink_to(target)
    assert resolve_inside(seen(root), "/srv/link") is None
    (root / "etc/hostname").touch()
    found = resolve_inside(seen(root), "/srv/link")
    assert found in (None, root / "etc/hostname")


def test_an_image_with_a_link_in_the_place_of_a_mount_point_is_refused(root: Path) -> None:
    check_mount_points(seen(root))
    (root / "dev").symlink_to("/etc")
    with pytest.raises(StartFailed, match="symbolic link in the place of /dev"):
        check_mount_points(seen(root))


def test_link_loops_end(root: Path) -> None:
    (root / "srv/a").symlink_to("b")
    (root / "srv/b").symlink_to("a")
    assert resolve_inside(seen(root), "/srv/a") is None


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
    assert find_user(seen(root), text) == user


@pytest.mark.parametrize("text", ["ghost", "app:ghosts"])
def test_names_the_image_does_not_have_are_refused(root: Path, text: str) -> None:
    with pytest.raises(StartFailed, match="ghost"):
        find_user(seen(root), text)


def test_a_passwd_that_is_a_link_to_the_host_is_not_read(root: Path) -> None:
    (root / "etc/passwd").unlink()
    (root / "etc/passwd").symlink_to("/../../../../etc/passwd")
    assert find_user(seen(root), "1000") == User(1000, 0, (), "/")


def test_commands_are_found_along_the_path_and_by_name(root: Path) -> None:
    check_command(seen(root), "tool", "/usr/bin:/bin", "", ROOT)
    check_command(seen(root), "/bin/tool", "", "", ROOT)
    check_command(seen(root), "../bin/tool", "", "/srv", ROOT)
    check_command(seen(root), "../bin/tool", "", "/is/made/../../later", ROOT)


def test_what_is_not_there_is_not_found(root: Path) -> None:
    _script(root / "srv/bad", "#!/no/such/interpreter\n")
    for name in ("nothere", "/srv/nothere", "/srv/bad"):
        with pytest.raises(CommandNotFound):
            check_command(seen(root), name, "/bin", "", ROOT)


def test_what_is_not_there_is_looked_for_in_all_of_path_and_explained(root: Path) -> None:
    (root / "late").mkdir()
    _script(root / "late/interpreter", "#!/bin/sh\n")
    check_command(seen(root), "interpreter", "/bin:/late", "", ROOT)
    for name, words in (
        ("cd", "a shell builtin needs"),
        ("./x", "relative path starts at the working directory, /srv"),
    ):
        with pytest.raises(CommandNotFound, match=words):
            check_command(seen(root), name, "/bin", "/srv", ROOT)


def test_what_may_not_be_executed_is_told_apart(root: Path) -> None:
    _script(root / "bin/plain", "#!/bin/sh\n", 0o644)
    _script(root / "bin/others", "#!/bin/sh\n", 0o700)
    (root / "bin/elf").write_bytes(b"\x7fELF\x02\x01\x01" + bytes(11) + b"\xff\x7f" + bytes(60))
    (root / "bin/elf").chmod(0o755)
    for name, user in (("plain", ROOT), ("others", User(1000, 1000)), ("/srv", ROOT), ("elf", ROOT)):
        with pytest.raises(CommandNotExecutable):
            check_command(seen(root), name, "/bin", "", user)


def test_a_closed_folder_on_the_way_counts(root: Path) -> None:
    _script(root / "private/tool", "#!/bin/sh\n")
    (root / "private").chmod(0o700)
    check_command(seen(root), "/private/tool", "", "", ROOT)
    with pytest.raises(CommandNotExecutable):
        check_command(seen(root), "/private/tool", "", "", User(1000, 1000))


def test_a_file_that_cannot_be_executed_does_not_hide_a_later_one(root: Path) -> None:
    _script(root / "srv/tool", "#!/bin/sh\n", 0o644)
    check_command(seen(root), "tool", "/srv:/bin", "", ROOT)


def test_a_program_without_its_dynamic_linker_is_not_found(root: Path) -> None:
    python = Path(os.path.realpath("/usr/bin/python3"))
    (root / "bin/python3").write_bytes(python.read_bytes())
    (root / "bin/python3").chmod(0o755)
    with pytest.raises(CommandNotFound, match="interpreter '/lib"):
        check_command(seen(root), "python3", "/bin", "", ROOT)


class TestLayers:
    """Each name is looked up as overlayfs would find it in the merged tree."""

    @pytest.fixture
    def upper(self, root: Path) -> Path:
        """A layer on top of `root`."""
        folder = root / "upper-layer"
        (folder / "bin").mkdir(parents=True)
        return folder

    @pytest.fixture
    def image(self, root: Path, upper: Path) -> Root:
        return seen(upper, root)

    def test_folders_are_merged_and_the_highest_file_counts(self, image: Root, root: Path, upper: Path) -> None:
        _script(upper / "bin/tool", "changed")
        assert resolve_inside(image, "/bin/sh") == root / "bin/sh"
        assert resolve_inside(image, "/bin/../bin/tool") == upper / "bin/tool"
        assert resolve_inside(image, "/../..") == upper

    def test_a_whiteout_hides_what_lies_below(self, image: Root, upper: Path) -> None:
        os.mknod(upper / "bin/tool", stat.S_IFCHR, os.makedev(0, 0))
        os.mknod(upper / "etc", stat.S_IFCHR, os.makedev(0, 0))
        assert resolve_inside(image, "/bin/tool") is None
        assert resolve_inside(image, "/etc/passwd") is None
        assert find_user(image, "1000") == User(1000, 0, (), "/")

    def test_an_opaque_folder_hides_the_one_below(self, image: Root, upper: Path) -> None:
        os.setxattr(upper / "bin", "trusted.overlay.opaque", b"y")
        with pytest.raises(CommandNotFound):
            check_command(image, "tool", "/bin", "", ROOT)

    def test_a_file_hides_a_folder_and_a_folder_a_file(self, root: Path, upper: Path) -> None:
        (root / "both").write_text("a file")
        (upper / "both").mkdir()
        (upper / "srv").write_text("a file")
        (root / "srv/below").touch()
        assert resolve_inside(seen(upper, root), "/both") == upper / "both"
        assert resolve_inside(seen(upper, root), "/srv/below") is None
        # A file ends the merging, though a folder is on top of it.
        (root / "third/both").mkdir(parents=True)
        (root / "third/both/deep").touch()
        assert resolve_inside(seen(upper, root, root / "third"), "/both/deep") is None

    def test_a_link_of_one_layer_leads_into_another(self, image: Root, root: Path, upper: Path) -> None:
        (upper / "etc").symlink_to("/srv")
        (root / "srv/passwd").write_text("linked:x:5:5::/:/bin/sh\n")
        assert find_user(image, "linked").uid == 5
        (upper / "dev").symlink_to("/etc")
        with pytest.raises(StartFailed, match="symbolic link in the place of /dev"):
            check_mount_points(image)

    def test_the_modes_of_the_highest_folder_count(self, image: Root, upper: Path) -> None:
        check_command(image, "/bin/tool", "", "", User(1000, 1000))
        (upper / "bin").chmod(0o700)
        with pytest.raises(CommandNotExecutable):
            check_command(image, "/bin/tool", "", "", User(1000, 1000))
