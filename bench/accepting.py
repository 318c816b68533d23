"""Accepting runs durably, and what a long history costs. Nothing is executed meanwhile: the only slot is taken."""

from __future__ import annotations

import base64
import json
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from bench.history import fill
from bench.measuring import Sample, in_turn, milliseconds, percentile
from bench.report import Mark, Result, Table
from bench.server import TRUE, Failed, Oneoff, wait_until

_CLIENTS = 64
_ACCEPT_BODY = json.dumps(TRUE)
_ROUNDS = 5
_PLANS = Path(__file__).with_name("plans.toml")
_PER_SAMPLE = 40  # a 99th percentile needs many more samples than a median
_FILTERS = {
    "all runs": "",
    "a page in the middle": "&cursor={middle}",
    "one service": "&service={service}",
    "status failed": "&status=failed",
    "status queued or running": "&status=queued&status=running",
    "trigger cron": "&trigger=cron",
    "one service, status canceled": "&service={service}&status=canceled",
    "a rare service, status failed, trigger manual": "&service={rare}&status=failed&trigger=manual",
}


def accepting(folder: Path, samples: int) -> Result:
    seconds = max(1.0, min(6.0, samples / 5))
    rows, rates = [], []
    with _busy(folder) as server:
        before = _count(server)
        for number in range(_ROUNDS):
            found = _load(server, seconds if number else 1.0)
            before += found["accepted"]
            if number == 0:
                continue  # to warm up
            rate = found["accepted"] / found["seconds"]
            rates.append(rate)
            p50, p99 = (milliseconds(percentile(found["latencies"], p)) for p in (50, 99))
            rows.append([f"round {number}", str(found["accepted"]), f"{rate:,.0f}", p50, p99])
        if _count(server) != before:
            raise Failed(f"{before} runs were accepted, and {_count(server)} are in the store")
    rate = statistics.median(rates)
    return Result(
        f"{_CLIENTS} clients over kept connections, in a process of their own on the last processor, each with the "
        "next `POST …/runs` as soon as the last one is answered 201. SQLite with synchronous=FULL. The server has one "
        "slot, which a sleeping run holds. Afterwards the store has exactly as many runs as were answered.",
        Table(["", "accepted", "per second", "p50 ms", "p99 ms"], rows),
        [Mark("at least 1,000 accepted per second", f"median {rate:,.0f}", rate >= 1000)],
    )


def history(folder: Path, samples: int) -> Result:
    """Two servers in turn: one with nothing, one with 100,000 finished runs."""
    with ExitStack() as stack:
        short = stack.enter_context(_busy(folder / "short", 100))
        long = stack.enter_context(_busy(folder / "long", 100_000))
        peers = [_list(short, "list, 100 runs"), _list(long, "list, 100,000 runs")]
        peers += [_accept(short, "accept, 100 runs"), _accept(long, "accept, 100,000 runs")]
        taken = in_turn(peers, samples * _PER_SAMPLE)
    marks = []
    for what in ("list", "accept"):
        change = percentile(taken[f"{what}, 100,000 runs"], 99) / percentile(taken[f"{what}, 100 runs"], 99)
        marks.append(
            Mark(f"100,000 finished runs change the p99 of {what} by at most 1.3 ×", f"{change:.2f}", change <= 1.3)
        )
    return Result(
        "One client over a kept connection, the four in turn. A list is the newest 50 runs; 100 and 100,000 are "
        "finished runs, all of them in the store before the server starts. The only slot is taken by a sleeping run.",
        _percentiles(taken),
        marks,
    )


def million(folder: Path, samples: int) -> Result:
    with _busy(folder, 1_000_000) as server:
        rare, middle = fill_facts(server)
        facts = {"service": server.service_id, "rare": rare, "middle": middle}
        peers = [_list(server, name, query.format(**facts)) for name, query in _FILTERS.items()]
        taken = in_turn(peers, samples * _PER_SAMPLE // 2)
    marks = []
    for name, values in taken.items():
        p99 = percentile(values, 99)
        marks.append(Mark(f"list p99 under 10 ms: {name}", f"{milliseconds(p99)} ms", p99 < 0.010))
    return Result(
        "1,000,000 finished runs of ten services; 50 runs per list, the filters in turn, one client.",
        _percentiles(taken),
        marks,
    )


def fill_facts(server: Oneoff) -> tuple[str, str]:
    """A service with few runs, and a cursor in the middle of the history."""
    with closing(_open(server)) as store:
        rare = store.execute("SELECT service_id FROM runs GROUP BY service_id ORDER BY count(*) LIMIT 1").fetchone()[0]
        middle = store.execute("SELECT id FROM runs ORDER BY id LIMIT 1 OFFSET 500000").fetchone()[0]
    return str(rare), base64.urlsafe_b64encode(str(middle).encode()).decode().rstrip("=")


@contextmanager
def _busy(folder: Path, finished_runs: int = 0) -> Iterator[Oneoff]:
    """A server whose only slot is taken, with a history."""
    folder.mkdir(parents=True, exist_ok=True)
    # With the built-in plans the historian would drop the history while it is measured.
    server = Oneoff(folder, "oci", slots=1, plans_file=_PLANS)
    try:
        server.start()
        server.create_service()
        server.run(TRUE)
        if finished_runs:
            server.stop()
            fill(server.data / "oneoff.db", finished_runs)
            server.start()
        run_id = server.accept({"command": ["sleep", "3600"]})["id"]
        wait_until(lambda: server.call("GET", f"/runs/{run_id}")["status"] == "running")
        yield server
        if (left := _count(server)) < finished_runs:
            raise Failed(f"only {left} of {finished_runs} finished runs are left in the store")
        _drop_queue(server)
        server.call("POST", f"/runs/{run_id}/cancel")
        wait_until(lambda: not server.containers())
    finally:
        server.stop()


def _drop_queue(server: Oneoff) -> None:
    """What was accepted must not begin when the slot gets free."""
    server.stop()
    with closing(_open(server, "rw")) as store:
        store.execute("UPDATE runs SET status = 'canceled', reason = 'canceled' WHERE status = 'queued'")
        store.commit()
    server.start()


def _load(server: Oneoff, seconds: float) -> dict[str, float | list[float]]:  # type: ignore[type-arg]
    path = f"/api/v1/services/{server.service_id}/runs"
    argv = [sys.executable, "-m", "bench.load", str(server.port), server.token, path, _ACCEPT_BODY, str(_CLIENTS)]
    done = subprocess.run([*argv, str(seconds)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed(done.stderr)
    return dict(json.loads(done.stdout))


def _count(server: Oneoff) -> int:
    with closing(_open(server)) as store:
        return int(store.execute("SELECT count(*) FROM runs").fetchone()[0])


def _open(server: Oneoff, mode: str = "ro") -> sqlite3.Connection:
    return sqlite3.connect(f"file:{server.data / 'oneoff.db'}?mode={mode}", uri=True)


def _list(server: Oneoff, name: str, query: str = "") -> Sample:
    def sample() -> Mapping[str, float]:
        began = time.perf_counter()
        server.call("GET", f"/runs?limit=50{query}")
        return {name: time.perf_counter() - began}

    return sample


def _accept(server: Oneoff, name: str) -> Sample:
    def sample() -> Mapping[str, float]:
        began = time.perf_counter()
        server.accept(TRUE)
        return {name: time.perf_counter() - began}

    return sample


def _percentiles(taken: Mapping[str, list[float]]) -> Table:
    rows = [
        [name, str(len(values)), *(milliseconds(percentile(values, p)) for p in (50, 95, 99))]
        for name, values in taken.items()
    ]
    return Table(["", "samples", "p50 ms", "p95 ms", "p99 ms"], rows)
