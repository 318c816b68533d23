"""The few kernel calls Python has no name for. Used by the supervisor, the zygote and the driver's watcher.

ctypes is loaded once, in the zygote before it forks, so that a supervisor pays nothing for it.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import signal
import struct
from collections.abc import Iterator

CLONE_NEWNS = 0x00020000
MS_NOSUID, MS_NODEV, MS_NOEXEC = 2, 4, 8
MS_REC, MS_SLAVE = 0x4000, 0x80000
MNT_DETACH = 2
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_IN_CLOEXEC, _IN_NONBLOCK = os.O_CLOEXEC, os.O_NONBLOCK
IN_CLOSE_WRITE, IN_MOVED_TO, IN_DELETE_SELF, IN_IGNORED = 0x8, 0x80, 0x400, 0x8000
_FS_IOC_GETFLAGS, _FS_IOC_SETFLAGS, _FS_TOPDIR_FL = 0x80086601, 0x40086602, 0x20000
_EVENT = struct.Struct("iIII")

_libc = ctypes.CDLL(None, use_errno=True)


def unshare_mounts() -> None:
    """A private mount namespace: mounts made from here on vanish with this process; the host's own go on arriving."""
    _check(_libc.unshare(CLONE_NEWNS), "unshare")
    _check(_libc.mount(None, b"/", None, ctypes.c_ulong(MS_REC | MS_SLAVE), None), "make / rslave")


def mount(kind: str, source: str, target: str, flags: int = 0, options: str = "") -> None:
    answer = _libc.mount(
        source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), options.encode() or None
    )
    _check(answer, f"mount {kind} on {target}")


def mount_overlay(target: str, options: str) -> None:
    """Nothing of its upper tree is synced where the kernel knows how not to."""
    try:
        mount("overlay", "oneoff", target, 0, options + ",volatile")
    except OSError:
        mount("overlay", "oneoff", target, 0, options)


def unmount(target: str, flags: int = MNT_DETACH) -> None:
    _check(_libc.umount2(target.encode(), flags), f"unmount {target}")


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent ends: the runtime leaves the container's PID 1 to us."""
    _check(_libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "prctl(PR_SET_CHILD_SUBREAPER)")


def end_with_parent(parent: int) -> None:
    """Be killed when the process `parent`, which started us, ends."""
    _check(_libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def spread_folders(folder: str) -> None:
    """Have ext4 choose a part of the disk for each folder made in `folder` by its name (chattr +T); others cannot.

    Else they share one. Where thousands of files were removed in the last minutes, making one takes ext4 a millisecond:
    it looks at all their inodes until it finds one that has been free for longer.
    """
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):
            flags = bytearray(struct.calcsize("l"))
            fcntl.ioctl(fd, _FS_IOC_GETFLAGS, flags)
            (before,) = struct.unpack_from("i", flags)
            struct.pack_into("i", flags, 0, before | _FS_TOPDIR_FL)
            fcntl.ioctl(fd, _FS_IOC_SETFLAGS, flags)
    finally:
        os.close(fd)


def sync_file_system(fd: int) -> None:
    """Everything written to the file system `fd` lies on is durable afterwards."""
    _check(_libc.syncfs(fd), "syncfs")


def watch_open() -> int:
    """An inotify descriptor, non-blocking."""
    fd = int(_libc.inotify_init1(_IN_CLOEXEC | _IN_NONBLOCK))
    _check(fd, "inotify_init1")
    return fd


def watch_add(fd: int, path: str, mask: int) -> int:
    number = int(_libc.inotify_add_watch(fd, path.encode(), mask))
    _check(number, f"watch {path}")
    return number


def watch_read(fd: int) -> Iterator[tuple[int, int, str]]:
    """Watches that have news: number, kind, and the name of the file it is about ("" = the folder)."""
    try:
        buffer = os.read(fd, 65536)
    except BlockingIOError:
        return
    offset = 0
    while offset + _EVENT.size <= len(buffer):
        number, kind, _, length = _EVENT.unpack_from(buffer, offset)
        begin, offset = offset + _EVENT.size, offset + _EVENT.size + length
        yield number, kind, os.fsdecode(buffer[begin:offset].rstrip(b"\0"))


def _check(answer: int, what: str) -> None:
    if answer < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")
