"""What a server costs that has nothing to do: resident memory, and processor time."""

from __future__ import annotations

import time
from pathlib import Path

from bench.report import Mark, Result, Table
from bench.server import TRUE, Oneoff, oneoff

_MOST_MB = 90
# Of one processor: the heartbeat and the janitor may be seen, nothing else.
_MOST_SHARE = 0.005


def idle(folder: Path, samples: int) -> Result:
    with oneoff(folder, "oci") as server:
        started = _resident_mb(server.pid)
        server.create_service()
        for _ in range(10):
            server.run(TRUE)
            for _ in range(10):
                server.call("GET", "/runs")
        time.sleep(2)
        used = _resident_mb(server.pid)
        began = _processor_seconds(server)
        time.sleep(samples)
        share = (_processor_seconds(server) - began) / samples
        after = _resident_mb(server.pid)
        helpers = sum(_own_mb(pid) for pid in _children(server.pid))
    most = max(started, used, after)
    rows = [
        ["resident after the start", f"{started:.1f} MB"],
        ["resident after 10 runs and 100 lists", f"{used:.1f} MB"],
        [f"resident after {samples} s of rest", f"{after:.1f} MB"],
        ["of its own, the small process that forks supervisors", f"{helpers:.1f} MB"],
        [f"processor over {samples} s, both processes", f"{share:.3%}"],
    ]
    return Result(
        "A server on the oci driver with SQLite. Memory is VmRSS, shared pages included; processor time is what the "
        "scheduler counted for all threads.",
        Table(["", "measured"], rows),
        [
            Mark(f"under {_MOST_MB} MB resident", f"at most {most:.1f} MB", most < _MOST_MB),
            Mark("no measurable processor time", f"{share:.3%} of one processor", share < _MOST_SHARE),
        ],
    )


def _resident_mb(pid: int) -> float:
    return _field_kb(Path(f"/proc/{pid}/status"), "VmRSS") / 1024


def _own_mb(pid: int) -> float:
    return _field_kb(Path(f"/proc/{pid}/smaps_rollup"), "Pss") / 1024


def _field_kb(path: Path, name: str) -> int:
    return next(int(line.split()[1]) for line in path.read_text().splitlines() if line.startswith(f"{name}:"))


def _children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(word) for task in tasks for word in task.read_text().split()]


def _processor_seconds(server: Oneoff) -> float:
    """Nanoseconds on a processor stand first in schedstat, one file per thread."""
    pids = [server.pid, *_children(server.pid)]
    files = (path for pid in pids for path in Path(f"/proc/{pid}/task").glob("*/schedstat"))
    return sum(int(path.read_text().split()[0]) for path in files) / 1e9
