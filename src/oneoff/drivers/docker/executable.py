"""Can argv[0] run in the image? Decided on the created container by the archive endpoint, before the start.

Called by `driver.create`. It follows what execvp and the kernel would do: PATH, links inside the image, permission
bits, the interpreter of a script, the loader of an ELF file. What was found good is remembered per image.
"""

from __future__ import annotations

import base64
import io
import json
import posixpath
import struct
import tarfile
from dataclasses import dataclass
from typing import Any

from oneoff.core.command import explain_missing
from oneoff.drivers.docker.client import Call, Engine, Refusals
from oneoff.drivers.docker.convert import DEFAULT_PATH
from oneoff.drivers.docker.users import Identity, to_identity
from oneoff.drivers.driver import ContainerSpec
from oneoff.errors import CommandNotExecutable, CommandNotFound, ContainerGone, StartFailed

_MODE_SYMLINK = 1 << 27  # Go's os.FileMode
_HEAD_BYTES = 16 << 10
_MOST_LINKS = 16
_MOST_SCRIPTS = 4  # the kernel's own limit of nested interpreters
_MOST_REMEMBERED = 4096


@dataclass(frozen=True, slots=True)
class File:
    """A path of the container: what a stat and its first bytes tell."""

    path: str
    is_regular: bool
    mode: int
    uid: int | None  # None where the engine does not tell the owner
    gid: int | None
    head: bytes

    def may_be_executed_by(self, who: Identity) -> bool:
        if who.overrides_permissions or self.uid is None:
            return bool(self.mode & 0o111)
        if who.uid == self.uid:
            return bool(self.mode & 0o100)
        return bool(self.mode & (0o010 if self.gid in who.gids else 0o001))


class ExecutableCheck:
    """Remembers what was found good; holds nothing that cannot be found again."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._good: set[tuple[object, ...]] = set()

    def is_known_good(self, spec: ContainerSpec) -> bool:
        return _key(spec) in self._good

    async def check(self, container_id: str, spec: ContainerSpec) -> None:
        """Raises CommandNotFound (127) or CommandNotExecutable (126)."""
        files = _Files(self._engine, container_id)
        user = spec.user if spec.user is not None else spec.image.config.user
        # Each look into a container takes the engine time, Podman a tenth of a second.
        passwd, group = [await files.read_text(path) for path in ("/etc/passwd", "/etc/group")] if user else ("", "")
        await _check(files, spec, to_identity(user, spec.capabilities, passwd, group))
        if len(self._good) >= _MOST_REMEMBERED:
            self._good.clear()
        self._good.add(_key(spec))


class _Files:
    def __init__(self, engine: Engine, container_id: str) -> None:
        self._engine = engine
        self._id = container_id

    async def find(self, path: str) -> File | None:
        """The file a path leads to, links followed inside the container; None when there is none."""
        for _ in range(_MOST_LINKS):
            answer = await self._get(path)
            if answer is None:
                return None
            stat, body = answer
            if not stat["mode"] & _MODE_SYMLINK:
                return to_file(path, body, tells_owners=not (await self._engine.version()).is_podman)
            # The engine evaluates the whole chain; a link that leads nowhere names what is missing.
            if stat["linkTarget"] == path:
                return None
            path = stat["linkTarget"]
        return None

    async def read_text(self, path: str) -> str:
        file = await self.find(path)
        return file.head.decode("utf-8", "replace") if file is not None and file.is_regular else ""

    async def _get(self, path: str) -> tuple[dict[str, Any], bytes] | None:
        refusals: Refusals = {404: ContainerGone, 0: lambda words: StartFailed(f"{path} cannot be looked at", words)}
        call = Call("GET", f"/containers/{self._id}/archive", params={"path": path}, refusals=refusals)
        try:
            async with self._engine.stream(call) as answer:
                body = b""
                async for data in answer.blocks():
                    body += data
                    if len(body) >= _HEAD_BYTES:
                        break
                stat = json.loads(base64.b64decode(answer.headers["x-docker-container-path-stat"]))
        except ContainerGone:
            return None
        return stat, body


async def _check(files: _Files, spec: ContainerSpec, who: Identity) -> None:
    argv0 = spec.argv[0]
    refused: File | None = None
    missing = ""
    for path in to_candidates(spec):
        file = await files.find(path)
        if file is None:
            continue
        if not file.is_regular or not file.may_be_executed_by(who):
            refused = refused or file
            continue
        missing = await _missing_interpreter(files, file, who, argv0)
        if not missing:
            return
    if refused is not None:
        raise CommandNotExecutable(argv0, _why(refused, who))
    if missing:
        raise CommandNotFound(argv0, f"it is there, but what it needs to run, {missing}, is not in the image")
    raise CommandNotFound(argv0, explain_missing(argv0, _search_path(spec), spec.image.config.working_dir))


async def _missing_interpreter(files: _Files, file: File, who: Identity, argv0: str) -> str:
    """The path that is missing, or nothing."""
    for _ in range(_MOST_SCRIPTS):
        needed = to_interpreter(file.head)
        if not needed:
            return ""
        found = await files.find(needed)
        if found is None:
            return needed
        if not found.is_regular or not found.may_be_executed_by(who):
            raise CommandNotExecutable(argv0, f"its interpreter: {_why(found, who)}")
        file = found
    return ""


def to_candidates(spec: ContainerSpec) -> list[str]:
    """The paths execvp would try, in its order."""
    argv0, folder = spec.argv[0], spec.image.config.working_dir or "/"
    if not argv0:
        return []
    if "/" in argv0:
        return [posixpath.join(folder, argv0)]
    return [posixpath.join(folder, part, argv0) for part in _search_path(spec).split(":")]


def to_interpreter(head: bytes) -> str:
    """What the kernel would run in its place or needs to load it: of a script, or of a 64-bit ELF file."""
    if head.startswith(b"#!"):
        words = head[2:].partition(b"\n")[0].split()
        return words[0].decode("utf-8", "replace") if words else ""
    if head.startswith(b"\x7fELF\x02\x01") and len(head) >= 64:
        return _elf_interpreter(head)
    return ""


def to_file(path: str, archive: bytes, *, tells_owners: bool) -> File:
    """From the beginning of a tar archive with one entry, as far as it was read. Podman writes the container's user
    into it as the owner of everything."""
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:") as opened:
        member = opened.next()
    if member is None:
        raise StartFailed(f"{path} cannot be looked at", "the engine sent an empty archive")
    head = archive[member.offset_data : member.offset_data + member.size]
    uid, gid = (member.uid, member.gid) if tells_owners else (None, None)
    return File(path, member.isfile() or member.islnk(), member.mode, uid, gid, head)


def _elf_interpreter(head: bytes) -> str:
    """PT_INTERP of the program header (elf(5)); empty for static files and where it lies beyond what was read."""
    (offset,) = struct.unpack_from("<Q", head, 32)
    size, count = struct.unpack_from("<HH", head, 54)
    for at in range(offset, min(offset + size * count, len(head) - 56), size or 1):
        kind, _, start, _, _, length = struct.unpack_from("<IIQQQQ", head, at)
        if kind == 3:
            return head[start : start + length].rstrip(b"\0").decode("utf-8", "replace")
    return ""


def _key(spec: ContainerSpec) -> tuple[object, ...]:
    config = spec.image.config
    user = spec.user if spec.user is not None else config.user
    return (spec.image.digest, spec.argv[0], _search_path(spec), config.working_dir, user, spec.capabilities)


def _search_path(spec: ContainerSpec) -> str:
    given = spec.variables.get("PATH")
    return given if given is not None else spec.image.config.variables.get("PATH", DEFAULT_PATH)


def _why(file: File, who: Identity) -> str:
    if not file.is_regular:
        return f"{file.path} is not a file"
    mode = f"mode {file.mode & 0o7777:o}"
    owner = mode if file.uid is None else f"owned by {file.uid}:{file.gid}, {mode}"
    return f"{file.path} ({owner}) may not be executed by user {who.uid}; set its permission in the image (chmod +x)"
