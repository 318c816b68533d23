"""/webhooks: those whose bodies have Render's form. For admins."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from oneoff.core.render_events import to_kinds
from oneoff.core.webhook import WebhookKind
from oneoff.entrance.requests import caller_of, context_of, idempotency_of
from oneoff.errors import InvalidBody, NotFound
from oneoff.operations import webhooks
from oneoff.operations.context import Context
from oneoff.operations.tokens import check_admin
from oneoff.operations.webhooks import NewWebhook, Told, Webhook
from oneoff.render_api.answers import answer, answer_nothing, to_listed, to_time, without_unset
from oneoff.render_api.cursors import read_id
from oneoff.render_api.owners import check_owner, is_asked_for
from oneoff.render_api.queries import (
    get_limit,
    get_window,
    need_text,
    read_body,
    take_list,
    take_text,
)
from oneoff.render_api.routing import at
from oneoff.render_api.selecting import is_within, select

FORM = "render"
_WEBHOOKS, _DELIVERIES = "hook", "dlvr"
_EVERY_KIND = ["run.ended", "run.started", "deploy.*", "service.*"]


def routes() -> list[BaseRoute]:
    one = "/webhooks/{webhook_id}"
    return [
        at("/webhooks", GET=list_webhooks, POST=create_webhook),
        at(one, GET=get_webhook, PATCH=change_webhook, DELETE=delete_webhook),
        at(one + "/events", GET=list_deliveries),
    ]


async def list_webhooks(request: Request) -> Response:
    context = _admitted(request)
    before, limit = read_id(_WEBHOOKS, request.query_params.get("cursor"), "webhook"), get_limit(request)
    listed: list[Webhook] = []
    if is_asked_for(request, context):
        listed = await select(lambda most, b: webhooks.list_webhooks(context, most, b), _is_ours, limit, before)
    return answer(to_listed("webhook", _WEBHOOKS, [(each.id, _to_webhook(context, each)) for each in listed]))


async def create_webhook(request: Request) -> Response:
    """It is told what happens from now on. The secret that signs is in the answer."""
    context, body = _admitted(request), await read_body(request)
    check_owner(context, need_text(body, "ownerId"))
    need_text(body, "url")
    new = NewWebhook(WebhookKind.WEBHOOK, need_text(body, "name"), FORM, _to_settings({"eventFilter": []} | body))
    idempotency = await idempotency_of(request)
    return answer(_to_webhook(context, await webhooks.create_webhook(context, new, idempotency)), 201)


async def get_webhook(request: Request) -> Response:
    context = _admitted(request)
    return answer(_to_webhook(context, await _get(context, request)))


async def change_webhook(request: Request) -> Response:
    context = _admitted(request)
    webhook, settings = await _get(context, request), _to_settings(await read_body(request))
    changed = await webhooks.change_webhook(context, webhook.id, settings, caller_of(request).name)
    return answer(_to_webhook(context, changed))


async def delete_webhook(request: Request) -> Response:
    context = _admitted(request)
    await webhooks.delete_webhook(context, (await _get(context, request)).id)
    return answer_nothing(204)


async def list_deliveries(request: Request) -> Response:
    """What was sent, with what came of the last attempt."""
    context = _admitted(request)
    webhook = await _get(context, request)
    before, limit = read_id(_DELIVERIES, request.query_params.get("cursor"), "delivery"), get_limit(request)
    window = get_window(request, "sent")

    def matches(delivery: _Sent) -> bool:
        return is_within(delivery.sent_at, window) and delivery.sent_at is not None

    async def fetch(most: int, behind: str | None) -> list[_Sent]:
        return [_Sent(told) for told in await webhooks.list_deliveries(context, webhook.id, None, most, behind)]

    listed = await select(fetch, matches, limit, before)
    return answer(to_listed("webhookEvent", _DELIVERIES, [(each.id, each.shape()) for each in listed]))


class _Sent:
    """A delivery by its last attempt."""

    def __init__(self, told: Told) -> None:
        self.id = told.delivery.id
        self._told = told
        self._last = told.attempts[-1] if told.attempts else None
        self.sent_at = self._last.started_at if self._last else None

    def shape(self) -> dict[str, Any]:
        assert self._last is not None
        return without_unset(
            {
                "id": self.id,
                "eventId": self._told.delivery.event_id,
                "eventType": json.loads(self._told.delivery.body)["type"],
                "sentAt": to_time(self._last.started_at),
                "statusCode": self._last.status_code,
                "responseBody": self._last.answer,
                "error": self._last.error,
            }
        )


def _admitted(request: Request) -> Context:
    """The context, for admins only."""
    check_admin(caller_of(request), "see or change webhooks")
    return context_of(request)


def _is_ours(webhook: Webhook) -> bool:
    return webhook.kind is WebhookKind.WEBHOOK and webhook.form == FORM


async def _get(context: Context, request: Request) -> Webhook:
    """Raises NotFound, also for those of another form."""
    webhook_id = request.path_params["webhook_id"]
    if not _is_ours(webhook := await webhooks.get_webhook(context, webhook_id)):
        raise NotFound("webhook", webhook_id, "its bodies have Oneoff's form: GET /api/v1/webhooks shows it")
    return webhook


def _to_settings(body: Mapping[str, Any]) -> dict[str, Any]:
    """What of a body is set. An empty filter is all that Render knows."""
    settings: dict[str, Any] = {name: value for name in ("name", "url") if (value := take_text(body, name)) is not None}
    if (enabled := body.get("enabled")) is not None:
        if not isinstance(enabled, bool):
            raise InvalidBody("enabled must be true or false", "enabled")
        settings["enabled"] = enabled
    if body.get("eventFilter") is not None:
        types = take_list(body, "eventFilter")
        if not all(isinstance(each, str) for each in types):
            raise InvalidBody("eventFilter must be a list of types of events", "eventFilter")
        settings |= {"types": types, "kinds": to_kinds(types) or _EVERY_KIND}
    return settings


def _to_webhook(context: Context, webhook: Webhook) -> dict[str, Any]:
    return {
        "id": webhook.id,
        "url": webhooks.reveal_target(context, webhook),
        "name": webhook.name,
        "secret": webhooks.reveal_secret(context, webhook),
        "enabled": webhook.enabled,
        "eventFilter": list(webhook.types),
    }
