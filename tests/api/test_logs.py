"""Logs over HTTP: pages, raw bytes, and the live stream."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from oneoff.operations import logs
from oneoff.operations.logs import Changed, Ended, Output
from tests.api.test_everywhere import check_problem
from tests.engine.world import eventually
from tests.operations.home import Home

pytestmark = pytest.mark.anyio
BOTH = ("stdout", "stderr")
PIECES = (("stdout", b"one\n"), ("stderr", b"two\n"), ("stdout", b"\xff\x00bin"), ("stdout", "ü".encode()))


async def start(client: httpx2.AsyncClient, home: Home, **more: Any) -> str:
    found = (await client.get("/services", params={"path": "shop/production"})).json()["items"]
    service_id = found[0]["id"] if found else (await home.add_service()).id
    run_id: str = (await client.post(f"/services/{service_id}/runs", json={"shell": "true", **more})).json()["id"]
    await home.start(run_id)
    return run_id


async def end(home: Home, run_id: str) -> None:
    home.write_log(run_id, ended=True)
    await home.finish(run_id)


def parse(text: str) -> list[tuple[str, str | None, Any]]:
    events = []
    for block in text.strip().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n") if not line.startswith(":"))
        if fields:
            events.append((fields["event"], fields.get("id"), json.loads(fields["data"])))
    return events


def bytes_of(record: dict[str, Any]) -> bytes:
    return record["text"].encode() if "text" in record else base64.b64decode(record["base64"])


async def test_a_page_tells_records_with_positions_and_where_to_go_on(client: httpx2.AsyncClient, home: Home) -> None:
    run_id = await start(client, home)
    home.write_log(run_id, *PIECES)
    page = (await client.get(f"/runs/{run_id}/logs")).json()
    assert [(r["position"], r["stream"]) for r in page["items"]] == [
        (4, "stdout"), (8, "stderr"), (13, "stdout"), (15, "stdout")
    ]  # fmt: skip
    assert [bytes_of(record) for record in page["items"]] == [data for _, data in PIECES]
    assert page["items"][0]["time"] == "2023-11-14T22:13:20Z"
    assert (page["next_after"], page["ended"]) == (15, False)
    await end(home, run_id)
    rest = (await client.get(f"/runs/{run_id}/logs", params={"after": 15})).json()
    assert rest == {"items": [], "next_after": 15, "ended": True}


async def test_a_page_begins_behind_any_position_even_inside_a_record(client: httpx2.AsyncClient, home: Home) -> None:
    run_id = await start(client, home)
    home.write_log(run_id, *PIECES)
    for after in range(16):
        page = (await client.get(f"/runs/{run_id}/logs", params={"after": after})).json()
        assert b"".join(map(bytes_of, page["items"])) == b"".join(data for _, data in PIECES)[after:]


async def test_text_is_the_raw_bytes_of_both_or_one_stream(client: httpx2.AsyncClient, home: Home) -> None:
    run_id = await start(client, home)
    home.write_log(run_id, *PIECES)
    url = f"/runs/{run_id}/logs"
    both = await client.get(url, params={"format": "text"})
    assert both.content == b"".join(data for _, data in PIECES)
    assert both.headers["content-type"] == "application/octet-stream"
    one = await client.get(url, params={"format": "text", "stream": "stderr"})
    assert one.content == b"two\n"
    check_problem(await client.get("/runs/run-00000000000000000000/logs", params={"format": "text"}), 404, "not_found")


async def test_a_run_without_a_log_ends_at_once(client: httpx2.AsyncClient, home: Home) -> None:
    run_id = await start(client, home)
    await home.finish(run_id)
    events = parse((await client.get(f"/runs/{run_id}/logs/stream")).text)
    assert [name for name, _, _ in events] == ["status", "end"]
    assert events[-1][2]["status"] == "succeeded"


async def test_the_stream_resumes_from_the_last_event_id(client: httpx2.AsyncClient, home: Home) -> None:
    run_id = await start(client, home)
    home.write_log(run_id, *PIECES)
    await end(home, run_id)
    events = parse((await client.get(f"/runs/{run_id}/logs/stream")).text)
    ids = [last for name, last, _ in events if name == "log"]
    assert ids == ["4", "8", "13", "15"]
    for last in ids:
        again = parse((await client.get(f"/runs/{run_id}/logs/stream", headers={"Last-Event-ID": last or ""})).text)
        assert [i for name, i, _ in again if name == "log"] == ids[ids.index(last) + 1 :]


class Following:
    """A follower, and what it was told so far."""

    def __init__(self, home: Home, run_id: str) -> None:
        self.events: list[Any] = []
        self._task = asyncio.create_task(self._follow(logs.follow(home.context, run_id, 0, BOTH)))

    @property
    def statuses(self) -> list[str]:
        return [event.view.run.status.value for event in self.events if isinstance(event, Changed)]

    @property
    def output(self) -> bytes:
        return b"".join(r.data for event in self.events if isinstance(event, Output) for r in event.records)

    async def until_ended(self) -> None:
        await asyncio.wait_for(self._task, 30)

    async def _follow(self, coming: AsyncIterator[Any]) -> None:
        async for event in coming:
            self.events.append(event)


async def test_a_follower_sees_output_and_status_as_they_come(client: httpx2.AsyncClient, home: Home) -> None:
    service = await home.add_service()
    run_id = (await client.post(f"/services/{service.id}/runs", json={"shell": "true"})).json()["id"]
    following = Following(home, run_id)
    await eventually(lambda: following.statuses == ["queued"])
    await home.start(run_id)
    await eventually(lambda: following.statuses == ["queued", "running"])
    written = b""
    for stream, data in PIECES:
        home.write_log(run_id, (stream, data))
        written += data
        await eventually(lambda so_far=written: following.output == so_far)
    await end(home, run_id)
    await following.until_ended()
    assert following.statuses == ["queued", "running", "succeeded"]
    assert following.output == written
    assert isinstance(following.events[-1], Ended)


async def test_a_stopping_server_ends_its_streams_without_an_end(client: httpx2.AsyncClient, home: Home) -> None:
    run_id = await start(client, home)
    following = Following(home, run_id)
    await eventually(lambda: following.statuses)
    home.context.signals.server_stopping()
    await following.until_ended()
    assert not any(isinstance(event, Ended) for event in following.events)


async def test_declared_secrets_are_hidden_across_records_and_the_stored_log_stays_exact(
    client: httpx2.AsyncClient, home: Home
) -> None:
    run_id = await start(client, home, variables={"PW": {"value": "hunter2-hunter2", "secret": True}, "A": "visible"})
    pieces = (("stdout", b"visible hunter2"), ("stderr", b"-hunter2 "), ("stdout", b"-hunter2 done"))
    home.write_log(run_id, *pieces)
    await end(home, run_id)
    url = f"/runs/{run_id}/logs"
    shown = (await client.get(url, params={"format": "text", "stream": "stdout"})).content
    assert shown == b"visible *************** done"
    events = parse((await client.get(f"{url}/stream")).text)
    records = [record for name, _, record in events if name == "log"]
    by_stream = {s: b"".join(bytes_of(r) for r in records if r["stream"] == s) for s in BOTH}
    assert by_stream == {"stdout": b"visible *************** done", "stderr": b"-hunter2 "}
    positions = [record["position"] for record in records]
    assert positions == sorted(positions)
    assert positions[-1] == sum(len(data) for _, data in pieces)
    for after in range(positions[-1]):
        resumed = (await client.get(url, params={"format": "text", "stream": "stdout", "after": after})).content
        assert shown.endswith(resumed), after
