"""What runs cost together: seconds at exact rates, added before anything is rounded. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction

from oneoff.core.terms import read_terms


class By(StrEnum):
    """What usage may be told apart by."""

    DAY = "day"
    SERVICE = "service"
    JOB = "job"
    INSTANCE_TYPE = "instance_type"


@dataclass(frozen=True, slots=True)
class UsageRow:
    """Some runs of one price. `day` is in days since 1970. None = not asked for, and the job of ad-hoc runs."""

    day: int | None
    service_id: str | None
    service: str | None
    job_id: str | None
    instance_type: str
    terms: str | None
    runs: int
    seconds: int


@dataclass(frozen=True, slots=True)
class UsageLine:
    """`usd` is exact."""

    day: int | None = None
    service_id: str | None = None
    service: str | None = None
    job_id: str | None = None
    instance_type: str | None = None
    runs: int = 0
    seconds: int = 0
    usd: Fraction = Fraction(0)


def fold(rows: Iterable[UsageRow], by: Collection[By]) -> list[UsageLine]:
    """One line for each that `by` tells apart, by day, service, job and instance type."""
    lines: dict[tuple[object, ...], UsageLine] = {}
    for row in rows:
        instance_type = row.instance_type if By.INSTANCE_TYPE in by else None
        key = (row.day, row.service_id, row.job_id, instance_type)
        seen = lines.get(key, UsageLine())
        usd = seen.usd + row.seconds * read_terms(row.terms, row.instance_type).usd_per_second
        lines[key] = UsageLine(
            row.day,
            row.service_id,
            row.service or seen.service,
            row.job_id,
            instance_type,
            seen.runs + row.runs,
            seen.seconds + row.seconds,
            usd,
        )
    return sorted(lines.values(), key=_order)


def total_of(lines: Iterable[UsageLine]) -> UsageLine:
    """Before any rounding."""
    listed = list(lines)
    return UsageLine(
        runs=sum(each.runs for each in listed),
        seconds=sum(each.seconds for each in listed),
        usd=sum((each.usd for each in listed), Fraction(0)),
    )


def _order(line: UsageLine) -> tuple[int, str, str, str, str]:
    return (line.day or 0, line.service or "", line.service_id or "", line.job_id or "", line.instance_type or "")
