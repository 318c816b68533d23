"""The folder of one container: what lies where, who holds the claim, and what that says about its state.

Used by the driver and by the supervisor, so standard library only.

run.json           what the supervisor and a later server need; no variables
claim              made exclusively and locked for life by the supervisor, before it calls the runtime
control            FIFO: `stop SECONDS` or `deadline EPOCH`
started.json       the runtime has started the command
start-failed.json  it could not; holds its words
exit.json          facts of the end
upper, work        the writable layer
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from typing import Any

RUN, CLAIM, CONTROL = "run.json", "claim", "control"
STARTED, START_FAILED, EXIT = "started.json", "start-failed.json", "exit.json"

_ROOM = 4096

Claim = tuple[int, int]


def read_json(folder: str, name: str) -> dict[str, Any] | None:
    """None when it is not there."""
    try:
        with open(f"{folder}/{name}", "rb") as file:  # noqa: PTH123 - hot path, and a small process
            found: dict[str, Any] = json.load(file)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found


def is_there(folder: str, name: str) -> bool:
    return os.path.exists(f"{folder}/{name}")  # noqa: PTH110


def reserve(folder: str) -> None:
    """Take the room for the facts to come: they must be written on a full disk, too."""
    for name in (STARTED, START_FAILED, EXIT):
        with open(f"{folder}/.{name}.new", "xb") as file:  # noqa: PTH123
            file.write(b" " * _ROOM)


def write_json(folder: str, name: str, value: dict[str, Any], *, durable: bool = False) -> None:
    """Complete as soon as it has its name. Blanks fill it up, so that reserved room is used and not truncated."""
    staged = f"{folder}/.{name}.new"
    fd = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, json.dumps(value).encode().ljust(_ROOM))
        if durable:
            os.fsync(fd)
    finally:
        os.close(fd)
    os.rename(staged, f"{folder}/{name}")  # noqa: PTH104
    if durable:
        _sync(folder)


def take_claim(folder: str) -> Claim | None:
    """The right to start, or None when it is taken or the folder is gone. A supervisor holds it until it ends.

    The file is linked to its name after it was locked: nobody ever sees a claim that is not locked yet.
    """
    try:
        parent = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    staged = f".claim.{os.getpid()}.{os.urandom(4).hex()}"
    fd = -1
    try:
        fd = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=parent)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.write(fd, str(os.getpid()).encode())
        try:
            os.link(staged, CLAIM, src_dir_fd=parent, dst_dir_fd=parent)
        finally:
            os.unlink(staged, dir_fd=parent)
        # At our end both are closed, in any order, and a watcher of the folder is told each time.
        return fd, os.open(CLAIM, os.O_WRONLY | os.O_CLOEXEC, dir_fd=parent)
    except OSError:
        if fd >= 0:
            os.close(fd)
        return None
    finally:
        os.close(parent)


def release_claim(claim: Claim) -> None:
    for fd in claim:
        os.close(fd)


def claim_state(folder: str) -> str:
    """See `lock_state`."""
    return lock_state(f"{folder}/{CLAIM}")


def lock_state(path: str) -> str:
    """Of a file that its maker locks for as long as it lives: `none`, when there is none, `held` or `free`. Those who
    ask at the same time do not see each other."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return "none"
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return "held"
    else:
        return "free"
    finally:
        os.close(fd)


def claim_pid(folder: str) -> int | None:
    """Who holds it; only meaningful while it is held."""
    with contextlib.suppress(OSError, ValueError), open(f"{folder}/{CLAIM}", "rb") as file:  # noqa: PTH123
        return int(file.read())
    return None


def _sync(folder: str) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
