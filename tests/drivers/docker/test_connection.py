"""Exchanges with an engine that answers as it is told: connections that are kept, and every way to break off."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oneoff.drivers.docker.client import Call, Engine, to_request
from oneoff.drivers.docker.connection import Answer, BrokenExchange, Connections, Request, _Connection
from oneoff.errors import ContainerGone, DriverUnavailable, EngineUnavailable

pytestmark = pytest.mark.anyio

GET = Request(b"GET / HTTP/1.1\r\nHost: engine\r\n", b"", read_seconds=5, is_live=False)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


class ScriptedEngine:
    """Sends the next of `answers` behind each request's head, and closes the connection after one that is marked so."""

    def __init__(self, socket: Path) -> None:
        self.host = f"unix://{socket}"
        self.answers: list[tuple[bytes, bool]] = []
        self.requests: list[bytes] = []
        self.accepted = 0
        self.closed = asyncio.Semaphore(0)
        self.pieces: Callable[[bytes], list[bytes]] = lambda data: [data]

    def will_answer(self, *answers: bytes, and_close: bool = False) -> None:
        self.answers += [(answer, and_close) for answer in answers]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        try:
            while True:
                self.requests.append(await reader.readuntil(b"\r\n\r\n"))
                answer, is_last = self.answers.pop(0)
                for piece in self.pieces(answer):
                    writer.write(piece)
                    await writer.drain()
                if is_last:
                    writer.write_eof()
                    while await reader.read(1 << 16):
                        pass
                    return
        except (EOFError, ConnectionError):
            return
        finally:
            writer.close()
            self.closed.release()


@pytest.fixture
async def engine(anyio_backend: str, tmp_path: Path) -> AsyncIterator[ScriptedEngine]:
    engine = ScriptedEngine(tmp_path / "engine.sock")
    server = await asyncio.start_unix_server(engine.serve, str(tmp_path / "engine.sock"))
    yield engine
    server.close()


@pytest.fixture
async def connections(engine: ScriptedEngine) -> AsyncIterator[Connections]:
    connections = Connections(engine.host)
    yield connections
    await connections.close()


async def ask(connections: Connections, request: Request = GET) -> bytes:
    async with connections.exchange(request) as answer:
        return await answer.read()


async def test_a_connection_is_kept_for_the_next_call(engine: ScriptedEngine, connections: Connections) -> None:
    engine.will_answer(OK, CHUNKED + b"3\r\nabc\r\n0\r\n\r\n", b"HTTP/1.1 204 No Content\r\n\r\n", OK)
    assert [await ask(connections) for _ in range(4)] == [b"ok", b"abc", b"", b"ok"]
    assert engine.accepted == 1


async def test_calls_at_the_same_time_have_connections_of_their_own(
    engine: ScriptedEngine, connections: Connections
) -> None:
    engine.will_answer(OK, OK, OK)
    async with connections.exchange(GET) as one, connections.exchange(GET) as other:
        assert [await one.read(), await other.read()] == [b"ok", b"ok"]
    assert await ask(connections) == b"ok"
    assert engine.accepted == 2


async def test_connections_that_nobody_needs_any_more_are_closed_while_others_are_used(
    engine: ScriptedEngine, connections: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.will_answer(OK, OK, OK, OK)
    async with connections.exchange(GET) as one, connections.exchange(GET) as other:
        assert [await one.read(), await other.read()] == [b"ok", b"ok"]
    time = asyncio.get_running_loop().time()
    for minute in (1, 2):
        monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda at=time + 40 * minute: at)
        assert await ask(connections) == b"ok"
    monkeypatch.undo()
    await asyncio.wait_for(engine.closed.acquire(), 5)
    assert engine.accepted == 2


async def test_a_connection_in_use_ends_with_its_exchange_when_all_are_closed(
    engine: ScriptedEngine, connections: Connections
) -> None:
    engine.will_answer(OK)
    async with connections.exchange(GET) as answer:
        await connections.close()
        assert await answer.read() == b"ok"
    await asyncio.wait_for(engine.closed.acquire(), 5)


@pytest.mark.parametrize("answer", [OK, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"])
async def test_a_connection_that_the_engine_closed_is_opened_anew(
    engine: ScriptedEngine, connections: Connections, answer: bytes
) -> None:
    engine.will_answer(answer, OK, and_close=True)
    assert await ask(connections) == b"ok"
    assert await ask(connections) == b"ok"
    assert engine.accepted == 2


async def test_a_connection_is_not_kept_with_a_body_that_was_not_read(
    engine: ScriptedEngine, connections: Connections
) -> None:
    engine.will_answer(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npart", OK)
    async with connections.exchange(GET) as answer:
        async for block in answer.blocks():
            assert block == b"part"
            break
    assert await ask(connections) == b"ok"
    assert engine.accepted == 2


@pytest.mark.parametrize("how", [b"HTTP/1.1 200 OK\r\nConnection: Close", b"HTTP/1.0 200 OK"])
async def test_a_connection_that_the_engine_will_close_is_not_kept(
    engine: ScriptedEngine, connections: Connections, how: bytes
) -> None:
    engine.will_answer(how + b"\r\nContent-Length: 2\r\n\r\nok", OK)
    assert [await ask(connections) for _ in range(2)] == [b"ok", b"ok"]
    assert engine.accepted == 2


@pytest.mark.parametrize("more", [b"junk", OK])
async def test_a_connection_is_not_kept_when_more_came_than_was_asked_for(
    engine: ScriptedEngine, connections: Connections, more: bytes
) -> None:
    engine.will_answer(OK + more, OK)
    with pytest.raises(BrokenExchange, match="not HTTP"):
        await ask(connections)
    assert await ask(connections) == b"ok"
    assert engine.accepted == 2


@pytest.mark.parametrize("cut", [0, 10, 25])
async def test_the_answer_is_the_one_behind_those_that_announce_it(
    engine: ScriptedEngine, connections: Connections, cut: int
) -> None:
    interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
    engine.pieces = lambda data: [data[:cut], data[cut:]]
    engine.will_answer(interim + OK, OK)
    async with connections.exchange(GET) as answer:
        assert (answer.status, answer.headers, await answer.read()) == (200, {"content-length": "2"}, b"ok")
    assert await ask(connections) == b"ok"
    assert engine.accepted == 1


async def test_a_body_of_no_told_length_ends_with_the_connection(
    engine: ScriptedEngine, connections: Connections
) -> None:
    engine.will_answer(b"HTTP/1.1 200 OK\r\nContent-Type: x\r\n\r\nto the end", and_close=True)
    assert await ask(connections) == b"to the end"


async def test_behind_an_upgrade_all_bytes_are_the_body(engine: ScriptedEngine, connections: Connections) -> None:
    head = b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
    engine.pieces = lambda data: [data[: len(head) + 3], data[len(head) + 3 :]]
    engine.will_answer(head + b"HTTP/1.1 is not parsed here", and_close=True)
    assert await ask(connections) == b"HTTP/1.1 is not parsed here"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"", "without an answer"),
        (b"HTTP/1.1 200 OK\r\nContent-", "without an answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\ntoo few", "cut short"),
        (CHUNKED + b"3\r\nabc\r\n", "cut short"),
        (CHUNKED + b"3\r\na", "cut short"),
        (CHUNKED + b"zz\r\nab\r\n", "not HTTP"),
        (CHUNKED + b"2\r\nabXX", "not HTTP"),
        (b"+OK this is another protocol\r\n", "not HTTP"),
    ],
)
async def test_what_is_no_whole_answer_is_an_error(
    engine: ScriptedEngine, connections: Connections, answer: bytes, words: str
) -> None:
    engine.will_answer(answer, OK, and_close=True)
    with pytest.raises(BrokenExchange, match=words):
        await ask(connections)
    assert await ask(connections) == b"ok"


async def test_an_engine_that_does_not_answer_is_waited_for_as_long_as_was_said(
    engine: ScriptedEngine, connections: Connections
) -> None:
    engine.will_answer(b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npart")
    hasty = Request(GET.head, b"", read_seconds=0.02, is_live=False)
    for _ in range(2):  # before the head, and within the body
        with pytest.raises(BrokenExchange, match="nothing came"):
            await ask(connections, hasty)


async def test_a_connection_that_the_kernel_gives_up_is_an_error_also_where_nothing_limits_the_wait() -> None:
    reader = asyncio.StreamReader()
    reader.set_exception(TimeoutError(110, "Connection timed out"))
    writer = asyncio.StreamWriter(asyncio.Transport(), asyncio.Protocol(), reader, asyncio.get_running_loop())
    with pytest.raises(BrokenExchange, match="Connection timed out"):
        await _Connection(reader, writer).read(None)


async def test_a_live_answer_may_pause(engine: ScriptedEngine, connections: Connections) -> None:
    engine.will_answer(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npart")
    live = Request(GET.head, b"", read_seconds=0.5, is_live=True)  # time enough for it to begin
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.8):
            await ask(connections, live)


async def test_a_refusal_of_a_live_answer_may_not_pause(engine: ScriptedEngine, connections: Connections) -> None:
    engine.will_answer(b"HTTP/1.1 404 No\r\nContent-Length: 9\r\n\r\npart")
    live = Request(GET.head, b"", read_seconds=0.02, is_live=True)
    with pytest.raises(BrokenExchange, match="nothing came"):
        await ask(connections, live)


async def test_a_refusal_before_the_whole_body_was_sent_is_told(
    engine: ScriptedEngine, connections: Connections
) -> None:
    async def body() -> AsyncIterator[bytes]:
        while True:  # more than any buffer takes
            yield bytes(1 << 16)

    head = b"POST /images/load HTTP/1.1\r\nContent-Length: 999999999\r\n"
    engine.will_answer(b"HTTP/1.1 507 Full\r\nContent-Length: 7\r\n\r\nno room", and_close=True)
    async with connections.exchange(Request(head, body(), read_seconds=5, is_live=False)) as answer:
        assert (answer.status, await answer.read()) == (507, b"no room")


async def test_no_socket_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BrokenExchange, match="No such file"):
        await ask(Connections(f"unix://{tmp_path}/nothing.sock"))


def test_a_path_and_its_parameters_cannot_break_out_of_their_line() -> None:
    call = Call("POST", "/networks/a b?c\r\nX: 1/connect", params={"filters": '{"a": ["b&c"]}'}, body={"ä": 1})
    request = to_request(call, "/v1.41", "host:2375")
    first, *headers = request.head.decode().split("\r\n")
    assert first == (
        "POST /v1.41/networks/a%20b%3Fc%0D%0AX:%201/connect?filters=%7B%22a%22%3A+%5B%22b%26c%22%5D%7D HTTP/1.1"
    )
    assert headers == ["Host: host:2375", "Accept-Encoding: identity", "Content-Type: application/json", ""]
    assert request.body == b'{"\\u00e4": 1}'


async def test_what_the_engine_says_becomes_the_error_that_the_call_names(engine: ScriptedEngine) -> None:
    def answer(status: bytes, words: bytes) -> bytes:
        return b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (status, len(words), words)

    engine.will_answer(
        answer(b"404 Not Found", b'{"message": "No such container: x"}'),
        answer(b"500 Oh", b'{"cause": "broken"}'),
        answer(b"200 OK", b"no JSON"),
    )
    client = Engine(engine.host)
    call = Call("GET", "/containers/x/json", refusals={404: ContainerGone}, versioned=False)
    with pytest.raises(ContainerGone, match="No such container: x"):
        await client.send(call)
    for words in ("broken", "did not answer"):
        with pytest.raises(EngineUnavailable, match=words):
            await client.send(call)
    assert engine.accepted == 1
    await client.close()


@pytest.mark.parametrize(
    "host",
    [
        "/var/run/docker.sock",
        "ssh://host",
        "tcp://host:x",
        "tcp://host:99999",
        "tcp://::1:2375",
        "tcp://[::1",
        "tcp://a..b",
        "tcp://host/prefix",
    ],
)
def test_addresses_of_engines_that_cannot_be_used_are_refused(host: str) -> None:
    with pytest.raises(DriverUnavailable, match="unix:///path"):
        Engine(host)


@pytest.mark.parametrize("host", ["tcp://host", "tcp://[::1]:2375", "http://127.0.0.1:2375/", "https://host:2376"])
def test_addresses_of_engines_elsewhere_can_be_used(host: str) -> None:
    assert not Engine(host).is_local


async def test_an_engine_elsewhere_is_called_by_its_name(engine: ScriptedEngine) -> None:
    server = await asyncio.start_server(engine.serve, "127.0.0.1", 0)
    engine.will_answer(OK.replace(b"ok", b"{}"))
    client = Engine(f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
    assert await client.send(Call("GET", "/version", versioned=False)) == {}
    assert f"Host: {client.host[6:-1]}\r\n".encode() in engine.requests[0]
    await client.close()
    server.close()


@settings(deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=30), max_size=20), st.lists(st.integers(0, 1000), max_size=20))
def test_chunks_come_out_whole_however_they_are_cut(chunks: list[bytes], places: list[int]) -> None:
    answer = CHUNKED + b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
    bounds = [0, *sorted(place % (len(answer) + 1) for place in places), len(answer)]

    pieces = iter([answer[start:end] for start, end in pairwise(bounds) if start < end])

    async def next_piece(_seconds: float | None) -> bytes:
        return next(pieces, b"")

    async def exchange() -> bytes:
        answer = Answer(next_piece, GET)
        await answer.read_head()
        return await answer.read()

    assert asyncio.run(exchange()) == b"".join(chunks)
