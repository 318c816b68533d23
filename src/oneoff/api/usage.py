"""/usage: what runs have used and what they cost, as JSON or CSV."""

from __future__ import annotations

import csv
import io
from datetime import date
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from oneoff.api.answers import answer
from oneoff.api.door import API
from oneoff.api.usage_shapes import UsageShape
from oneoff.core.money import format_usd
from oneoff.core.usage import By, UsageLine
from oneoff.entrance.requests import context_of
from oneoff.operations.usage import Usage, fetch_usage, to_date

router = APIRouter(prefix=API, tags=["usage"])
_COLUMNS = {
    By.DAY: ("day",),
    By.SERVICE: ("service_id", "service"),
    By.JOB: ("job_id", "job"),
    By.INSTANCE_TYPE: ("instance_type",),
}
_COUNTS = ("runs", "seconds", "cost_usd")


@router.get("/usage", response_model=UsageShape, responses={200: {"content": {"text/csv": {}}}})
async def get_usage(
    request: Request,
    first: Annotated[
        date | None, Query(alias="from", description="The first day, UTC; by default the first of the month of `to`.")
    ] = None,
    last: Annotated[date | None, Query(alias="to", description="The last day, included; by default today.")] = None,
    by: Annotated[list[By], Query(description="What to tell apart; may be given several times.")] = [By.SERVICE],  # noqa: B006
    format: Annotated[Literal["json", "csv"], Query(description="CSV has the columns asked for, no total.")] = "json",  # noqa: A002
) -> Response:
    """What runs have used and what they cost: those that ended on these days, also those that the history has dropped.
    A run counts whole on the day it ended; one that is going does not count yet; a lost one counts up to the last
    moment it was seen."""
    found = await fetch_usage(context_of(request), first, last, by)
    if format == "csv":
        name = f"usage-{found.first}-{found.last}.csv"
        headers = {"Content-Disposition": f'attachment; filename="{name}"'}
        return Response(_to_csv(found), headers=headers, media_type="text/csv; charset=utf-8")
    return answer(
        {
            "from": found.first.isoformat(),
            "to": found.last.isoformat(),
            "by": [each.value for each in found.by],
            "items": [_to_line(found, each) for each in found.lines],
            "total": _to_counts(found.total),
            "next_cursor": None,
        }
    )


def _to_line(found: Usage, line: UsageLine) -> dict[str, Any]:
    return _to_counts(line) | {
        "day": None if line.day is None else to_date(line.day).isoformat(),
        "service_id": line.service_id,
        "service": line.service,
        "job_id": line.job_id,
        "job": None if line.job_id is None else found.jobs.get(line.job_id),
        "instance_type": line.instance_type,
    }


def _to_counts(line: UsageLine) -> dict[str, Any]:
    return {"runs": line.runs, "seconds": line.seconds, "cost_usd": format_usd(line.usd)}


def _to_csv(found: Usage) -> str:
    columns = [*(column for each in found.by for column in _COLUMNS[each]), *_COUNTS]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\r\n")
    writer.writeheader()
    writer.writerows(_to_line(found, each) for each in found.lines)
    return text.getvalue()
