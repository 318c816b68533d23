"""Results as Markdown: printed, and kept in docs/benchmarks.md between the markers of each benchmark."""

from __future__ import annotations

import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.measuring import milliseconds, percentile, ratio

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"


@dataclass(frozen=True, slots=True)
class Mark:
    """What a benchmark must show. `measured` is told as it is, met or not."""

    text: str
    measured: str
    is_met: bool


@dataclass(frozen=True, slots=True)
class Table:
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class Result:
    """Of one benchmark. `how` says what was compared with what, and how it was checked."""

    how: str
    table: Table
    marks: Sequence[Mark] = field(default_factory=list)


def compare(taken: Mapping[str, Sequence[float]], floor: str) -> Table:
    """One row per peer: p50 and p95 in milliseconds, and the ratios to the floor."""
    rows = []
    for name, values in taken.items():
        against = ratio(values, taken[floor])
        p50, p95 = milliseconds(statistics.median(values)), milliseconds(percentile(values, 95))
        rows.append([name, str(len(values)), p50, p95, str(against), f"{against.p95:.2f}"])
    return Table(["", "samples", "p50 ms", "p95 ms", f"ratio of p50 to {floor} [95 % CI]", "ratio of p95"], rows)


def to_markdown(result: Result, circumstances: str) -> str:
    lines = [result.how, "", *_to_lines(result.table), ""]
    for mark in result.marks:
        lines.append(f"- {'met' if mark.is_met else '**not met**'}: {mark.text}: {mark.measured}")
    return "\n".join([*lines, "", f"*{circumstances}*"])


def keep(name: str, text: str, page: Path = PAGE) -> None:
    """Replace what stands between the markers of this benchmark. Raises ValueError when the page has none."""
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    content, count = re.subn(
        f"{begin}.*?{end}", lambda _: f"{begin}\n{text}\n{end}", page.read_text(), count=1, flags=re.DOTALL
    )
    if not count:
        raise ValueError(f"{page} has no place for {name}: add {begin} and {end}")
    page.write_text(content)


def _to_lines(table: Table) -> list[str]:
    align = ["---", *("---:" for _ in table.head[1:])]
    return [f"| {' | '.join(cells)} |" for cells in (table.head, align, *table.rows)]
