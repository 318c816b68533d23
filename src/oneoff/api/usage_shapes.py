"""What the API answers about usage. Made by `usage`."""

from __future__ import annotations

from datetime import date

from pydantic import ConfigDict, Field

from oneoff.api.shapes import Shape, Usd
from oneoff.core.usage import By


class UsageTotal(Shape):
    runs: int = Field(description="Those that started. One that never did costs nothing.")
    seconds: int = Field(description="Whole seconds of each run, rounded up, at least 1.")
    cost_usd: Usd = Field(description="Added exactly, then rounded.")


class UsageLineShape(UsageTotal):
    """What is not asked for in `by` is null."""

    day: date | None = Field(description="Of the runs' ends, UTC.")
    service_id: str | None
    service: str | None = Field(description="The service's path.")
    job_id: str | None = Field(description="Null, too, for ad-hoc runs.")
    job: str | None = Field(description="The job's name; null, too, once it was deleted.")
    instance_type: str | None


class UsageShape(Shape):
    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    from_: date = Field(alias="from")
    to: date
    by: list[By]
    items: list[UsageLineShape]
    total: UsageTotal
    next_cursor: None
