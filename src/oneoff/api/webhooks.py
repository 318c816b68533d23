"""/webhooks: for admins."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Query, Request
from starlette.responses import Response

from oneoff.api.answers import answer, to_time
from oneoff.api.door import API
from oneoff.api.requests import (
    Cursor,
    Limit,
    caller_of,
    context_of,
    idempotency_of,
    read_cursor,
    to_page,
)
from oneoff.api.shapes import Page
from oneoff.api.webhook_shapes import ChangeWebhook, CreateWebhook, DeliveryShape, RotateSecret, WebhookShape
from oneoff.core.webhook import DeliveryStatus
from oneoff.operations import webhooks
from oneoff.operations.tokens import check_admin
from oneoff.operations.webhooks import NewWebhook, Told, Webhook

router = APIRouter(prefix=API, tags=["webhooks"])
_OF_NEW = {"name", "kind"}
_Reveal = Annotated[bool, Query(description="With its secret.")]


@router.post("/webhooks", status_code=201, response_model=WebhookShape)
async def create_webhook(body: CreateWebhook, request: Request) -> Response:
    """Tell a receiver what happens from now on. The answer holds the secret that signs what it is sent."""
    context = _admitted(request)
    idempotency = await idempotency_of(request)
    settings = body.model_dump(exclude_unset=True, exclude=_OF_NEW)
    made = await webhooks.create_webhook(context, NewWebhook(body.kind, body.name, settings=settings), idempotency)
    return answer(_to_webhook(made, webhooks.reveal_secret(context, made)), 201)


@router.get("/webhooks", response_model=Page[WebhookShape])
async def list_webhooks(request: Request, limit: Limit = 50, cursor: Cursor = None) -> Response:
    """All webhooks, newest first."""
    listed = await webhooks.list_webhooks(_admitted(request), limit + 1, read_cursor(cursor, "webhook"))
    return answer(to_page([_to_webhook(each) for each in listed], limit))


@router.get("/webhooks/{webhook_id}", response_model=WebhookShape)
async def get_webhook(webhook_id: str, request: Request, reveal: _Reveal = False) -> Response:
    """One webhook."""
    context = _admitted(request)
    found = await webhooks.get_webhook(context, webhook_id)
    return answer(_to_webhook(found, webhooks.reveal_secret(context, found) if reveal else None))


@router.patch("/webhooks/{webhook_id}", response_model=WebhookShape)
async def change_webhook(webhook_id: str, body: ChangeWebhook, request: Request) -> Response:
    """Change some of it. Enabled again, it is told what happens from then on; disabled, what has not arrived is
    canceled."""
    context = _admitted(request)
    given = {name: value for name, value in body.model_dump(exclude_unset=True).items() if value is not None}
    return answer(_to_webhook(await webhooks.change_webhook(context, webhook_id, given, caller_of(request).name)))


@router.delete("/webhooks/{webhook_id}", status_code=204, response_class=Response)
async def delete_webhook(webhook_id: str, request: Request) -> Response:
    """Delete it, with the log of its deliveries."""
    await webhooks.delete_webhook(_admitted(request), webhook_id)
    return Response(status_code=204)


@router.post("/webhooks/{webhook_id}/rotate", response_model=WebhookShape)
async def rotate_secret(
    webhook_id: str, body: Annotated[RotateSecret, Body(default_factory=RotateSecret)], request: Request
) -> Response:
    """Give it a new secret, which the answer holds. For a while both sign."""
    context = _admitted(request)
    changed = await webhooks.rotate_secret(context, webhook_id, body.overlap_seconds, body.secret)
    return answer(_to_webhook(changed, webhooks.reveal_secret(context, changed)))


@router.post("/webhooks/{webhook_id}/test", response_model=DeliveryShape)
async def send_test(webhook_id: str, request: Request) -> Response:
    """Send it a `webhook.test` event now, once, and answer with what came of it."""
    return answer(_to_delivery(await webhooks.send_test(_admitted(request), webhook_id, caller_of(request).name)))


@router.get("/webhooks/{webhook_id}/deliveries", response_model=Page[DeliveryShape])
async def list_deliveries(
    webhook_id: str, request: Request, limit: Limit = 50, cursor: Cursor = None, status: DeliveryStatus | None = None
) -> Response:
    """What it was told, newest first, with every attempt."""
    before = read_cursor(cursor, "delivery")
    listed = await webhooks.list_deliveries(_admitted(request), webhook_id, status, limit + 1, before)
    return answer(to_page([_to_delivery(each) for each in listed], limit))


@router.post("/webhooks/{webhook_id}/deliveries/{delivery_id}/redeliver", status_code=201, response_model=DeliveryShape)
async def redeliver(webhook_id: str, delivery_id: str, request: Request) -> Response:
    """Send the same event once more, under the same `webhook-id`."""
    context = _admitted(request)
    idempotency = await idempotency_of(request)
    return answer(_to_delivery(await webhooks.redeliver(context, webhook_id, delivery_id, idempotency)), 201)


def _admitted(request: Request) -> Any:
    """The context, for admins only."""
    check_admin(caller_of(request), "see or change webhooks")
    return context_of(request)


def _to_webhook(webhook: Webhook, secret: str | None = None) -> dict[str, Any]:
    return {
        "id": webhook.id,
        "kind": webhook.kind.value,
        "name": webhook.name,
        "target": webhook.shown,
        "kinds": list(webhook.kinds),
        "service_ids": list(webhook.service_ids),
        "failures_only": webhook.failures_only,
        "enabled": webhook.enabled,
        "disabled_at": to_time(webhook.disabled_at),
        "disabled_reason": webhook.disabled_reason,
        "failing_since": to_time(webhook.failing_since),
        "secret": secret,
        "old_secret_until": to_time(webhook.old_secret_until),
        "created_at": to_time(webhook.created_at),
        "updated_at": to_time(webhook.updated_at),
    }


def _to_delivery(told: Told) -> dict[str, Any]:
    delivery = told.delivery
    return {
        "id": delivery.id,
        "webhook_id": delivery.webhook_id,
        "event_id": delivery.event_id,
        "event_kind": delivery.event_kind,
        "status": delivery.status.value,
        "attempts": [
            {
                "number": each.number,
                "started_at": to_time(each.started_at),
                "duration_ms": each.duration_ms,
                "status_code": each.status_code,
                "error": each.error,
                "answer": each.answer,
            }
            for each in told.attempts
        ],
        "next_attempt_at": to_time(webhooks.next_attempt_of(told)),
        "created_at": to_time(delivery.created_at),
        "finished_at": to_time(delivery.finished_at),
    }
