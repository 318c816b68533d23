"""Questions to an unpacked image: which user, is there that command. Used by the driver before a container is made.

Everything is looked up inside the root file system: a symbolic link in an image may point anywhere, also at the host.
"""

from __future__ import annotations

import contextlib
import os
import platform
import posixpath
import stat
import struct
from dataclasses import dataclass
from pathlib import Path

from oneoff.core.command import explain_missing
from oneoff.errors import CommandNotExecutable, CommandNotFound, StartFailed

_MOST_LINKS = 40
_ELF_MACHINES = {"x86_64": 62, "aarch64": 183, "armv7l": 40, "ppc64le": 21, "s390x": 22, "riscv64": 243}
_PT_INTERP = 3


# The names that one place of an image has in its layers: of a folder, all that are merged there; else the one on top.
Place = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class User:
    uid: int
    gid: int
    additional_gids: tuple[int, ...] = ()
    home: str = "/"


@dataclass(frozen=True, slots=True)
class Root:
    """An image's root file system: the layers in `folder`, from the highest down, seen as overlayfs stacks them."""

    folder: Path
    layers: tuple[str, ...]

    @property
    def place(self) -> Place:
        return tuple(f"{self.folder}/{layer}" for layer in self.layers)

    def stat(self) -> os.stat_result:
        return Path(self.place[0]).stat()


def resolve_inside(root: Root, path: str) -> Path | None:
    """Where `path` of the image lies on this machine, every symbolic link followed inside `root`; None: nowhere."""
    way = _walk(root, path)
    return None if way is None else Path(way[-1][0])


def _walk(root: Root, path: str) -> list[Place] | None:
    """The places from the root down to what `path` names."""
    pending = [part for part in reversed(path.split("/")) if part and part != "."]
    way = [root.place]
    links = 0
    while pending:
        part = pending.pop()
        if part == "..":
            way = way[:-1] or way
            continue
        here = _look_up(way[-1], part)
        if not here:
            return None
        if not os.path.islink(here[0]):  # noqa: PTH114 - hot path, before every start
            way.append(here)
            continue
        links += 1
        if links > _MOST_LINKS:
            return None
        target = os.readlink(here[0])  # noqa: PTH115
        if target.startswith("/"):
            del way[1:]
        pending.extend(piece for piece in reversed(target.split("/")) if piece and piece != ".")
    return way


def _look_up(folders: Place, name: str) -> Place:
    """Empty when it is not there. Whiteouts and opaque folders: Documentation/filesystems/overlayfs.rst of Linux."""
    found: list[str] = []
    for folder in folders:
        path = f"{folder}/{name}"
        try:
            facts = os.lstat(path)
        except OSError:
            continue
        if not stat.S_ISDIR(facts.st_mode):
            is_whiteout = stat.S_ISCHR(facts.st_mode) and facts.st_rdev == 0
            # Below a folder, it is hidden by it.
            return tuple(found) if found or is_whiteout else (path,)
        found.append(path)
        if folder is not folders[-1] and _is_opaque(path):
            break
    return tuple(found)


def _is_opaque(folder: str) -> bool:
    try:
        return os.getxattr(folder, "trusted.overlay.opaque") == b"y"
    except OSError:
        return False


def find_user(root: Root, text: str) -> User:
    """`name`, `uid`, `name:group`, `uid:gid`, or "" for root. Raises StartFailed when a name is not in the image."""
    user_text, _, group_text = text.partition(":")
    users = _table(root, "/etc/passwd", 7)
    entry = next((e for e in users if e[0] == (user_text or "root")), None)
    if entry is None and user_text.isdigit():
        entry = next((e for e in users if e[2] == user_text), None)
    if entry is None and user_text and not user_text.isdigit():
        raise StartFailed(f"the image has no user {user_text!r} in /etc/passwd: use its number, or a name it has")
    uid = int(entry[2]) if entry else int(user_text or 0)
    gid = int(entry[3]) if entry else 0
    groups = _table(root, "/etc/group", 4)
    additional: tuple[int, ...] = ()
    if group_text:
        gid = _find_group(groups, group_text)
    elif entry:
        additional = tuple(sorted({int(g[2]) for g in groups if entry[0] in g[3].split(",")} - {gid}))
    home = entry[5] if entry and entry[5] else "/root" if uid == 0 else "/"
    return User(uid, gid, additional, home)


def check_mount_points(root: Root) -> None:
    """Raises StartFailed. crun before 1.28 follows a link in the place of /dev out of the image (CVE-2026-47766)."""
    for name in ("dev", "proc", "sys"):
        if (found := _look_up(root.place, name)) and Path(found[0]).is_symlink():
            raise StartFailed(f"the image has a symbolic link in the place of /{name}: make it a folder in the image")


def check_command(root: Root, argv0: str, search_path: str, working_dir: str, user: User) -> None:
    """Raises CommandNotFound or CommandNotExecutable as the kernel and execvp(3) would find out later."""
    folders = [""] if "/" in argv0 else [f"{folder or '.'}/" for folder in search_path.split(":")]
    refusal: CommandNotExecutable | None = None
    for folder in folders:
        try:
            if _is_executable(root, argv0, _absolute(root, f"{folder}{argv0}", working_dir), user):
                return
        except CommandNotExecutable as problem:
            refusal = refusal or problem
    raise refusal or CommandNotFound(argv0, explain_missing(argv0, search_path, working_dir))


def _absolute(root: Root, path: str, working_dir: str) -> str:
    """`path` as seen from the working folder, which is made at the start where the image has none."""
    if path.startswith("/"):
        return path
    joined = f"{working_dir or '/'}/{path}"
    return joined if resolve_inside(root, working_dir) else posixpath.normpath(joined)


def _is_executable(root: Root, argv0: str, path: str, user: User) -> bool:
    """False when there is no such file. Raises CommandNotExecutable, and CommandNotFound for want of an interpreter."""
    way = _walk(root, path)
    if way is None:
        return False
    found = Path(way[-1][0])
    if found.is_dir():
        raise CommandNotExecutable(argv0, "it is a folder")
    if not stat.S_ISREG(found.stat().st_mode) or not _may_execute(way, user):
        raise CommandNotExecutable(argv0, f"permission denied for user {user.uid} (chmod +x in the image mends it)")
    try:
        with found.open("rb") as file:
            head = file.read(4096)
            interpreter = _interpreter(argv0, head, file.fileno())
    except OSError as problem:
        raise CommandNotExecutable(argv0, str(problem.strerror)) from problem
    if interpreter is not None and resolve_inside(root, interpreter) is None:
        raise CommandNotFound(argv0, f"its interpreter {interpreter!r} is not in the image")
    return True


def _may_execute(way: list[Place], user: User) -> bool:
    """Root without capabilities is bound by the mode bits like everybody else."""
    for place in way[1:]:
        facts = os.stat(place[0])  # noqa: PTH116
        if facts.st_uid == user.uid:
            bit = stat.S_IXUSR
        elif facts.st_gid in (user.gid, *user.additional_gids):
            bit = stat.S_IXGRP
        else:
            bit = stat.S_IXOTH
        if not facts.st_mode & bit:
            return False
    return True


def _interpreter(argv0: str, head: bytes, fd: int) -> str | None:
    """What has to exist beside the file: of `#!`, of the dynamic linker, or the shell execvp(3) falls back to."""
    if head.startswith(b"#!"):
        words = head[2:].split(b"\n", 1)[0].split()
        if not words:
            raise CommandNotExecutable(argv0, "exec format error: '#!' names no interpreter")
        return os.fsdecode(words[0])
    if not head.startswith(b"\x7fELF"):
        return "/bin/sh"
    return _elf_interpreter(argv0, head, fd)


def _elf_interpreter(argv0: str, head: bytes, fd: int) -> str | None:
    """Fields of the System V ABI's ELF header: class, data, machine, program headers."""
    order = ">" if head[5:6] == b"\x02" else "<"
    wide = head[4:5] == b"\x02"
    with contextlib.suppress(struct.error):
        (machine,) = struct.unpack_from(f"{order}H", head, 18)
        expected = _ELF_MACHINES.get(platform.machine(), machine)
        if machine != expected and not (expected == 62 and machine == 3):
            raise CommandNotExecutable(argv0, "exec format error: it is built for another processor")
        offset, size, count = (
            (*struct.unpack_from(f"{order}Q", head, 32), *struct.unpack_from(f"{order}HH", head, 54))
            if wide
            else (*struct.unpack_from(f"{order}I", head, 28), *struct.unpack_from(f"{order}HH", head, 42))
        )
        for index in range(count):
            entry = os.pread(fd, size, offset + index * size)
            if struct.unpack_from(f"{order}I", entry)[0] == _PT_INTERP:
                begin, length = (
                    (struct.unpack_from(f"{order}Q", entry, 8)[0], struct.unpack_from(f"{order}Q", entry, 32)[0])
                    if wide
                    else (struct.unpack_from(f"{order}I", entry, 4)[0], struct.unpack_from(f"{order}I", entry, 16)[0])
                )
                return os.fsdecode(os.pread(fd, min(length, 4096), begin).rstrip(b"\0"))
        return None
    raise CommandNotExecutable(argv0, "exec format error: its ELF header is cut short")


def _find_group(groups: list[list[str]], text: str) -> int:
    entry = next((g for g in groups if g[0] == text), None)
    if entry:
        return int(entry[2])
    if text.isdigit():
        return int(text)
    raise StartFailed(f"the image has no group {text!r} in /etc/group: use its number, or a name it has")


def _table(root: Root, path: str, columns: int) -> list[list[str]]:
    """Rows of passwd(5) or group(5); damaged ones are left out, as libc does."""
    found = resolve_inside(root, path)
    if found is None or not found.is_file():
        return []
    rows = [line.split(":") for line in found.read_text(errors="replace").splitlines()]
    return [row for row in rows if len(row) == columns and row[2].isdigit() and (columns == 4 or row[3].isdigit())]
