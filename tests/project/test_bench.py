"""The benchmarks: their arithmetic, their page, and the quick ones run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from bench import report
from bench.__main__ import BENCHMARKS
from bench.measuring import WARM_UPS, in_turn, percentile, ratio

ROOT = Path(__file__).parents[2]


def test_peers_are_measured_in_turn_behind_the_warm_ups() -> None:
    order: list[str] = []

    def peer(name: str) -> dict[str, float]:
        order.append(name)
        return {name: float(len(order))}

    taken = in_turn([lambda: peer("a"), lambda: peer("b")], 2)
    assert order == ["a", "b"] * (WARM_UPS + 2)
    assert taken == {"a": [7.0, 9.0], "b": [8.0, 10.0]}


def test_a_ratio_is_one_of_medians_within_its_interval() -> None:
    found = ratio([2.0, 4.0, 6.0], [1.0, 2.0, 3.0])
    assert (found.median, found.p95) == (2.0, 2.0)
    assert found.low <= found.median <= found.high


def test_a_percentile_is_the_smallest_value_that_so_many_do_not_exceed() -> None:
    values = [float(number) for number in range(1, 101)]
    assert [percentile(values, percent) for percent in (50, 95, 99, 100)] == [50.0, 95.0, 99.0, 100.0]
    assert percentile([3.0], 99) == 3.0


def test_every_benchmark_has_its_place_on_the_page(tmp_path: Path) -> None:
    page = tmp_path / "benchmarks.md"
    page.write_text(report.PAGE.read_text())
    for name in (*BENCHMARKS, "machine"):
        report.keep(name, f"measured: {name}", page)
    assert all(f"measured: {name}" in page.read_text() for name in BENCHMARKS)


@pytest.mark.parametrize("name", ["latency-oci", "idle"])
def test_it_runs_with_two_samples(name: str) -> None:
    argv = [sys.executable, "-m", "bench", "--quick", name]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr
    assert f"## {name}" in done.stdout
    assert "met" in done.stdout  # or "not met": two samples on a busy machine prove nothing
