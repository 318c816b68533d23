"""The gate in front of a stream: who was let in stays in only while the token is valid."""

from __future__ import annotations

import httpx2
import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from oneoff.api.door import DOOR
from oneoff.entrance.gate import Gate
from oneoff.errors import StoreUnavailable
from oneoff.operations.tokens import Token, Tokens
from tests.operations.home import Home

pytestmark = pytest.mark.anyio

PIECE: Message = {"type": "http.response.body", "body": b"line", "more_body": True}
END: Message = {"type": "http.response.body"}


def start_of(content_type: bytes) -> Message:
    return {"type": "http.response.start", "status": 200, "headers": [(b"content-type", content_type)]}


EVENTS = start_of(b"text/event-stream; charset=utf-8")
BYTES = start_of(b"application/octet-stream")
ACCEPT: Message = {"type": "websocket.accept"}
TEXT: Message = {"type": "websocket.send", "text": "line"}
CLOSE: Message = {"type": "websocket.close", "code": 1008}


@pytest.mark.parametrize(
    ("begin", "piece", "rest"),
    [
        (EVENTS, PIECE, [END]),
        (BYTES, PIECE, []),  # broken off: the client must not take a part for the whole
        (ACCEPT, TEXT, [CLOSE]),
    ],
)
async def test_a_stream_ends_with_its_token(
    home: Home, client: httpx2.AsyncClient, begin: Message, piece: Message, rest: list[Message]
) -> None:
    made = (await client.post("/tokens", json={"name": "ci"})).json()
    tokens = Tokens(home.context)

    async def stream(scope: Scope, receive: Receive, send: Send) -> None:
        await send(begin)
        await send(piece)
        await tokens.revoke(await tokens.authenticate(home.admin_token), made["id"])
        await send(piece)
        await send(piece)

    _, *behind = await let_in(stream, tokens, made["token"], begin["type"].partition(".")[0])
    assert behind == [piece, *rest]


async def test_a_store_that_is_away_ends_no_stream(home: Home, client: httpx2.AsyncClient) -> None:
    made = (await client.post("/tokens", json={"name": "ci"})).json()
    tokens = ForgetfulTokens(home.context)

    async def stream(scope: Scope, receive: Receive, send: Send) -> None:
        await send(BYTES)
        tokens.is_away = True
        await send(PIECE)
        await send(END)

    _, *behind = await let_in(stream, tokens, made["token"], "http")
    assert behind == [PIECE, END]


class ForgetfulTokens(Tokens):
    """Asks the store each time."""

    is_away = False

    async def authenticate(self, text: str) -> Token:
        if self.is_away:
            raise StoreUnavailable("it is away")
        return await super().authenticate(text)


async def let_in(app: ASGIApp, tokens: Tokens, token: str, kind: str) -> list[Message]:
    """What the app and the gate send."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        raise AssertionError("nothing is asked for")

    headers = [(b"authorization", f"Bearer {token}".encode())]
    scope = {"type": kind, "method": "GET", "path": DOOR.prefix, "headers": headers}
    await Gate(app, tokens, DOOR)(scope, receive, send)
    return sent
