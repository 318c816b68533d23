"""Traces of a server on its machine: the locks that keep a second one away, and the note by which the CLI finds it."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path

from oneoff.errors import OneoffError

NOTE = "server.json"


def runtime_dir() -> Path:
    """Under $XDG_RUNTIME_DIR, else `/run/oneoff` for root; a temporary folder where neither is to be had."""
    if base := os.environ.get("XDG_RUNTIME_DIR"):
        return Path(base) / "oneoff"
    if os.geteuid() == 0:
        return Path("/run/oneoff")
    return Path(tempfile.gettempdir()) / f"oneoff-{os.geteuid()}"


def lock(path: Path, refusal: Callable[[str], OneoffError]) -> int:
    """Hold `path` for as long as this process lives; the kernel lets go of it however the process ends.
    Returns the descriptor to keep. Raises what `refusal` makes of the holder's pid."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(fd, 20).decode(errors="replace").strip() or "unknown"
        os.close(fd)
        raise refusal(holder) from None
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    return fd


def write_note(url: str, data_dir: Path) -> Path:
    """Tell the CLI on this machine where the server is. A server that lives keeps its note: a second one, of a demo or
    a test, does not take its place."""
    path = runtime_dir() / NOTE
    if _is_alive(_holder(path)):
        return path
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
    staged = path.with_suffix(f".{os.getpid()}")  # two servers may begin at the same moment
    staged.write_text(json.dumps({"url": url, "data_dir": str(data_dir), "pid": os.getpid()}) + "\n")
    staged.replace(path)
    return path


def remove_note(path: Path) -> None:
    """Remove it unless it is another server's."""
    if _holder(path) == os.getpid():
        path.unlink(missing_ok=True)


def release(fd: int, path: Path) -> None:
    """Let go of a lock, and of its file."""
    path.unlink(missing_ok=True)
    os.close(fd)


def _holder(path: Path) -> int | None:
    try:
        return int(json.loads(path.read_text())["pid"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _is_alive(pid: int | None) -> bool:
    return pid is not None and pid != os.getpid() and Path(f"/proc/{pid}").exists()


def notify_systemd(state: str) -> None:
    """`READY=1`, `STOPPING=1`: the protocol of sd_notify(3); nothing where systemd did not start us."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        sender.sendto(state.encode(), "\0" + address[1:] if address.startswith("@") else address)
