"""Counters, gauges, histograms and their text."""

from __future__ import annotations

import subprocess
import threading

import pytest

from oneoff.meters import Counter, Gauge, Histogram, render


def test_a_counter_begins_at_zero_where_its_series_are_known() -> None:
    plain, known = Counter("a_total", "A."), Counter("b_total", "B.", ["kind"], [("x",), ("y",)])
    known.add("y", by=2)
    known.add("z")
    assert [*plain.lines(), *known.lines()] == [
        "a_total 0",
        'b_total{kind="x"} 0',
        'b_total{kind="y"} 2',
        'b_total{kind="z"} 1',
    ]


def test_a_histogram_counts_up_to_each_bound_and_beyond() -> None:
    seconds = Histogram("s", "S.", [0.1, 1], ["kind"])
    for value in (0.05, 0.1, 0.5, 7):
        seconds.observe(value, "x")
    assert list(seconds.lines()) == [
        's_bucket{kind="x",le="0.1"} 2',
        's_bucket{kind="x",le="1"} 3',
        's_bucket{kind="x",le="+Inf"} 4',
        's_sum{kind="x"} 7.65',
        's_count{kind="x"} 4',
    ]


def test_what_a_block_takes_is_observed_unless_it_raises() -> None:
    seconds = Histogram("s", "S.", [3600])
    with seconds.time():
        pass
    with pytest.raises(ValueError, match="broken"), seconds.time():
        raise ValueError("broken")
    assert seconds.count() == 1


def test_a_gauge_that_is_not_known_is_not_shown() -> None:
    gauge = Gauge("g", "G.")
    assert "g" not in render([gauge])
    gauge.set(1.5)
    assert list(gauge.lines()) == ["g 1.5"]
    gauge.forget()
    assert list(gauge.lines()) == []


def test_labels_are_escaped_and_their_number_is_checked() -> None:
    counter = Counter("c_total", "With a \\ and\na line.", ["kind"])
    counter.add('a "quoted" \\ word\n')
    assert render([counter]).splitlines() == [
        "# HELP c_total With a \\\\ and\\na line.",
        "# TYPE c_total counter",
        'c_total{kind="a \\"quoted\\" \\\\ word\\n"} 1',
    ]
    for wrong in ((), ("a", "b")):
        with pytest.raises(ValueError, match="takes the labels"):
            counter.add(*wrong)


def test_threads_lose_no_increment() -> None:
    counter, seconds = Counter("c_total", "C.", ["kind"]), Histogram("s", "S.", [1], ["kind"])

    def count() -> None:
        for _ in range(5_000):
            counter.add("x")
            seconds.observe(0.5, "x")

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (counter.value("x"), seconds.count("x")) == (20_000, 20_000)


def test_prometheus_itself_would_tell_a_wrong_text() -> None:
    """That the check of the real scrape can fail."""
    wrong = render([Counter("things", "T.")])
    done = subprocess.run(["promtool", "check", "metrics"], input=wrong, capture_output=True, text=True, check=False)
    assert done.returncode
    assert "_total" in done.stderr
