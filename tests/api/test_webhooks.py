"""Webhooks over HTTP: for admins; what is secret is not shown."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI

from oneoff.api.app import create_app
from oneoff.api.webhook_shapes import DeliveryShape, WebhookShape
from oneoff.core.addresses import parse_networks
from tests.api.test_everywhere import check_problem
from tests.engine.receiver import Receiver, answer_of, receiving
from tests.operations.home import Home

pytestmark = pytest.mark.anyio
Client = httpx2.AsyncClient
URL = "https://203.0.113.7/hook"


@pytest.fixture
def app(home: Home) -> FastAPI:
    settings = replace(home.context.settings, webhook_networks=parse_networks("127.0.0.0/8, 203.0.113.0/24"))
    home.context = replace(home.context, settings=settings)
    return create_app(home.context)


async def made(client: Client, **body: Any) -> dict[str, Any]:
    response = await client.post("/webhooks", json={"name": "ci", "url": URL, **body})
    assert response.status_code == 201, response.text
    found: dict[str, Any] = response.json()
    return found


async def test_a_webhook_is_made_shown_changed_and_deleted(client: Client, home: Home) -> None:
    service = await home.add_service()
    webhook = await made(client, kinds=["run.*"], services=[service.path], failures_only=True)
    assert list(webhook) == list(WebhookShape.model_fields)
    assert webhook["secret"].startswith("whsec_")
    assert (webhook["target"], webhook["kinds"], webhook["service_ids"]) == (URL, ["run.*"], [service.id])
    address = f"/webhooks/{webhook['id']}"
    shown = (await client.get(address)).json()
    assert shown == webhook | {"secret": None}
    assert (await client.get(address, params={"reveal": "true"})).json() == webhook
    assert (await client.get("/webhooks")).json()["items"] == [shown]
    changed = (await client.patch(address, json={"enabled": False, "kinds": ["*"]})).json()
    assert (changed["enabled"], changed["disabled_reason"], changed["kinds"]) == (False, "by admin", ["*"])
    rotated = (await client.post(f"{address}/rotate", json={})).json()
    assert rotated["secret"] != webhook["secret"]
    assert rotated["old_secret_until"] is not None
    assert (await client.delete(address)).status_code == 204
    check_problem(await client.get(address), 404, "not_found")


async def test_only_admins_see_or_change_webhooks(client: Client) -> None:
    webhook = await made(client)
    token = (await client.post("/tokens", json={"name": "run"})).json()["token"]
    client.headers["Authorization"] = f"Bearer {token}"
    for method, path in (("GET", ""), ("POST", ""), ("GET", f"/{webhook['id']}"), ("POST", f"/{webhook['id']}/test")):
        response = await client.request(method, f"/webhooks{path}", json={"name": "x", "url": URL})
        check_problem(response, 403, "not_allowed")


@pytest.mark.parametrize(
    ("body", "code", "field"),
    [
        ({"url": "https://10.0.0.1/"}, "address_not_allowed", "url"),
        ({"url": "https://[::1]/"}, "address_not_allowed", "url"),
        ({"url": "https://169.254.169.254/latest"}, "address_not_allowed", "url"),
        ({"url": "http://8.8.8.8/"}, "address_not_allowed", "url"),
        ({"url": "gopher://8.8.8.8/"}, "invalid_webhook", "url"),
        ({"url": None}, "invalid_webhook", "url"),
        ({"url": URL, "recipients": ["a@example.com"]}, "invalid_webhook", "url"),
        ({"kind": "email", "url": None, "recipients": ["a@example.com"]}, "invalid_webhook", "kind"),
        ({"kinds": ["run.explodes"]}, "unknown_event_kind", "kind"),
        ({"secret": "whsec_c2hvcnQ="}, "invalid_webhook", "secret"),
        ({"name": "\n"}, "invalid_webhook", "name"),
    ],
)
async def test_what_is_wrong_is_told_with_its_field(client: Client, body: Any, code: str, field: str) -> None:
    response = await client.post("/webhooks", json={"name": "ci", "url": URL, **body})
    assert check_problem(response, 422, code)["field"] == field


async def test_the_same_key_makes_one_webhook(client: Client) -> None:
    body, headers = {"name": "ci", "url": URL}, {"Idempotency-Key": "k"}
    first = (await client.post("/webhooks", json=body, headers=headers)).json()
    assert (await client.post("/webhooks", json=body, headers=headers)).json() == first
    assert len((await client.get("/webhooks")).json()["items"]) == 1


async def test_a_test_answers_what_came_of_it_and_is_in_the_log(client: Client) -> None:
    async with receiving() as receiver:
        receiver.answers = [answer_of(418, b"teapot")]
        webhook = await made(client, url=receiver.url.replace("http://", "http://u:geheim@") + "?key=geheim")
        assert "geheim" not in webhook["target"]
        address = f"/webhooks/{webhook['id']}"
        told = (await client.post(f"{address}/test")).json()
        assert list(told) == list(DeliveryShape.model_fields)
        assert told["status"] == "failed"
        assert (told["attempts"][0]["status_code"], told["attempts"][0]["answer"]) == (418, "teapot")
        assert receiver.got[0].headers["authorization"] == "Basic dTpnZWhlaW0="
        assert (receiver.got[0].path, is_local(receiver)) == ("/hook?key=geheim", True)
        assert (await client.get(f"{address}/deliveries")).json() == {"items": [told], "next_cursor": None}
        key, once_more = {"Idempotency-Key": "k"}, f"{address}/deliveries/{told['id']}/redeliver"
        again = (await client.post(once_more, headers=key)).json()
        assert (await client.post(once_more, headers=key)).json() == again
        assert (again["status"], again["event_id"]) == ("pending", told["event_id"])
        pending = (await client.get(f"{address}/deliveries", params={"status": "pending"})).json()["items"]
        assert [each["id"] for each in pending] == [again["id"]]
        events = (await client.get("/events")).text + (await client.get(f"{address}/deliveries")).text
        assert "geheim" not in events


def is_local(receiver: Receiver) -> bool:
    return receiver.got[0].headers["host"] == f"127.0.0.1:{receiver.port}"
