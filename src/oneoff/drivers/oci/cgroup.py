"""A container's cgroups, on v1, v2 and the mix of both: find, read evidence, kill, remove.

Standard library only. The supervisor and the driver's clean-up use it; each gets the folders by name.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

_MOUNTINFO = Path("/proc/self/mountinfo")
_REMOVE_SECONDS = 2.0


def parse_hierarchies(mountinfo: str) -> list[tuple[str, str]]:
    """(`v1` or `v2`, mount point) of every cgroup hierarchy in /proc/self/mountinfo; proc(5) has its format."""
    found: list[tuple[str, str]] = []
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        fields, kind = before.split(), after.split()
        if len(fields) < 5 or not kind or kind[0] not in {"cgroup", "cgroup2"} or fields[3] != "/":
            continue
        entry = ("v2" if kind[0] == "cgroup2" else "v1", fields[4])
        if entry not in found:
            found.append(entry)
    return found


def hierarchies() -> list[tuple[str, str]]:
    return parse_hierarchies(_MOUNTINFO.read_text())


def is_unified(found: Sequence[tuple[str, str]]) -> bool:
    """Pure v2: what `/sys/fs/cgroup` is on today's systems."""
    return bool(found) and all(version == "v2" for version, _ in found)


def folders(found: Iterable[tuple[str, str]], cgroup: str) -> list[str]:
    """Where `cgroup` (a name directly below the root) can exist."""
    return [f"{mount}/{cgroup}" for _, mount in found]


def oom_kills(paths: Iterable[str]) -> int:
    """How many processes of the container the kernel killed for memory.

    Read after the end and before the removal. `failcnt` says nothing: it also counts successful reclaim.
    """
    for path in paths:
        for name in ("memory.oom_control", "memory.events"):
            with contextlib.suppress(OSError), open(f"{path}/{name}", encoding="utf-8") as file:  # noqa: PTH123
                return parse_oom_kills(file.read())
    return 0


def parse_oom_kills(text: str) -> int:
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        if key == "oom_kill":
            return int(value)
    return 0


def make(paths: Iterable[str], settings: Mapping[str, str]) -> None:
    """Make those that have a file for any of the settings, and write it."""
    for path in paths:
        with contextlib.suppress(OSError):
            Path(path).parent.joinpath("cgroup.subtree_control").write_text("+memory +pids +cpu")
        os.mkdir(path)  # noqa: PTH102
        fitting = [name for name in settings if os.path.exists(f"{path}/{name}")]  # noqa: PTH110
        for name in fitting:
            Path(path, name).write_text(settings[name])
        if not fitting:
            # cpuset, for example, takes nobody in before its own settings are made.
            os.rmdir(path)  # noqa: PTH106


def enter(paths: Iterable[str]) -> None:
    """The calling process, and whatever it starts; those that exist."""
    for path in paths:
        if os.path.isdir(path):  # noqa: PTH112
            Path(path, "cgroup.procs").write_text("0")


def to_settings(memory_bytes: int, cpu_quota_us: int, cpu_period_us: int, pids: int) -> dict[str, str]:
    """File names of both versions, in the order they must be written: memory before memory and swap together."""
    return {
        "memory.limit_in_bytes": str(memory_bytes),
        "memory.memsw.limit_in_bytes": str(memory_bytes),
        "memory.max": str(memory_bytes),
        "memory.swap.max": "0",
        "cpu.cfs_period_us": str(cpu_period_us),
        "cpu.cfs_quota_us": str(cpu_quota_us),
        "cpu.max": f"{cpu_quota_us} {cpu_period_us}",
        "pids.max": str(pids),
    }


def processes(paths: Iterable[str]) -> set[int]:
    """Everything alive in them."""
    pids: set[int] = set()
    for path in paths:
        for folder, _, _ in os.walk(path):
            with contextlib.suppress(OSError):
                pids.update(int(line) for line in Path(folder, "cgroup.procs").read_text().split())
    return pids


def kill(paths: Sequence[str], seconds: float = 5.0) -> bool:
    """SIGKILL everything in them, again and again until nothing is left. False when something stayed."""
    deadline = time.monotonic() + seconds
    while pids := processes(paths):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


def clear(paths: Sequence[str]) -> None:
    """Remove them; only where that is refused is there anything to kill."""
    if left := [path for path in paths if not _removed(path)]:
        kill(left)
        remove(left)


def remove(paths: Iterable[str]) -> bool:
    """Remove them. A cgroup stays busy for moments after its last process was reaped."""
    left = [path for path in paths if not _removed(path)]
    deadline = time.monotonic() + _REMOVE_SECONDS
    while left and time.monotonic() < deadline:
        time.sleep(0.003)
        left = [path for path in left if not _removed(path)]
    return not left


def _removed(path: str) -> bool:
    try:
        os.rmdir(path)  # noqa: PTH106 - hot path
    except FileNotFoundError:
        return True
    except OSError:
        with contextlib.suppress(OSError), os.scandir(path) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    _removed(entry.path)
        return False
    return True
