"""What `oneoff doctor` looks at on the machine itself: Python, SQLite, disk, clock, cgroups, overlay, permissions.

Each check takes what it looks at as an argument where a test wants another one.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from oneoff.cli.findings import Finding, ok, problem, warning
from oneoff.core.limits import format_bytes

_COMFORTABLE_BYTES = 5 << 30
_OLDEST_SQLITE = (3, 35, 0)  # RETURNING
_WAL_RESET = ((3, 7, 0), (3, 51, 2))
_CONTROLLERS = ("cpu", "memory", "pids")


def check_python(version: tuple[int, ...] = sys.version_info[:3]) -> Finding:
    shown = ".".join(str(part) for part in version)
    if version < (3, 11):
        return problem("python", f"Python {shown} is too old", "install Python 3.11 or newer")
    return ok("python", f"Python {shown}")


def check_sqlite(version: tuple[int, ...] = sqlite3.sqlite_version_info) -> Finding:
    shown = ".".join(str(part) for part in version)
    if version < _OLDEST_SQLITE:
        return problem("sqlite", f"SQLite {shown} is too old", "use a newer Python, or PostgreSQL with --database")
    if _WAL_RESET[0] <= version <= _WAL_RESET[1]:
        return ok("sqlite", f"SQLite {shown}; its WAL-reset defect needs two writers, and Oneoff has one")
    return ok("sqlite", f"SQLite {shown}")


def check_disk(folder: Path, reserve_bytes: int) -> Finding:
    """`folder` need not exist yet."""
    place = existing(folder)
    free, inodes = shutil.disk_usage(place).free, os.statvfs(place)
    mend = "free some space, or choose a larger disk with --data"
    says = f"{format_bytes(free)} free for {folder}"
    if free < reserve_bytes:
        return problem("disk", f"{says}: new runs are refused below {format_bytes(reserve_bytes)}", mend)
    if inodes.f_files and inodes.f_favail < 10_000:
        return warning("disk", f"only {inodes.f_favail} files can still be made for {folder}", mend)
    if free < _COMFORTABLE_BYTES:
        return warning("disk", f"{says}: little room for images", mend)
    return ok("disk", says)


def check_clock(now: datetime | None = None) -> Finding:
    now = now or datetime.now(UTC)
    if now.year < 2025:
        return problem("clock", f"the clock says {now:%Y-%m-%d}", "set it: timedatectl set-ntp true")
    synchronized = _output("timedatectl", "show", "--property=NTPSynchronized", "--value")
    if synchronized == "no":
        return warning("clock", "the clock is not synchronized", "timedatectl set-ntp true")
    if synchronized == "yes":
        return ok("clock", "synchronized")
    return ok("clock", f"{now:%Y-%m-%d %H:%M:%S} UTC; nobody here can tell whether it is synchronized")


def check_cgroups(root: Path = Path("/sys/fs/cgroup"), listing: Path = Path("/proc/cgroups")) -> Finding:
    if (root / "cgroup.controllers").exists():
        version, there = "v2", set((root / "cgroup.controllers").read_text().split())
    else:
        version = "hybrid (v1 with v2 beside it)" if (root / "unified").is_dir() else "v1"
        there = _v1_controllers(root, listing)
    missing = [name for name in _CONTROLLERS if name not in there]
    if missing:
        return problem(
            "cgroups",
            f"cgroups {version} without {', '.join(missing)}: these limits cannot be enforced",
            "start the kernel with cgroup_enable=memory, and in a container mount /sys/fs/cgroup with all controllers",
        )
    swap = root / "memory" / "memory.memsw.limit_in_bytes"
    if version != "v2" and not swap.exists() and _has_swap():
        return warning(
            "cgroups",
            f"cgroups {version} without swap accounting",
            "start the kernel with swapaccount=1, or swapoff -a",
        )
    return ok("cgroups", f"{version}: {', '.join(_CONTROLLERS)}")


def check_overlay(folder: Path) -> Finding:
    """Really mounts one beside the data folder, in a mount namespace of its own that ends with it."""
    if os.geteuid() != 0:
        return ok("overlay", "not tried, as that needs root; only the oci driver needs it")
    try:
        scratch_folder = tempfile.TemporaryDirectory(dir=existing(folder), prefix=".oneoff-doctor-")
    except OSError as why:
        return problem("overlay", f"nothing can be written beside {folder}: {why.strerror}", "choose another --data")
    with scratch_folder as scratch:
        for name in ("lower", "upper", "work", "merged"):
            (Path(scratch) / name).mkdir()
        layers = f"lowerdir={scratch}/lower,upperdir={scratch}/upper,workdir={scratch}/work"
        argv = ["unshare", "--mount", "mount", "-t", "overlay", "overlay", "-o", layers, f"{scratch}/merged"]
        try:
            done = subprocess.run(argv, capture_output=True, text=True, check=False)
        except OSError as why:
            return warning("overlay", f"not tried: {why.filename}: {why.strerror}", "apt-get install util-linux mount")
    if done.returncode:
        return warning(
            "overlay",
            f"an overlay cannot be mounted beside {folder}: {' '.join(done.stderr.split())[:200]}",
            "the oci driver needs it: modprobe overlay, and --data on ext4 or xfs (an overlay cannot lie on another)",
        )
    return ok("overlay", f"works beside {folder}")


def check_permissions(data_dir: Path) -> Iterator[Finding]:
    if os.geteuid() == 0:
        yield ok("user", "root")
    else:
        yield ok("user", "not root: docker driver only, with access to its socket")
    for path, wanted in ((data_dir, 0o700), (data_dir / "admin-token", 0o600), (data_dir / "secret.key", 0o600)):
        try:
            mode = path.stat().st_mode & 0o777
        except OSError:
            continue
        if mode & ~wanted:
            yield problem(
                "permissions", f"others may use {path} (mode {mode:04o}): secrets lie there", f"chmod {wanted:o} {path}"
            )
        else:
            yield ok("permissions", f"{path} is for its owner alone")


def existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    folder = folder.absolute()
    while not folder.is_dir():
        folder = folder.parent
    return folder


def _v1_controllers(root: Path, listing: Path) -> set[str]:
    if not listing.exists():
        return set()
    rows = [line.split() for line in listing.read_text().splitlines() if not line.startswith("#")]
    # Enabled in the kernel is not enough: without a mounted hierarchy nobody can set a limit.
    return {row[0] for row in rows if row[3] == "1" and (root / row[0]).exists()}


def _has_swap() -> bool:
    try:
        return len(Path("/proc/swaps").read_text().splitlines()) > 1
    except OSError:
        return False


def _output(*argv: str) -> str:
    """Standard output of a program, empty when it is missing or fails."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
