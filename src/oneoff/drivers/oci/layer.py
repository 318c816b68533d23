"""One layer's blob -> its tar archive -> files. Used by `unpacking`, in a process of its own.

An archive may hold anything, so `extract` works inside a root of its own: no name and no link leads out of there.
"""

from __future__ import annotations

import contextlib
import errno
import gzip
import hashlib
import os
import posixpath
import shutil
import stat
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import IO, Any

from oneoff.drivers.oci.layout import Layer, LayerBroken

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_PIECE = 1 << 20
_WHITEOUT, _OPAQUE = ".wh.", ".wh..wh..opq"
# What else an archive may set is the kernel's or the overlay's own business.
_ATTRIBUTES = ("user.", "security.capability", "system.posix_acl_")
_PAX_ATTRIBUTE = "SCHILY.xattr."
_FARTHEST = Decimal(1 << 62)  # seconds from 1970 that a time_t holds; a file system takes what is nearest to them


def decompress(layer: Layer, target: IO[bytes]) -> None:
    """Its archive into `target`. Raises LayerBroken when that is not the archive its image names."""
    algorithm, _, _ = layer.diff_id.partition(":")
    digest = hashlib.new(algorithm)
    with layer.blob.open("rb") as raw, _open(raw) as source:
        while piece := source.read(_PIECE):
            digest.update(piece)
            target.write(piece)
    target.seek(0)
    if f"{algorithm}:{digest.hexdigest()}" != layer.diff_id:
        raise LayerBroken(f"a layer is not the one that its configuration names ({layer.diff_id})")


def _open(raw: IO[bytes]) -> Any:
    head = raw.read(4)
    raw.seek(0)
    if head[:2] == b"\x1f\x8b":
        return gzip.open(raw)
    return zstd.open(raw) if head == b"\x28\xb5\x2f\xfd" else contextlib.nullcontext(raw)


def extract(archive: IO[bytes]) -> None:
    """Into the root folder of this process. The merged tree of the layers below lies there, and takes the changes."""
    members = _read_members(archive)
    names = [posixpath.normpath(f"/{member.name}").replace("//", "/") for member in members]
    # First, wherever they stand: they are about the layers below, never about their own.
    for name in names:
        if posixpath.basename(name).startswith(_WHITEOUT):
            _remove_below(name)
    times: dict[str, int] = {}
    for name, member in zip(names, members, strict=True):
        if not posixpath.basename(name).startswith(_WHITEOUT):
            _Member(name, member, archive.fileno(), times).make()
    for folder, moment in times.items():
        try:
            os.utime(folder, ns=(moment, moment))
        except OSError as problem:
            # A later member may be a file, or a link to nowhere, on the way to it.
            if problem.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                raise


def _read_members(archive: IO[bytes]) -> list[tarfile.TarInfo]:
    if not os.fstat(archive.fileno()).st_size:
        return []  # tarfile misses the blocks that end an archive
    try:
        with tarfile.open(fileobj=archive, mode="r:", encoding="utf-8") as tar:
            members = tar.getmembers()
            archive.seek(tar.offset)
    except tarfile.TarError as problem:
        raise LayerBroken(f"its archive is damaged: {problem}") from problem
    # tarfile takes a damaged header for the end.
    if archive.read(tarfile.BLOCKSIZE).strip(b"\0"):
        raise LayerBroken(f"its archive is damaged at byte {tar.offset}")
    return members


def _remove_below(name: str) -> None:
    folder, base = posixpath.split(name)
    if base != _OPAQUE:
        if (hidden := base.removeprefix(_WHITEOUT)) not in ("", ".", ".."):
            _remove(posixpath.join(folder, hidden))
        return
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        for child in os.listdir(folder):
            _remove(posixpath.join(folder, child))


def _remove(path: str) -> None:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        if stat.S_ISDIR(os.lstat(path).st_mode):
            shutil.rmtree(path)
        else:
            os.unlink(path)


class _Member:
    """One entry of an archive, to be made at `path`. `times` are for folders, once nothing more is made in them."""

    def __init__(self, path: str, member: tarfile.TarInfo, archive: int, times: dict[str, int]) -> None:
        self._path = path
        self._member = member
        self._archive = archive
        self._times = times

    def make(self) -> None:
        member = self._member
        if member.ischr() and (member.devmajor, member.devminor) == (0, 0):
            return  # It would be a whiteout.
        self._keep_time_of_parent()
        if member.isdir():
            self._make_folder()
        else:
            self._times.pop(self._path, None)
            self._make_in_place()
        if member.islnk():
            return
        os.chown(self._path, member.uid, member.gid, follow_symlinks=False)
        if not member.issym():
            # After the owner: chown(2) takes setuid bits and capabilities off.
            os.chmod(self._path, stat.S_IMODE(member.mode))
        self._set_attributes()
        moment = self._moment()
        if member.isdir():
            self._times[self._path] = moment
        os.utime(self._path, ns=(moment, moment), follow_symlinks=False)

    def _keep_time_of_parent(self) -> None:
        parent = posixpath.dirname(self._path)
        if parent not in self._times:
            # A folder may be named only as part of a path, and through links.
            real = os.path.realpath(parent)
            os.makedirs(real, exist_ok=True)
            self._times[parent] = os.stat(real).st_mtime_ns

    def _make_folder(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            if stat.S_ISDIR(os.lstat(self._path).st_mode):
                return
            os.unlink(self._path)
        os.mkdir(self._path)

    def _make_in_place(self) -> None:
        try:
            self._make_new()
        except FileExistsError:
            _remove(self._path)
            self._make_new()

    def _make_new(self) -> None:
        member, path = self._member, self._path
        if member.issym():
            os.symlink(member.linkname, path)
        elif member.islnk():
            target = posixpath.normpath(f"/{member.linkname}").replace("//", "/")
            if target != path:
                os.link(target, path, follow_symlinks=False)
        elif member.isfifo():
            os.mkfifo(path)
        elif member.isdev():
            kind = stat.S_IFCHR if member.ischr() else stat.S_IFBLK
            os.mknod(path, kind | 0o600, os.makedev(member.devmajor, member.devminor))
        else:
            self._make_file()

    def _make_file(self) -> None:
        member = self._member
        fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            source = member.offset_data
            pieces: list[tuple[int, int]] = getattr(member, "sparse", None) or [(0, member.size)]
            for offset, size in pieces:
                os.lseek(fd, offset, os.SEEK_SET)
                self._copy(fd, source, size)
                source += size
            if member.issparse():
                os.ftruncate(fd, member.size)
        finally:
            os.close(fd)

    def _copy(self, fd: int, source: int, size: int) -> None:
        end = source + size
        while source < end:
            done = os.sendfile(fd, self._archive, source, end - source)
            if not done:
                raise LayerBroken(f"its archive ends within {self._member.name!r}")
            source += done

    def _set_attributes(self) -> None:
        for key, value in self._member.pax_headers.items():
            name = key.removeprefix(_PAX_ATTRIBUTE)
            if name == key or not name.startswith(_ATTRIBUTES):
                continue
            try:
                os.setxattr(self._path, name, value.encode("utf-8", "surrogateescape"), follow_symlinks=False)
            except OSError as problem:
                # Not every file system has all of them, and links none.
                if problem.errno not in (errno.ENOTSUP, errno.EPERM):
                    raise

    def _moment(self) -> int:
        """Nanoseconds since 1970, which is also for what is no number; tarfile's own number has lost some."""
        try:
            exact = Decimal(self._member.pax_headers.get("mtime") or self._member.mtime)
            return int(min(max(exact, -_FARTHEST), _FARTHEST).scaleb(9))
        except (ArithmeticError, ValueError):
            return 0


def tree_bytes(root: Path) -> int:
    """What its files take on the disk."""
    total = 0
    for folder, _, files in os.walk(root):
        for name in files:
            with contextlib.suppress(OSError):
                total += os.lstat(f"{folder}/{name}").st_blocks * 512
    return total


class _NoModules:
    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        raise ModuleNotFoundError(f"{name} is not imported while an image is the root", name=name)


@contextmanager
def inside(root: Path) -> Iterator[None]:
    """Nothing outside of `root` has a name until the end of it, and nothing inside becomes a module of ours."""
    outside = os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    here = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    importers, sys.meta_path = sys.meta_path, [_NoModules]
    try:
        os.chroot(root)
        os.chdir("/")
        yield
    finally:
        os.fchdir(outside)
        os.chroot(".")
        os.fchdir(here)
        sys.meta_path = importers
        os.close(outside)
        os.close(here)
