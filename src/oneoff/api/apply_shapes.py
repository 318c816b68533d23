"""What a request to apply a job file brings and what is answered, as classes for the description."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, StringConstraints

from oneoff.api.bodies import Body, Integer, JobSettings, Name, VariableValue
from oneoff.api.cron_shapes import CronSettings
from oneoff.api.shapes import Shape
from oneoff.core.applying import Action

Source = Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f/]+$")]


class ApplyCron(CronSettings):
    name: Name = Field(description="Unique in its job.")
    expression: Name


class ApplyJob(JobSettings):
    """Exactly one of `command` and `shell`. What is not given has its default."""

    service: Name = Field(description="The service's path.")
    name: Name = Field(description="Unique in its service.")
    variables: dict[str, VariableValue] = Field({}, description="Exactly these; others of the job are removed.")
    crons: Annotated[list[ApplyCron], Field(max_length=100)] = Field([])

    def to_settings(self) -> dict[str, Any]:
        """Those that were given, without its variables and crons."""
        return self.model_dump(exclude_unset=True, exclude={"service", "name", "variables", "crons"})


class Apply(Body):
    """A job file: what it names is made, or changed to be as it says."""

    source: Source = Field(description="The file's name. It and `service` say whose the jobs and crons are.")
    service: Name = Field(description="Path of the service that the file belongs to.")
    groups: dict[Name, Integer] = Field({}, description="Limits of concurrency groups.")
    jobs: Annotated[list[ApplyJob], Field(max_length=1_000)] = Field([])
    dry_run: bool = Field(False, description="Only tell what would be done.")
    prune: bool = Field(False, description="Delete jobs and crons that this file made and names no longer.")
    adopt: bool = Field(False, description="Take over jobs and crons that a person or another file made.")
    expected: Name | None = Field(None, description="`digest` of a plan: refuse when another one would be carried out.")


class ChangeShape(Shape):
    """Null is not set. Of variables no values are told."""

    field: str
    before: Any
    after: Any


class PlanItemShape(Shape):
    action: Action
    kind: str = Field(description="`group`, `job` or `cron`.")
    name: str
    changes: list[ChangeShape]


class ApplyShape(Shape):
    managed_by: str = Field(description="What jobs and crons of this file have in `managed_by`.")
    dry_run: bool
    digest: str = Field(description="Of the plan, for `expected`.")
    changes: int = Field(description="So many items are changed, or would be.")
    items: list[PlanItemShape]
