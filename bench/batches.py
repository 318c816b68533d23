"""A batch of 1,000 runs of `true`, beside a plain loop of the bare runtime; and one that is canceled in the middle."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Any

from bench.latency import oci
from bench.report import Mark, Result, Table
from bench.server import Failed, Oneoff, wait_until
from bench.sustained import AT_A_TIME, make_copies, run_bare

_ITEMS, _QUICK_ITEMS = 1_000, 100
_FEW_SAMPLES = 5
_PARALLEL = 2 * AT_A_TIME  # so that a run waits for each slot that becomes free
_OURS, _RUNTIMES = "Oneoff, oci (crun), a batch", ("runc", "crun")


def batches(folder: Path, samples: int) -> Result:
    """Half of the bare loops before each batch and half behind it, so that both see the same hours of the machine."""
    is_quick = samples <= _FEW_SAMPLES
    items, rounds = (_QUICK_ITEMS, 1) if is_quick else (_ITEMS, max(1, samples // 30))
    taken = dict.fromkeys((_OURS, *_RUNTIMES), 0.0)
    with oci(folder, slots=AT_A_TIME) as (server, bundle):
        copies = {runtime: make_copies(bundle, runtime) for runtime in _RUNTIMES}

        def loop_bare(count: int) -> None:
            for runtime in _RUNTIMES:
                taken[runtime] += run_bare(bundle, runtime, copies[runtime], count)

        _run_batch(server, 5 * AT_A_TIME)
        loop_bare(5 * AT_A_TIME)
        taken = dict.fromkeys(taken, 0.0)
        for _ in range(rounds):
            loop_bare(items // 2)
            taken[_OURS] += _run_batch(server, items)
            loop_bare(items // 2)
        canceled, seconds = _cancel_in_the_middle(server, items)
        left = len(server.containers())
    count, bare = items * rounds, taken["runc"]
    share = bare / taken[_OURS]
    names = {_OURS: _OURS} | {runtime: f"loop of bare {runtime} run" for runtime in _RUNTIMES}
    rows = [[names[name], str(count), f"{count / each:.1f}", f"{bare / each:.2f}"] for name, each in taken.items()]
    ended = f"{canceled['succeeded']} had succeeded, {canceled['canceled']} canceled"
    told = f"{ended}, at its end {seconds:.1f} s later, {left} containers left"
    return Result(
        f"Batches of {items:,} items, {_PARALLEL} in the queue or at work, on {AT_A_TIME} slots: from before `POST "
        "…/batches` to the client seeing its end; then every item's run is looked at. Bare: so many threads as slots "
        "that call `runc run` or `crun run`, with the same limits, init and network, half before each batch and half "
        "behind it. At last one more batch is canceled when two fifths of it have ended.",
        Table(["", "runs", "runs/s", "share"], rows),
        [
            Mark("at least 0.6 of the plain loop of `runc run`", f"{share:.2f}", share >= 0.6),
            Mark("cancel in the middle leaves nothing behind", told, left == 0),
        ],
    )


def _run_batch(server: Oneoff, items: int) -> float:
    """Seconds to its end. Raises Failed unless each item has one run that succeeded."""
    began = time.perf_counter()
    batch = _create(server, items)
    while not (ended := server.call("GET", f"/batches/{batch['id']}"))["finished_at"]:
        time.sleep(0.1)
    seconds = time.perf_counter() - began
    _check(server, ended, {"succeeded": items})
    wait_until(lambda: not server.containers())
    return seconds


def _cancel_in_the_middle(server: Oneoff, items: int) -> tuple[dict[str, int], float]:
    """The counts at its end, and how long after the cancel that was."""
    batch = _create(server, items)
    address = f"/batches/{batch['id']}"
    wait_until(lambda: server.call("GET", address)["counts"]["succeeded"] >= items * 2 // 5, 120)
    began = time.perf_counter()
    server.call("POST", f"{address}/cancel")
    wait_until(lambda: server.call("GET", address)["finished_at"] is not None)
    seconds = time.perf_counter() - began
    ended = server.call("GET", address)
    counts: dict[str, int] = ended["counts"]
    _check(server, ended, {"succeeded": counts["succeeded"], "canceled": items - counts["succeeded"]})
    wait_until(lambda: not server.containers())
    return counts, seconds


def _create(server: Oneoff, items: int) -> Any:
    body = {"command": ["true"], "items": [{}] * items, "max_parallel": _PARALLEL}
    return server.call("POST", f"/services/{server.service_id}/batches", body)


def _check(server: Oneoff, ended: dict[str, Any], wanted: dict[str, int]) -> None:
    """Its counts, its items and its runs tell the same."""
    counts = {name: count for name, count in ended["counts"].items() if count}
    items = _list(server, f"/batches/{ended['id']}/items")
    runs = _list(server, f"/runs?batch={ended['id']}")
    found = Counter(item["status"] for item in items)
    going = [run["id"] for run in runs if not run["finished_at"]]
    twice = [index for index, count in Counter(run["batch_index"] for run in runs).items() if count > 1]
    wanted = {name: count for name, count in wanted.items() if count}
    if counts != wanted or found != wanted or going or twice:
        raise Failed(f"counts {counts}, items {found}, wanted {wanted}, going {going[:3]}, twice {twice[:3]}")


def _list(server: Oneoff, address: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    mark, cursor = "&" if "?" in address else "?", ""
    while True:
        page = server.call("GET", f"{address}{mark}limit=200{cursor}")
        found += page["items"]
        if page["next_cursor"] is None:
            return found
        cursor = f"&cursor={page['next_cursor']}"
