"""Starting, finding and ending the processes of a private server, and a numbered slot for what must not collide.

Called by `dockerd`, `podman`, `registry` and `postgres`. Processes are ended by pid, never by name alone.
"""

from __future__ import annotations

import fcntl
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

# Short on purpose: the path of a Unix socket holds 107 bytes.
SLOTS = Path(tempfile.gettempdir()) / "oneoff-rig"
_SLOT_COUNT = 16


@dataclass(frozen=True)
class Slot:
    """A number no other test process has now, and its folder. Subnets and bridge names derive from the number."""

    number: int
    folder: Path


@contextmanager
def slot(kind: str, clean: Callable[[Slot], None]) -> Iterator[Slot]:
    """Lend a slot. `clean` runs before (an earlier process may have been killed) and after; it must take anything."""
    SLOTS.mkdir(exist_ok=True)
    for number in range(_SLOT_COUNT):
        with (SLOTS / f"{kind}-{number}.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            taken = Slot(number, SLOTS / f"{kind}-{number}")
            _emptied(taken, clean)
            taken.folder.mkdir()
            try:
                yield taken
            finally:
                _emptied(taken, clean)
            return
    raise RuntimeError(f"all {_SLOT_COUNT} slots for {kind} are taken; the locks are in {SLOTS}")


def _emptied(taken: Slot, clean: Callable[[Slot], None]) -> None:
    clean(taken)
    unmount_below(taken.folder)
    shutil.rmtree(taken.folder, ignore_errors=True)


def free_port() -> int:
    """A TCP port of 127.0.0.1 that was free a moment ago. The kernel gives it to nobody, until its server listens or
    while that is restarted: it lies below those of connections and of listeners that ask for any."""
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        # Not by the common source of chance, which is in the same state in parallel tests.
        port = random.SystemRandom().randrange(min(10_000, lowest // 2), lowest)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def start(argv: Sequence[str | Path], log: Path, **options: object) -> subprocess.Popen[bytes]:
    """A server in its own session, so that Ctrl-C on the tests does not reach it first; its words go to `log`."""
    with log.open("ab") as out:
        return subprocess.Popen(  # type: ignore[call-overload,no-any-return]
            argv,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            **options,
        )


def wait_until_ready(is_ready: Callable[[], bool], process: subprocess.Popen[bytes], log: Path, seconds: float) -> None:
    """Raises with the last words of the server when it ended or is not ready in time."""
    deadline = time.monotonic() + seconds
    while not is_ready():
        if process.poll() is not None or time.monotonic() > deadline:
            end(process, 0)
            words = log.read_text(errors="replace")[-3000:]
            raise RuntimeError(f"{process.args!r} is not ready (exit {process.poll()}):\n{words}")
        time.sleep(0.02)


def accepts(address: str | tuple[str, int]) -> bool:
    """Does a server listen on this Unix socket or on this host and port?"""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family) as probe, suppress(OSError):
        probe.connect(address)
        return True
    return False


def answers_ping(path: str) -> bool:
    """Does an engine answer `GET /_ping` on this Unix socket? It listens a while before it answers."""
    with socket.socket(socket.AF_UNIX) as probe, suppress(OSError):
        probe.settimeout(2)
        probe.connect(path)
        probe.sendall(b"GET /_ping HTTP/1.0\r\nHost: engine\r\n\r\n")
        return b" 200 " in probe.recv(100)
    return False


def end(process: subprocess.Popen[bytes], seconds: float = 10, signal_first: int = signal.SIGTERM) -> None:
    """Ask first, kill after `seconds`; returns when it is gone."""
    if process.poll() is None and seconds:
        process.send_signal(signal_first)
        with suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
    if process.poll() is None:
        process.kill()
    process.wait()


def pids_naming(text: str) -> list[int]:
    """Processes with `text` in their arguments: choose a text that only our own have, such as a slot's folder."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if text.encode() in (folder / "cmdline").read_bytes() and int(folder.name) != os.getpid():
                found.append(int(folder.name))
    return found


def pids_below(pids: list[int]) -> list[int]:
    """The given processes and all their descendants."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(folder.name))
    found: list[int] = []
    left = list(pids)
    while left:
        found.append(left.pop())
        left += children.get(found[-1], [])
    return found


def kill(pids: list[int]) -> None:
    """SIGKILL, and wait until they are gone (or are zombies of somebody else)."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 5
    while any(_is_alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.01)


def _is_alive(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def cgroup_folders(name: str) -> list[Path]:
    """The cgroup of that name below the root, in every hierarchy of v1 and in v2."""
    root = Path("/sys/fs/cgroup")
    return [folder for folder in (root / name, *root.glob(f"*/{name}")) if folder.is_dir()]


def kill_cgroup(name: str) -> None:
    """Kill what lives in the cgroup and below."""
    pids: set[int] = set()
    for folder in cgroup_folders(name):
        for listing in folder.rglob("cgroup.procs"):
            with suppress(OSError):
                pids.update(int(line) for line in listing.read_text().split())
    kill(sorted(pids - {0}))


def remove_cgroup(name: str) -> None:
    """Remove the empty cgroup with all below, deepest first."""
    for top in cgroup_folders(name):
        below = sorted((path for path in top.rglob("*") if path.is_dir()), key=lambda path: -len(path.parts))
        for folder in (*below, top):
            with suppress(OSError):
                folder.rmdir()


def mounts_below(folder: Path) -> list[str]:
    """Mount points in `folder`, the last mounted first."""
    lines = Path("/proc/self/mounts").read_text().splitlines()
    points = [line.split()[1].encode().decode("unicode_escape") for line in lines]
    return [point for point in reversed(points) if Path(point).is_relative_to(folder)]


def unmount_below(folder: Path) -> None:
    for point in mounts_below(folder):
        subprocess.run(["umount", "-l", point], check=False, capture_output=True)


def remove_tree(folder: Path) -> None:
    """Remove a storage folder, after its mounts."""
    unmount_below(folder)
    shutil.rmtree(folder, ignore_errors=True)


def delete_links(prefixes: set[str]) -> None:
    """Delete network devices that have an address in one of these /24 subnets, given as `10.1.2`."""
    listing = json.loads(subprocess.run(["ip", "-j", "addr"], check=True, capture_output=True).stdout or "[]")
    for link in listing:
        addresses = [str(address.get("local", "")) for address in link.get("addr_info", [])]
        if any(address.rpartition(".")[0] in prefixes for address in addresses):
            subprocess.run(["ip", "link", "delete", link["ifname"]], check=False, capture_output=True)
