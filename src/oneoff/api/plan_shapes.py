"""What the API answers about plans: shapes, and the bodies that change them. Made by `plans`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from oneoff.api.bodies import Body
from oneoff.api.shapes import Shape


class PlanShape(Shape):
    """0 where a plan without jobs has nothing to count."""

    id: str
    name: str
    has_jobs: bool
    longest_run_seconds: int = Field(description="Of a run's time limit, and the limit of one that asks for none.")
    smallest_cron_gap_seconds: int
    runs_at_once: int
    kept_runs: int = Field(description="Of each job, and of each service's ad-hoc runs; as many failed ones again.")
    kept_days: int = Field(description="Failed runs twice as long.")
    requests_per_minute: int = Field(description="Of each token.")
    tokens: int


class CurrentPlan(Shape):
    id: str
    plan: PlanShape | None = Field(description="Null when the server does not offer it any more.")
    runs_going: int
    tokens_in_use: int
    offered: list[PlanShape] = Field(description="All plans of this server.")


class PlanEffect(Shape):
    """What there is and the plan does not allow. Nothing is deleted at once."""

    kind: Literal["runs", "cron", "job", "tokens", "history"]
    id: str | None
    name: str | None
    message: str


class ChangedPlan(CurrentPlan):
    effects: list[PlanEffect]


class ChangePlan(Body):
    plan: Annotated[str, StringConstraints(min_length=1, max_length=100)] = Field(description="Its id, or its name.")
