"""What requests about webhooks bring and what is answered, as classes for the description."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from oneoff.api.bodies import Body, Integer, Name
from oneoff.api.shapes import Shape, Time
from oneoff.core.webhook import OVERLAP_SECONDS, DeliveryStatus, WebhookKind

Address = Annotated[str, Field(max_length=2_000)]
Names = Annotated[list[Name], Field(max_length=100)]
_WHEN_SHOWN = "Shown when it is made or rotated, and to whoever asks to reveal it."


class WebhookSettings(Body):
    url: Address | None = Field(None, description="Of the receiver, https. Not for mail.")
    recipients: Annotated[list[Name], Field(max_length=20)] | None = Field(None, description="Of mail.")
    kinds: Names | None = Field(
        None,
        description="Kinds of events, `run.ended` or `run.*`. By default all; for `slack` and `email` the first "
        "failure of a job, its recovery, and the dead-man alert.",
    )
    services: Names | None = Field(None, description="Only events of these services, by path or id. Empty: of all.")
    failures_only: bool | None = Field(None, description="Only events that are failures.")


class CreateWebhook(WebhookSettings):
    name: Name
    kind: WebhookKind = WebhookKind.WEBHOOK
    secret: Name | None = Field(None, description="`whsec_` and the base64 of 24 to 64 bytes; by default a random one.")


class ChangeWebhook(WebhookSettings):
    """Fields that are not given stay as they are."""

    name: Name | None = None
    enabled: bool | None = None


class RotateSecret(Body):
    overlap_seconds: Annotated[Integer, Field(ge=0, le=30 * 86_400)] = Field(
        OVERLAP_SECONDS, description="How long the old secret signs beside the new one."
    )
    secret: Name | None = Field(None, description="The new one; by default random.")


class WebhookShape(Shape):
    id: str
    kind: WebhookKind
    name: str
    target: str = Field(description="Where it leads, without what is secret in an address; of mail the recipients.")
    kinds: list[str]
    service_ids: list[str] = Field(description="Empty: events of all services, and of none.")
    failures_only: bool
    enabled: bool
    disabled_at: Time | None
    disabled_reason: str | None
    failing_since: Time | None = Field(description="The first failed attempt since the last success.")
    secret: str | None = Field(description=_WHEN_SHOWN)
    old_secret_until: Time | None = Field(description="Until then the secret before it signs, too.")
    created_at: Time
    updated_at: Time


class AttemptShape(Shape):
    number: int
    started_at: Time
    duration_ms: int
    status_code: int | None
    error: str | None = Field(description="Why it was no success.")
    answer: str | None = Field(description="The first 1,024 bytes of the answer's body.")


class DeliveryShape(Shape):
    id: str
    webhook_id: str
    event_id: str
    event_kind: str
    status: DeliveryStatus
    attempts: list[AttemptShape]
    next_attempt_at: Time | None
    created_at: Time
    finished_at: Time | None
