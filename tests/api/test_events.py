"""Events over HTTP: both ways, with filters, and as a stream."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import Any

import httpx2
import pytest

from oneoff.api.event_shapes import EventShape
from oneoff.api.events import _to_stream
from oneoff.operations.events import EventFilter
from oneoff.store import events
from oneoff.store.events import Event
from tests.api.test_everywhere import check_problem
from tests.operations.home import Home

pytestmark = pytest.mark.anyio
Client = httpx2.AsyncClient
AT = datetime(2026, 3, 1, 12, tzinfo=UTC)


async def happen(home: Home, *kinds: str, **more: Any) -> None:
    context = home.context

    def work(connection: Any) -> None:
        for kind in kinds:
            new = Event(context.new_id("event"), context.workspace_id, kind, f"about-{kind}", AT, {"n": 1}, **more)
            events.save_new(connection, new)

    await context.database.run(work)


async def test_events_are_listed_newest_first_by_kinds_subject_and_service(client: Client, home: Home) -> None:
    service = await home.add_service()
    await happen(home, "cron.overdue", "cron.recovered", "run.ended")
    await happen(home, "run.started", service_id=service.id)

    async def kinds(**query: Any) -> list[str]:
        return [each["kind"] for each in (await client.get("/events", params=query)).json()["items"]]

    assert await kinds() == ["run.started", "run.ended", "cron.recovered", "cron.overdue", "service.created"]
    assert await kinds(kind="cron.overdue") == ["cron.overdue"]
    assert await kinds(kind=["cron.*", "run.ended"]) == ["run.ended", "cron.recovered", "cron.overdue"]
    assert await kinds(subject="about-run.ended") == ["run.ended"]
    assert await kinds(service=service.path) == await kinds(service=service.id) == ["run.started", "service.created"]
    problem = check_problem(await client.get("/events", params={"kind": "run.exploded"}), 422, "unknown_event_kind")
    assert "run.ended" in problem["detail"]


async def test_a_list_goes_on_the_way_it_began(client: Client, home: Home) -> None:
    await happen(home, *["run.started", "run.ended"] * 2)
    first = (await client.get("/events", params={"limit": 3})).json()
    assert list(first["items"][0]) == list(EventShape.model_fields)
    rest = (await client.get("/events", params={"limit": 3, "cursor": first["next_cursor"]})).json()
    assert [each["seq"] for each in first["items"] + rest["items"]] == [4, 3, 2, 1]
    assert rest["next_cursor"] is None
    first = (await client.get("/events", params={"limit": 2, "after": 1})).json()
    rest = (await client.get("/events", params={"limit": 2, "cursor": first["next_cursor"]})).json()
    assert [each["seq"] for each in first["items"] + rest["items"]] == [2, 3, 4]
    one = first["items"][0]
    assert (await client.get(f"/events/{one['id']}")).json() == one
    check_problem(await client.get("/events", params={"cursor": "eHg"}), 400, "invalid_cursor")


def parse(piece: bytes) -> list[tuple[str, int, str]]:
    """Kind, id and kind in the data, of each event."""
    found = []
    for text in piece.decode().split("\n\n"):
        lines = dict(line.split(": ", 1) for line in text.splitlines() if not line.startswith(":"))
        if "data" in lines:
            found.append((lines["event"], int(lines["id"]), json.loads(lines["data"])["kind"]))
    return found


async def test_a_stream_begins_now_goes_on_behind_an_id_and_ends_with_the_server(client: Client, home: Home) -> None:
    await happen(home, "cron.overdue", "run.ended")
    stream = _to_stream(home.context, EventFilter(["run.ended"]), 1)
    assert b"\nid: 1\n" in await anext(stream)
    assert parse(await anext(stream)) == [("run.ended", 2, "run.ended")]
    waiting = asyncio.ensure_future(anext(stream, None))
    await happen(home, "run.started", "run.ended")
    assert parse(await asyncio.wait_for(waiting, 30) or b"") == [("run.ended", 4, "run.ended")]
    waiting = asyncio.ensure_future(anext(stream, None))
    await asyncio.sleep(0.02)
    home.context.signals.server_stopping()
    assert await asyncio.wait_for(waiting, 30) is None
    whole = await client.get("/events/stream")
    assert whole.headers["content-type"].startswith("text/event-stream")
    assert b"\nid: 4\n" in whole.content
    assert b"\nid: 2\n" in (await client.get("/events/stream", headers={"Last-Event-ID": "2"})).content


async def test_who_makes_and_revokes_a_token_is_told(client: Client, home: Home) -> None:
    made = (await client.post("/tokens", json={"name": "ci"})).json()
    await client.delete(f"/tokens/{made['id']}")
    told = (await client.get("/events", params={"subject": made["id"]})).json()["items"]
    assert [(each["kind"], each["body"]["name"]) for each in told] == [("token.revoked", "ci"), ("token.created", "ci")]
    assert "oneoff_" not in json.dumps(told)


async def test_a_service_is_told_of_from_its_making_to_its_end(client: Client, home: Home) -> None:
    service = await home.add_service()
    for way in ("suspend", "suspend", "resume"):
        await client.post(f"/services/{service.id}/{way}")
    await client.delete(f"/services/{service.id}")
    told = (await client.get("/events", params={"service": service.id})).json()["items"]
    assert [each["kind"] for each in reversed(told)] == [
        "service.created", "service.suspended", "service.resumed", "service.deleted",
    ]  # fmt: skip
