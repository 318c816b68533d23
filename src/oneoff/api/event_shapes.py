"""The shapes of events in the API."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from oneoff.api.shapes import Shape, Time


class EventShape(Shape):
    """What happened; docs/events.md has the kinds and what the body of each holds."""

    id: str
    seq: int = Field(description="Grows in the order of commits: nothing appears behind a reader that has come to it.")
    kind: str
    subject_id: str
    service_id: str | None = Field(description="Of what belongs to a service.")
    body: dict[str, Any]
    created_at: Time
