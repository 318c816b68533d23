"""What requests about batches bring and what is answered, as classes for the description; `batch_answers` makes the
answers."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field, model_validator

from oneoff.api.bodies import Arguments, Body, CreateRun, Integer, RunJob, VariableValue, to_change
from oneoff.api.shapes import EntrypointShape, Shape, Time
from oneoff.core.batch import DEFAULT_PARALLEL, BatchStatus
from oneoff.core.run import Reason
from oneoff.operations.batches import NewBatch, NewItem

# Form only: what is more than the rule allows is told better by the rule.
_MOST_ITEMS = 100_000


def _add_short_forms(schema: dict[str, Any]) -> None:
    short = [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]
    schema["items"] = {"anyOf": [*short, schema["items"]]}


class ItemBody(Body):
    """A text stands for one argument, a list for all of them."""

    arguments: Arguments = Field([], description="Behind the arguments that all items share.")
    variables: dict[str, VariableValue] = Field({}, description="On top of those that all items share.")

    @model_validator(mode="before")
    @classmethod
    def _spell_out(cls, given: Any) -> Any:
        """Not as a union of forms: what is wrong would be told for each of them."""
        if isinstance(given, str):
            return {"arguments": [given]}
        return {"arguments": given} if isinstance(given, list) else given

    def to_new(self) -> NewItem:
        return NewItem(tuple(self.arguments), {name: to_change(value) for name, value in self.variables.items()})


class ItemsBody(Body):
    items: Annotated[list[ItemBody], Field(max_length=_MOST_ITEMS)] = Field(
        description="One run each, 1 to 10,000: a text (one argument), a list of them, or arguments and variables.",
        json_schema_extra=_add_short_forms,
    )
    max_parallel: Integer = Field(
        DEFAULT_PARALLEL, description="At most so many items are queued or at work at once; 1 to 1,000."
    )
    stop_on_failure: bool = Field(
        False, description="When an item has failed, what has not started never will; what is at work goes on."
    )

    def to_new(self) -> NewBatch:
        return NewBatch([each.to_new() for each in self.items], self.max_parallel, self.stop_on_failure)


class CreateServiceBatch(ItemsBody, CreateRun):
    """Exactly one of `command` and `shell`, which all items share."""


class CreateJobBatch(ItemsBody, RunJob):
    """What the runs of all items have otherwise than their job."""


class ItemFilter(StrEnum):
    """Of an item. `queued` and `running` are told apart when it is shown, not when it is asked for."""

    WAITING = "waiting"
    GOING = "going"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"


class ShownStatus(StrEnum):
    WAITING = "waiting"
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"


class CountsShape(Shape):
    """Items by status. Their sum is `item_count`."""

    waiting: int = Field(description="Not in the queue yet.")
    queued: int = Field(description="Waiting for a slot, or for the back-off of a retry.")
    running: int
    succeeded: int
    failed: int
    canceled: int


class BatchShape(Shape):
    id: str
    status: BatchStatus = Field(description="`running` until every item has ended.")
    service_id: str
    service: str = Field(description="The service's path when the batch was created.")
    job_id: str | None
    rerun_of: str | None
    actor: str
    command: list[str] | None = Field(description="What all items share; their arguments come behind it.")
    shell: str | None
    entrypoint: EntrypointShape
    image: str
    digest: str = Field(description="Pinned when the batch was created: all items run this image.")
    instance_type: str
    timeout_seconds: int = Field(description="Of each run.")
    max_parallel: int
    stop_on_failure: bool
    item_count: int
    index_count: int = Field(description="ONEOFF_BATCH_COUNT: more than `item_count` when failed items run again.")
    counts: CountsShape
    canceled_by: str | None
    stopped_index: int | None = Field(description="The item whose failure stopped the batch.")
    created_at: Time
    finished_at: Time | None


class ItemShape(Shape):
    """An item with its newest attempt. Its variables are told by name only."""

    index: int = Field(description="ONEOFF_BATCH_INDEX, from 0.")
    status: ShownStatus
    arguments: list[str]
    variables: list[str]
    run_id: str | None = Field(description="Null while it waits, and when it was never in the queue.")
    rerun_of: str | None = Field(description="The run of the item in the batch before.")
    attempt: int | None
    reason: Reason | None
    exit_code: int | None
    message: str | None
    started_at: Time | None
    finished_at: Time | None
