"""A tiny image out of the machine's own static busybox, so that `oneoff demo` needs no registry."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import shutil
import tarfile
from pathlib import Path

_APPLETS = ("sh", "cat", "date", "echo", "env", "false", "grep", "hostname", "id", "ls", "sleep", "true", "uname")
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
# A dynamic program names its loader in its first bytes, where the program headers are; a static one names none.
_LOADER = b"/ld-"
_HEADERS = 4096


def find_busybox() -> Path | None:
    """A busybox of this machine that runs without any library, or None."""
    found = shutil.which("busybox")
    if found is None:
        return None
    with Path(found).open("rb") as program:
        head = program.read(_HEADERS)
    return Path(found) if head.startswith(b"\x7fELF") and _LOADER not in head else None


def to_docker_archive(busybox: bytes) -> bytes:
    """One image in the format of `docker save`: busybox, a few of its commands as links, and a user."""
    layer = _to_tar(
        {
            "bin/busybox": busybox,
            "etc/passwd": b"root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000:app:/home/app:/bin/sh\n",
            "etc/group": b"root:x:0:\napp:x:1000:\n",
        },
        {f"bin/{name}": "busybox" for name in _APPLETS},
    )
    config = _json(
        {
            "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()),
            "os": "linux",
            "config": {"Env": ["PATH=/bin"], "User": "app", "Cmd": ["sh"]},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{_hex(layer)}"]},
        }
    )
    names = {"Config": f"{_hex(config)}.json", "Layers": [f"{_hex(layer)}/layer.tar"], "RepoTags": ["demo/app:1"]}
    files = {names["Config"]: config, names["Layers"][0]: layer, "manifest.json": _json([names])}
    return _to_tar({str(name): data for name, data in files.items()}, {})


def _to_tar(files: dict[str, bytes], links: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for folder in sorted({str(Path(name).parent) for name in files} - {"."}):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o755
            tar.addfile(entry, io.BytesIO(data))
        for name, target in links.items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            tar.addfile(entry)
    return buffer.getvalue()


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True).encode()


def _hex(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
