"""What the API answers, as classes for its description; `answers` makes them.

Unset is null; every key is always there.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from oneoff.core.deploy import DeployStatus
from oneoff.core.gates import Gate
from oneoff.core.retry import BackOff
from oneoff.core.run import Reason, RunStatus, Trigger
from oneoff.core.service import ServiceType

T = TypeVar("T")
Time = datetime
Usd = Annotated[str, StringConstraints(pattern=r"^\d+\.\d{6}$")]
EntrypointShape = Literal["keep", "clear"] | list[str]


class Shape(BaseModel):
    # Built when the description is: `answers` makes what is sent, and no other request needs the model.
    model_config = ConfigDict(extra="forbid", defer_build=True)


class Page(Shape, Generic[T]):
    items: list[T]
    next_cursor: str | None


class LogShape(Shape):
    """`missing_bytes` were written by the command and not kept."""

    stdout_bytes: int
    stderr_bytes: int
    missing_bytes: int


class RetriesShape(Shape):
    count: int
    back_off: BackOff
    delay_seconds: int
    most_delay_seconds: int
    exit_codes: list[int]
    reasons: list[Reason]


class RunShape(Shape):
    id: str
    status: RunStatus
    reason: Reason | None
    exit_code: int | None
    signal: int | None
    oom_seen: bool
    service_id: str
    service: str = Field(description="The service's path when the run was created.")
    job_id: str | None
    cron_id: str | None
    batch_id: str | None
    attempt: int
    retry_of: str | None
    rerun_of: str | None
    trigger: Trigger
    actor: str
    command: list[str] | None
    shell: str | None
    entrypoint: EntrypointShape
    image: str
    digest: str
    instance_type: str
    timeout_seconds: int
    node: str | None
    queue_position: int | None = Field(description="From 1, of a queued run; not told in lists.")
    waiting_for: str | None
    created_at: Time
    started_at: Time | None
    finished_at: Time | None
    duration_seconds: float | None
    cost_usd: Usd | None = Field(description="Null until the run has ended.")
    log: LogShape
    message: str | None = Field(description="What happened, in the engine's words where there are any.")
    retries: RetriesShape | None
    retried_by: str | None = Field(description="The attempt after this one; not told in lists.")
    not_before: Time | None = Field(description="When the back-off of a retry is over.")
    concurrency_group: str | None
    must_end_at: Time | None
    warn_seconds: int | None
    warned_at: Time | None = Field(description="When it was told that the end of its time is near.")
    batch_index: int | None = Field(description="Of the item of its batch, from 0.")
    scheduled_for: Time | None = Field(description="The due instant of the tick that made it.")
    canceled_by: str | None = Field(description="Who asked for its end, also while it is being ended.")


class ServiceShape(Shape):
    id: str
    path: str
    type: ServiceType
    image: str | None
    digest: str | None
    instance_type: str
    networks: list[str]
    entrypoint: EntrypointShape
    suspended: bool
    created_at: Time
    capabilities: list[str]
    read_only_root: bool
    user: str | None
    sandbox: str | None
    registry_username: str | None


class ThenAndNow(Shape):
    """What the run before had, and what a new one would get now."""

    then: str
    now: str | None


class VariablesDifference(Shape):
    """Names of variables, never their values."""

    changed: list[str]
    only_then: list[str] = Field(description="Also those that were given to that run alone.")
    only_now: list[str]


class Difference(Shape):
    """Between the run that is run again and what a new one of its job or service would get. Null is no difference."""

    digest: ThenAndNow | None
    command: ThenAndNow | None = Field(description="Of a run of a job that is still there.")
    instance_type: ThenAndNow | None
    variables: VariablesDifference


class RerunShape(RunShape):
    difference: Difference


class VariableShape(Shape):
    value: str | None
    secret: bool


class RetentionShape(Shape):
    """Null is what the plan keeps."""

    runs: int | None
    days: int | None


class JobShape(Shape):
    """Null where the job has what its service, or the plan, has."""

    id: str
    name: str = Field(description="Unique in its service.")
    service_id: str
    service: str = Field(description="The service's path.")
    command: list[str] | None
    shell: str | None
    entrypoint: EntrypointShape | None
    variables: dict[str, VariableShape] = Field(description="The job's own, without values; `reveal=true` shows them.")
    instance_type: str | None
    timeout_seconds: int | None
    retries: RetriesShape | None
    retention: RetentionShape | None
    concurrency_group: str | None
    gate: Gate | None
    must_end_by: str | None
    warn_seconds: int | None
    managed_by: str | None = Field(description="The job file that made it.")
    created_at: Time
    updated_at: Time


class DeployGateShape(Shape):
    """A job that gates the deploy, or follows it, and its run."""

    gate: Gate
    job_id: str
    job: str = Field(description="The job's name then.")
    run_id: str | None = Field(description="Of the newest attempt; null when no run could be accepted.")
    status: RunStatus | None
    message: str | None = Field(description="Why no run could be accepted.")


class DeployShape(Shape):
    id: str
    service_id: str
    service: str
    status: DeployStatus
    image: str
    digest: str | None
    actor: str
    created_at: Time
    finished_at: Time | None
    warning: str | None = Field(description="Set when the image's entrypoint may swallow commands; with the fix.")
    message: str | None = Field(description="What it waits for, or why it did not become live.")
    canceled_by: str | None = Field(description="Who asked for its end while its gates were going.")
    gates: list[DeployGateShape] = Field(description="Those before the deploy first.")


class ProjectShape(Shape):
    id: str
    name: str
    created_at: Time


class EnvironmentShape(Shape):
    id: str
    project_id: str
    path: str
    created_at: Time


class TokenShape(Shape):
    id: str
    name: str
    admin: bool
    created_at: Time


class NewTokenShape(TokenShape):
    token: str | None = Field(description="Shown this once; null when an Idempotency-Key repeats the request.")


class GroupShape(Shape):
    name: str
    limit: int = Field(description="So many runs of the group at once.")
    going: int = Field(description="Runs of it on nodes now.")


class Groups(Shape):
    items: list[GroupShape]
    next_cursor: None


class NodeShape(Shape):
    node: str
    driver: str
    engine: str
    cpus: int
    memory_bytes: int
    slots: int
    slots_taken: int
    seen_at: Time


class InstanceTypeShape(Shape):
    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    id: str
    name: str
    klass: Literal["service", "cron"] = Field(alias="class")
    cpus: float
    memory_bytes: int
    price: str
    usd_per_hour: Usd


class InstanceTypes(Shape):
    items: list[InstanceTypeShape]
    next_cursor: None


class Nodes(Shape):
    items: list[NodeShape]
    next_cursor: None


class LogRecordShape(BaseModel):
    """`text`, or `base64` instead when the bytes are no UTF-8."""

    position: int = Field(description="Bytes of both streams up to the end of this record.")
    stream: Literal["stdout", "stderr"]
    time: Time
    text: str | None = None
    base64: str | None = None


class LogPage(Shape):
    items: list[LogRecordShape]
    next_after: int = Field(description="`after` of the next page.")
    ended: bool = Field(description="There will be nothing more.")


class Health(Shape):
    status: Literal["ok"]
