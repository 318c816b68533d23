"""Webhooks on /render/v1, and what those in Render's form are sent."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest

from oneoff.core.render_events import TYPES, to_render_payload
from oneoff.core.webhook import WebhookKind
from oneoff.engine.delivery import make_delivery
from oneoff.operations.events import Event, EventFilter, list_events
from oneoff.operations.services import set_suspended
from oneoff.operations.tokens import Tokens
from oneoff.operations.webhooks import Attempt, NewWebhook
from oneoff.operations.webhooks import create_webhook as make_webhook
from oneoff.store import deliveries, webhooks
from tests.operations.home import Home
from tests.render_api.fields import ERROR, WEBHOOK, WEBHOOK_EVENT, listed, wrong

pytestmark = pytest.mark.anyio
FACE = "/render/v1"
URL = "https://hooks.example.com/a?key=1"


async def ask(client: httpx2.AsyncClient, method: str, path: str, status: int = 200, **more: Any) -> Any:
    response = await client.request(method, FACE + path, **more)
    assert response.status_code == status, response.text
    if status >= 400:
        assert wrong(response.json(), ERROR) == []
    return response.json() if response.content else None


def body(home: Home, *types: str, **more: Any) -> dict[str, Any]:
    given = {"ownerId": home.context.workspace_id, "url": URL, "name": "ci", "enabled": True, "eventFilter": types}
    return given | more


async def test_webhooks_are_made_listed_changed_and_deleted(client: httpx2.AsyncClient, home: Home) -> None:
    made = await ask(client, "POST", "/webhooks", 201, json=body(home, "job_run_ended", "postgres_created"))
    assert wrong(made, WEBHOOK) == []
    assert (made["url"], made["eventFilter"], made["enabled"]) == (URL, ["job_run_ended", "postgres_created"], True)
    other = NewWebhook(WebhookKind.WEBHOOK, "own form", settings={"url": URL})
    native = await make_webhook(home.context, other)
    (found,) = await ask(client, "GET", "/webhooks")
    assert (found["webhook"], wrong(found, listed("webhook", WEBHOOK))) == (made, [])
    assert await ask(client, "GET", f"/webhooks?cursor={found['cursor']}") == []
    assert await ask(client, "GET", "/webhooks?ownerId=tea-other") == []
    address = f"/webhooks/{made['id']}"
    assert await ask(client, "GET", address) == made
    changed = await ask(client, "PATCH", address, json={"name": "cd", "enabled": False, "eventFilter": []})
    assert changed == made | {"name": "cd", "enabled": False, "eventFilter": []}
    assert await ask(client, "DELETE", address, 204) is None
    await ask(client, "GET", address, 404)
    await ask(client, "GET", f"/webhooks/{native.id}", 404)
    for wrong_body in (
        {"url": "nowhere"},
        {"url": ""},
        {"name": ""},
        {"enabled": "yes"},
        {"eventFilter": "all"},
        {"eventFilter": [1]},
        {"eventFilter": ["?"]},
    ):
        await ask(client, "POST", "/webhooks", 400, json=body(home) | wrong_body)


async def test_webhooks_are_for_admins(client: httpx2.AsyncClient, home: Home) -> None:
    tokens = Tokens(home.context)
    _, plain = await tokens.create(await tokens.authenticate(home.admin_token), "ci", admin=False)
    client.headers["Authorization"] = f"Bearer {plain}"
    await ask(client, "GET", "/webhooks", 403)
    await ask(client, "POST", "/webhooks", 403, json=body(home))


async def test_deliveries_have_the_form_and_only_the_types_that_were_asked_for(
    client: httpx2.AsyncClient, home: Home
) -> None:
    made = await ask(client, "POST", "/webhooks", 201, json=body(home, "service_suspended"))
    service = await home.add_service()
    for suspended in (True, False):
        await set_suspended(home.context, service.id, suspended)
    now = home.context.clock.now()
    happened = await list_events(home.context, EventFilter(service_id=service.id), 10, None)
    webhook = await home.context.database.read(lambda c: webhooks.get_webhook(c, made["id"]))
    (delivery,) = [d for event in happened if (d := make_delivery(home.context, webhook, event, now)) is not None]
    sent = json.loads(delivery.body)
    about = {"id": delivery.event_id, "serviceId": service.id, "serviceName": "web"}
    assert (sent["type"], sent["data"]) == ("service_suspended", about)

    address = f"/webhooks/{made['id']}/events"
    await home.context.database.run(lambda c: deliveries.save_new(c, [delivery]))
    assert await ask(client, "GET", address) == []  # not sent yet
    attempt = Attempt(1, now, 5, 500, "it answered 500", "oops")
    later = now + timedelta(seconds=10)
    await home.context.database.run(
        lambda c: deliveries.save_attempt_if_pending(c, delivery, attempt, later, now),
    )
    (shown,) = await ask(client, "GET", f"{address}?sentAfter={(now - timedelta(seconds=1)).isoformat()}")
    assert wrong(shown, listed("webhookEvent", WEBHOOK_EVENT)) == []
    assert (shown["webhookEvent"]["statusCode"], shown["webhookEvent"]["error"]) == (500, "it answered 500")
    assert await ask(client, "GET", f"{address}?cursor={shown['cursor']}") == []
    assert await ask(client, "GET", f"{address}?sentBefore={now.isoformat()}") == []


@pytest.mark.parametrize("kind", sorted({kind for kinds in TYPES.values() for kind in kinds}))
def test_a_payload_tells_whose_it_is_and_how_it_ended(kind: str) -> None:
    about = {"service": "shop/production/nightly", "status": "failed", "job_id": "jdf-1"}
    event = Event("evt-1", "tea-1", kind, "run-1", datetime.now(UTC), about, "crn-1")
    payload = to_render_payload(event)
    assert payload is not None
    assert payload["type"] in TYPES
    data = payload["data"]
    assert (data["id"], data["serviceId"], data["serviceName"]) == ("evt-1", "crn-1", "nightly")
    assert data.get("status") in {None, "succeeded", "failed", "canceled"}
    assert ("status" in data) is (payload["type"].endswith("_ended"))
    assert to_render_payload(Event("evt-1", "tea-1", "token.created", "tok-1", datetime.now(UTC), {})) is None
