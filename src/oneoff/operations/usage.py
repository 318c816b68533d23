"""What the workspace has used and what it costs. Used by the API."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import date, timedelta

from oneoff.core.usage import By, UsageLine, fold, total_of
from oneoff.errors import InvalidBody
from oneoff.operations.context import Context
from oneoff.store import offered, usage
from oneoff.store.dialect import Connection

_EPOCH = date(1970, 1, 1)
_MOST_LINES = 100_000


@dataclass(frozen=True, slots=True)
class Usage:
    """Of runs that ended on these days, both included, UTC. `jobs`: names of those that are still there, by id."""

    first: date
    last: date
    by: tuple[By, ...]
    lines: list[UsageLine]
    total: UsageLine
    jobs: dict[str, str] = field(default_factory=dict)


async def fetch_usage(context: Context, first: date | None, last: date | None, by: Collection[By]) -> Usage:
    """This month so far when no day is given. A run counts whole on the day it ended, when its cost was known: so a day
    that is over does not change any more. Raises InvalidBody."""
    today = context.clock.now().date()
    last = last or max(today, first or today)
    first = first or last.replace(day=1)
    if first > last:
        raise InvalidBody(f"{first} is later than {last}: give an earlier day, or swap them", "from")
    days = range((first - _EPOCH).days, (last - _EPOCH).days + 1)

    def work(connection: Connection) -> tuple[list[UsageLine], dict[str, str]]:
        lines = fold(usage.fetch_usage(connection, context.workspace_id, days, by), by)
        named = {each.job_id for each in lines if each.job_id is not None}
        return lines, offered.fetch_job_names(connection, context.workspace_id) if named else {}

    lines, names = await context.database.read(work)
    if len(lines) > _MOST_LINES:
        raise InvalidBody(f"that would be {len(lines)} lines: ask for fewer days, or by less", "by")
    return Usage(first, last, tuple(each for each in By if each in by), lines, total_of(lines), names)


def to_date(day: int) -> date:
    """Of days since 1970."""
    return _EPOCH + timedelta(days=day)
