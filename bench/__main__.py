"""`bench/run [NAME …]`: run the benchmarks, print their tables, keep them in docs/benchmarks.md."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from bench import accepting, batches, crons, idle, latency, machine, report, sustained, throughput
from bench.report import Result

# Name -> what measures it, in a folder of its own and with so many samples.
BENCHMARKS: dict[str, Callable[[Path, int], Result]] = {
    "latency-docker": latency.latency_docker,
    "latency-oci": latency.latency_oci,
    "hardening": latency.hardening,
    "sustained": sustained.sustained,
    "accepting": accepting.accepting,
    "history": accepting.history,
    "million": accepting.million,
    "logs": throughput.logs,
    "idle": idle.idle,
    "crons": crons.crons,
    "batches": batches.batches,
}
_SAMPLES, _QUICK_SAMPLES = 30, 2


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench/run", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"all by default: {', '.join(BENCHMARKS)}")
    parser.add_argument("--quick", action="store_true", help="few samples, and docs/benchmarks.md stays as it is")
    parser.add_argument("--samples", type=int, help=f"{_SAMPLES} by default")
    given = parser.parse_args()
    # Ended from outside, it still ends its servers and removes its mounts.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if unknown := set(given.names) - BENCHMARKS.keys():
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}")
    samples = given.samples or (_QUICK_SAMPLES if given.quick else _SAMPLES)
    missed = [mark for name in given.names or BENCHMARKS for mark in measure(name, samples, is_kept=not given.quick)]
    return 1 if missed and not given.quick else 0


def measure(name: str, samples: int, *, is_kept: bool) -> list[str]:
    """Run one benchmark. Returns the marks it missed."""
    circumstances = machine.Circumstances()
    with tempfile.TemporaryDirectory(prefix="oneoff-bench-") as folder:
        result = BENCHMARKS[name](Path(folder), samples)
    text = report.to_markdown(result, str(circumstances))
    print(f"\n## {name}\n\n{text}", flush=True)
    if is_kept:
        report.keep(name, text)
        report.keep("machine", machine.describe())
    return [mark.text for mark in result.marks if not mark.is_met]


if __name__ == "__main__":
    sys.exit(main())
