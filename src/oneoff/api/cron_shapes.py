"""What requests about crons bring and what is answered, as classes for the description; `cron_answers` makes them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import Field

from oneoff.api.bodies import Body, Integer, Name
from oneoff.api.shapes import Shape, Time
from oneoff.core.cron_preview import MOST_PREVIEWED, DstMark
from oneoff.core.dst import DstPolicy
from oneoff.core.overlap import Overlap
from oneoff.core.ticks import CatchUp, TickOutcome

Seconds = Annotated[Integer, Field(ge=0, le=10**9)]


class CronTiming(Body):
    time_zone: Name | None = Field(None, description="An IANA name, for example Europe/Berlin; by default UTC.")
    dst_policy: DstPolicy | None = Field(
        None, description="What a change of the clocks does: `debian` (the default), `skip` or `every`."
    )


class CronSettings(CronTiming):
    """Null stands for the default."""

    overlap: Overlap | None = Field(
        None, description="When it is due while its job is going: `skip` (the default), `allow`, `queue` or `replace`."
    )
    catch_up: CatchUp | None = Field(
        None,
        description="After a downtime: `none`, `latest` (the default) or `all` that are not older than the window.",
    )
    catch_up_window_seconds: Seconds | None = Field(None, description="By default a day.")
    jitter_seconds: Seconds | None = Field(None, description="Fires up to so much later, always the same for a tick.")
    starts_at: datetime | None = Field(None, description="It has no instants before.")
    ends_at: datetime | None = Field(None, description="It has no instants from then on.")
    hold_during_deploy: bool | None = Field(None, description="Wait while a deploy of the service is going.")
    alert_after_ticks: Annotated[Integer, Field(ge=1, le=10**6)] | None = Field(
        None, description="No success for so many expected ticks raises an event; by default none."
    )

    def to_settings(self) -> dict[str, Any]:
        """Those that were given."""
        return self.model_dump(exclude_unset=True, exclude={"job"})


class CreateCron(CronSettings):
    job: Name = Field(description="The job's id.")
    name: Name | None = Field(None, description="Unique in its job; by default `schedule`, `schedule-2` …")
    expression: Name = Field(
        description="Five fields (minute hour day-of-month month day-of-week), or @daily and such."
    )


class ChangeCron(CronSettings):
    """Fields that are not given stay as they are."""

    name: Name | None = None
    expression: Name | None = None


class PreviewCron(CronTiming):
    expression: Name
    count: Annotated[Integer, Field(ge=1, le=MOST_PREVIEWED)] = 10


class InstantShape(Shape):
    local: str = Field(description="What the clock shows in the time zone, without an offset.")
    utc: Time | None = Field(description="Null where nothing fires.")
    mark: DstMark | None = Field(description="Which rule for changes of the clocks made it so.")


class PreviewShape(Shape):
    description: str
    time_zone: str
    dst_policy: DstPolicy
    items: list[InstantShape]


class CronShape(Shape):
    id: str
    name: str
    job_id: str
    job: str
    service_id: str
    expression: str
    description: str = Field(description="The expression as an English sentence.")
    time_zone: str
    dst_policy: DstPolicy
    overlap: Overlap
    catch_up: CatchUp
    catch_up_window_seconds: int
    jitter_seconds: int
    starts_at: Time | None
    ends_at: Time | None
    hold_during_deploy: bool
    alert_after_ticks: int | None
    alerted_at: Time | None = Field(description="Since when there was no success for too many ticks.")
    paused: bool
    paused_by: str | None = Field(description="`cron`, `environment` or `workspace`: what to resume first.")
    next: list[InstantShape] = Field(description="The next instants; they do not fire while it is paused.")
    managed_by: str | None
    created_at: Time


class TickShape(Shape):
    """One due instant; or `count` of them, from `due_at` to `until`."""

    cron_id: str
    due_at: Time
    until: Time | None
    count: int
    outcome: TickOutcome
    run_id: str | None
    message: str | None
    decided_at: Time


class PauseShape(Shape):
    crons_paused: bool
