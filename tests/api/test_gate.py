"""The gate in front of a stream: who was let in stays in only while the token is valid."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx2
import pytest
from starlette.types import Message, Receive, Scope, Send

from oneoff.api.door import DOOR
from oneoff.entrance.gate import Gate
from oneoff.operations.tokens import Tokens
from tests.operations.home import Home

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("kind", "begin", "piece", "end"),
    [
        (
            "http",
            {"type": "http.response.start", "status": 200},
            {"type": "http.response.body", "body": b"line", "more_body": True},
            {"type": "http.response.body"},
        ),
        (
            "websocket",
            {"type": "websocket.accept"},
            {"type": "websocket.send", "text": "line"},
            {"type": "websocket.close", "code": 1008},
        ),
    ],
)
async def test_a_stream_ends_with_its_token(
    home: Home, client: httpx2.AsyncClient, kind: str, begin: Message, piece: Message, end: Message
) -> None:
    made = (await client.post("/tokens", json={"name": "ci"})).json()
    tokens = Tokens(home.context)

    async def pieces() -> AsyncIterator[Message]:
        yield piece
        await tokens.revoke(await tokens.authenticate(home.admin_token), made["id"])
        yield piece
        yield piece

    async def stream(scope: Scope, receive: Receive, send: Send) -> None:
        await send(begin)
        async for each in pieces():
            await send(each)

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        raise AssertionError("nothing is asked for")

    authorization = f"Bearer {made['token']}".encode()
    scope = {"type": kind, "method": "GET", "path": DOOR.prefix, "headers": [(b"authorization", authorization)]}
    await Gate(stream, tokens, DOOR)(scope, receive, send)
    assert [{key: value for key, value in each.items() if key != "headers"} for each in sent] == [begin, piece, end]
