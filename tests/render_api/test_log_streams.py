"""Log streams on /render/v1: where lines go, for all and for single services."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from oneoff.operations.tokens import Tokens
from tests.operations.home import Home
from tests.render_api.fields import ERROR, OWNER_STREAM, RESOURCE_STREAM, wrong

pytestmark = pytest.mark.anyio
FACE = "/render/v1/logs/streams"
REFUSED = "127.0.0.1:1"


@pytest.fixture
async def endpoint(anyio_backend: str) -> AsyncIterator[str]:
    """A receiver of OTLP that takes everything."""

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/logs"


async def ask(client: httpx2.AsyncClient, method: str, path: str, status: int = 200, **more: Any) -> Any:
    response = await client.request(method, FACE + path, **more)
    assert response.status_code == status, response.text
    if status >= 400:
        assert wrong(response.json(), ERROR) == []
        return response.json()["message"]
    return response.json() if response.content else None


async def test_the_workspaces_stream_is_set_kept_and_deleted(
    client: httpx2.AsyncClient, home: Home, endpoint: str
) -> None:
    address = f"/owner/{home.context.workspace_id}"
    assert "not found: tea-" in await ask(client, "GET", address, 404)
    assert "HOST:PORT" in await ask(client, "PUT", address, 400, json={"preview": "send"})
    body = {"preview": "drop", "endpoint": endpoint, "token": "secret"}
    made = await ask(client, "PUT", address, json=body)
    assert (made["endpoint"], wrong(made, OWNER_STREAM)) == (endpoint, [])
    assert "secret" not in str(made)
    assert await ask(client, "PUT", address, json={"preview": "send"}) == made  # receiver and token stay
    native = (await client.get("/api/v1/workspace/log-stream")).json()
    assert (native["endpoint"], native["has_token"], native["kind"]) == (endpoint, True, "otlp")
    assert await ask(client, "GET", address) == made
    assert await ask(client, "DELETE", address, 204) is None
    await ask(client, "DELETE", address, 404)
    await ask(client, "GET", f"/owner/tea-{'0' * 20}", 404)
    assert "preview" in await ask(client, "PUT", address, 400, json={"endpoint": endpoint})
    assert "does not take logs" in await ask(client, "PUT", address, 400, json={"preview": "send", "endpoint": REFUSED})


async def test_a_service_has_a_stream_of_its_own_or_none(client: httpx2.AsyncClient, home: Home, endpoint: str) -> None:
    one, other = await home.add_service(), await home.add_service("shop/production/other")
    sends = await ask(client, "PUT", f"/resource/{one.id}", json={"setting": "send", "endpoint": endpoint})
    drops = await ask(client, "PUT", f"/resource/{other.id}", json={"setting": "drop"})
    assert sends == {"resourceId": one.id, "endpoint": endpoint, "setting": "send"}
    assert drops == {"resourceId": other.id, "setting": "drop"}
    assert wrong(sends, RESOURCE_STREAM) == wrong(drops, RESOURCE_STREAM) == []
    assert await ask(client, "GET", f"/resource/{one.id}") == sends
    assert await ask(client, "GET", "/resource") == [sends, drops]
    assert await ask(client, "GET", "/resource?limit=1") == [sends]
    assert await ask(client, "GET", f"/resource?cursor={one.id}") == [drops]
    assert await ask(client, "GET", "/resource?setting=drop") == [drops]
    assert await ask(client, "GET", f"/resource?resourceId={one.id}") == [sends]
    assert await ask(client, "DELETE", f"/resource/{one.id}", 204) is None
    assert f"not found: {one.id}" in await ask(client, "GET", f"/resource/{one.id}", 404)
    await ask(client, "GET", "/resource/nothing", 404)
    for body in ({"setting": "send"}, {"setting": "drop", "endpoint": endpoint}, {"setting": "keep"}, {}):
        await ask(client, "PUT", f"/resource/{one.id}", 400, json=body)


async def test_streams_are_set_by_admins(client: httpx2.AsyncClient, home: Home) -> None:
    tokens = Tokens(home.context)
    _, plain = await tokens.create(await tokens.authenticate(home.admin_token), "ci", admin=False)
    client.headers["Authorization"] = f"Bearer {plain}"
    address = f"/owner/{home.context.workspace_id}"
    await ask(client, "PUT", address, 403, json={"preview": "send", "endpoint": REFUSED})
    await ask(client, "DELETE", address, 403)
