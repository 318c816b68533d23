"""/log-streams: shapes, who may, what is never shown."""

from __future__ import annotations

import httpx2
import pytest

from tests.operations.home import Home

pytestmark = pytest.mark.anyio


async def test_a_stream_is_set_listed_and_deleted_without_its_token_being_shown(
    client: httpx2.AsyncClient, home: Home
) -> None:
    body = {"endpoint": "logs.example.com:6514", "token": "s3cret"}
    made = await client.put("/workspace/log-stream?check=false", json=body)
    assert made.status_code == 200, made.text
    shown = made.json()
    assert (shown["scope"], shown["protocol"], shown["framing"]) == ("workspace", "tls", "octets")
    assert shown["has_token"] is True
    assert shown["state"] == {
        "status": "idle", "connected_since": None, "failing_since": None, "last_error": None, "last_error_at": None,
        "lines_sent": 0, "lines_dropped": 0, "lag_bytes": 0, "lag_seconds": 0.0,
    }  # fmt: skip
    service = await home.add_service()
    dropped = await client.put(f"/services/{service.id}/log-stream", json={"setting": "drop"})
    assert (dropped.json()["service"], dropped.json()["endpoint"]) == (service.path, None)
    listed = await client.get("/log-streams")
    assert [each["setting"] for each in listed.json()["items"]] == ["send", "drop"]
    assert "s3cret" not in listed.text + made.text
    assert (await client.delete("/workspace/log-stream")).status_code == 204
    assert (await client.get("/workspace/log-stream")).json()["code"] == "not_found"


async def test_only_admins_set_test_and_delete(client: httpx2.AsyncClient) -> None:
    made = (await client.post("/tokens", json={"name": "ci"})).json()
    client.headers["Authorization"] = f"Bearer {made['token']}"
    put = await client.put("/workspace/log-stream", json={"endpoint": "logs.example.com:6514"})
    answers = [put, await client.delete("/workspace/log-stream"), await client.post("/workspace/log-stream/test")]
    assert [answer.json()["code"] for answer in answers] == ["not_allowed"] * 3
    assert (await client.get("/log-streams")).status_code == 200


async def test_a_receiver_that_is_not_there_is_a_refusal_with_the_reason(client: httpx2.AsyncClient) -> None:
    for body in ({"endpoint": "127.0.0.1:1"}, {"kind": "otlp", "endpoint": "http://127.0.0.1:1"}):
        refused = await client.put("/workspace/log-stream", json=body)
        assert (refused.status_code, refused.json()["code"]) == (422, "log_stream_unreachable"), refused.text
        assert "refused" in refused.json()["detail"].lower() or "connect" in refused.json()["detail"].lower()


async def test_a_key_in_the_query_of_an_address_is_not_shown(client: httpx2.AsyncClient) -> None:
    body = {"kind": "otlp", "endpoint": "https://otel.example.com/v1/logs?key=s3cret&plain"}
    put = await client.put("/workspace/log-stream", params={"check": "false"}, json=body)
    assert put.status_code == 200, put.text
    assert put.json()["endpoint"] == "https://otel.example.com/v1/logs?key=…&plain=…"
    assert "s3cret" not in put.text + (await client.get("/log-streams")).text
