"""Many short runs, some at a time: through the API, and as a plain loop of the bare runtime."""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench.floor import Bundle
from bench.latency import oci
from bench.measuring import Sample, in_turn, ratio
from bench.report import Mark, Result, Table
from bench.server import TRUE, Failed, Oneoff, wait_until

AT_A_TIME = 8
_BLOCK = 100
_OURS, _BARE = "Oneoff, oci (crun)", "loop of bare runc run"


def sustained(folder: Path, samples: int) -> Result:
    """500 runs of each in five blocks, in turn, behind the warm-ups."""
    blocks = max(1, samples // 6)
    with oci(folder, slots=AT_A_TIME) as (server, bundle):
        taken = in_turn([_through_the_api(server), _bare(bundle, "runc"), _bare(bundle, "crun")], blocks)
    rates = {name: _BLOCK * len(seconds) / sum(seconds) for name, seconds in taken.items()}
    against = ratio(taken[_BARE], taken[_OURS])
    share = rates[_OURS] / rates[_BARE]
    rows = [
        [name, str(_BLOCK * len(taken[name])), f"{rate:.1f}", f"{rate / rates[_BARE]:.2f}"]
        for name, rate in rates.items()
    ]
    return Result(
        f"Runs of `true`, {AT_A_TIME} at a time, in blocks of {_BLOCK}, one block of each in turn. Oneoff "
        f"({AT_A_TIME} slots): from before the first `POST` to the client seeing that none is going any more, and each "
        "run is looked at. Bare: so many threads that call `runc run` or `crun run`, with the same limits, init and "
        "network.",
        Table(["", "runs", "runs/s", "share"], rows),
        [
            Mark(
                "at least 0.6 of the plain loop of `runc run`",
                f"{share:.2f}; medians of blocks {against}",
                share >= 0.6,
            )
        ],
    )


def _through_the_api(server: Oneoff) -> Sample:
    def sample() -> Mapping[str, float]:
        began = time.perf_counter()
        accepted = {server.accept(TRUE)["id"] for _ in range(_BLOCK)}
        going = "/runs?limit=1&status=queued&status=starting&status=running"
        while server.call("GET", going)["items"]:
            time.sleep(0.1)
        seconds = time.perf_counter() - began
        ended = server.call("GET", f"/runs?limit={_BLOCK}")["items"]
        if {run["id"] for run in ended} != accepted or {run["status"] for run in ended} != {"succeeded"}:
            raise Failed(f"not all succeeded: {ended}")
        wait_until(lambda: not server.containers())
        return {_OURS: seconds}

    return sample


def _bare(bundle: Bundle, runtime: str) -> Sample:
    copies = make_copies(bundle, runtime)

    def sample() -> Mapping[str, float]:
        return {f"loop of bare {runtime} run": run_bare(bundle, runtime, copies, _BLOCK)}

    return sample


def make_copies(bundle: Bundle, runtime: str) -> list[Path]:
    """One for each thread of `run_bare`."""
    return [bundle.copy(f"{runtime}{number}") for number in range(AT_A_TIME)]


def run_bare(bundle: Bundle, runtime: str, copies: list[Path], count: int) -> float:
    """Seconds of so many runs, by as many threads as there are copies."""
    began = time.perf_counter()
    left = iter(range(count))

    def work(copied: Path) -> None:
        for _ in left:
            bundle.run(copied, runtime)

    with ThreadPoolExecutor(len(copies)) as threads:
        list(threads.map(work, copies))
    return time.perf_counter() - began
