"""Logs by time on /render/v1: pages both ways, filters, labels, and the live stream."""

from __future__ import annotations

from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest
from sqlalchemy import update

from oneoff.core.clock import to_us
from oneoff.core.service import ServiceType
from oneoff.logs.archive import compress_log
from oneoff.logs.folder import ARCHIVE, log_folder
from oneoff.logs.writer import LogWriter
from oneoff.operations import line_following, timed_lines
from oneoff.operations.line_following import Follower
from oneoff.operations.services import NewService, create_service
from oneoff.operations.variables import VariableChange, replace_variables
from oneoff.store.tables import runs
from tests.operations.home import IMAGE, Home
from tests.render_api.fields import ERROR, LOG_PAGE, wrong

pytestmark = pytest.mark.anyio
FACE = "/render/v1"
# Where the store tells which runs there are; the others are about their lines.
on_both = pytest.mark.parametrize("home", ["sqlite", "postgres"], indirect=True)


class Log:
    """Of a job, written as the engine does."""

    def __init__(self, home: Home, job_id: str, begin_us: int | None = None, cap_bytes: int = 1 << 28) -> None:
        self._folder = log_folder(home.context.settings.logs_dir, "run-" + job_id[4:])
        self._writer = LogWriter(self._folder, cap_bytes)
        self._time_us = to_us(home.context.clock.now()) if begin_us is None else begin_us

    def write(self, data: bytes, stream: str = "stdout", later_us: int = 0) -> None:
        """Without `later_us` at the same moment as what was written before."""
        self._time_us += later_us
        self._writer.append(stream, self._time_us, data)

    def close(self) -> None:
        self._writer.close()

    def end(self) -> None:
        """And it is compressed."""
        self._writer.finish()
        compress_log(self._folder)


async def add_service(home: Home, path: str = "shop/production/web") -> str:
    return (await create_service(home.context, NewService(path, ServiceType.WEB_SERVICE, IMAGE, None), "t")).id


async def start_job(client: httpx2.AsyncClient, home: Home, service_id: str) -> str:
    response = await client.post(f"{FACE}/services/{service_id}/jobs", json={"startCommand": "echo hi"})
    job_id = str(response.json()["id"])
    await home.start("run-" + job_id[4:])
    return job_id


async def finish(home: Home, job_id: str) -> None:
    await home.finish("run-" + job_id[4:])


async def ask(client: httpx2.AsyncClient, home: Home, resource: str | list[str], **more: Any) -> dict[str, Any]:
    query = {"ownerId": home.context.workspace_id, "resource": resource, **more}
    response = await client.get(f"{FACE}/logs", params=query)
    assert response.status_code == 200, response.text
    page: dict[str, Any] = response.json()
    assert wrong(page, LOG_PAGE) == []
    return page


async def ask_all(
    client: httpx2.AsyncClient, home: Home, resource: str | list[str], most: int = 0, **more: Any
) -> list[Any]:
    """Page by page, until there are no more. Up to `most` lines of one time may make a page larger than asked for."""
    found: list[Any] = []
    page = await ask(client, home, resource, **more)
    while True:
        assert len(page["logs"]) <= max(int(more.get("limit", 20)), most)
        found = page["logs"] + found if more["direction"] == "backward" else found + page["logs"]
        if not page["hasMore"]:
            return found
        more |= {"startTime": page["nextStartTime"], "endTime": page["nextEndTime"]}
        page = await ask(client, home, resource, **more)


def messages(found: list[Any]) -> list[str]:
    return [each["message"] for each in found]


@on_both
async def test_pages_lose_and_repeat_no_line_in_either_direction_though_many_have_one_time(
    client: httpx2.AsyncClient, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timed_lines, "_MARK_BYTES", 64)  # so that reading begins anywhere
    service_id = await add_service(home)
    jobs = [await start_job(client, home, service_id) for _ in range(3)]
    wanted = []
    begin_us = to_us(home.context.clock.now())
    for number, job_id in enumerate(jobs):
        log = Log(home, job_id, begin_us)  # all of them at once
        for piece in range(2):
            lines = [f"{number} {piece} {line}" for line in range(number * 2 + 3)]
            log.write("".join(f"{line}\n" for line in lines).encode(), later_us=piece % 2)
            wanted += lines
        log.close()
        await finish(home, job_id)
    for resource in (service_id, jobs):
        for limit in (1, 7):
            forward = await ask_all(client, home, resource, direction="forward", most=3, limit=limit)
            backward = await ask_all(client, home, resource, direction="backward", most=3, limit=limit)
            assert sorted(messages(forward)) == sorted(wanted)
            assert messages(backward) == messages(forward)
            assert len({each["id"] for each in forward}) == len(wanted)
    assert [m for m in messages(forward) if m.startswith("1 ")] == [m for m in wanted if m.startswith("1 ")]


async def test_a_log_cut_by_its_cap_says_how_much_is_missing_wherever_reading_begins(
    client: httpx2.AsyncClient, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timed_lines, "_MARK_BYTES", 64)
    job_id = await start_job(client, home, await add_service(home))
    log = Log(home, job_id, cap_bytes=3200)  # the first 1,600 bytes, and the last ones in parts of 100
    lines = [f"line {number:04d}" for number in range(1_000)]
    notices: set[str] = set()
    for written in range(100, 1_001, 100):
        for piece in (lines[written - 100 : written - 50], lines[written - 50 : written]):
            # Behind the last line of the piece before, and not in the future, which is not asked for.
            log.write("".join(f"{line}\n" for line in piece).encode(), later_us=100)
        found = await ask_every_way(client, home, job_id)
        cut = [each for each in found if each.startswith("[")]
        kept = [each for each in found if each not in cut]
        missing, at = written - len(kept), found.index(cut[0]) if cut else 0
        assert cut == [f"[{10 * missing} bytes of the output were not kept]"][: 1 if missing else 0]
        assert kept == lines[:at] + lines[at + missing : written]
        notices |= set(cut)
    assert len(notices) > 3, "it was cut again and again"
    log.end()
    await finish(home, job_id)
    assert await ask_every_way(client, home, job_id) == found


async def ask_every_way(client: httpx2.AsyncClient, home: Home, job_id: str) -> list[str]:
    """Page by page in both directions, with what was remembered of earlier readings and without: the same lines."""
    pages = []
    for _ in range(2):
        pages += [await ask_all(client, home, job_id, direction=way, limit=7) for way in ("forward", "backward")]
        timed_lines._known.clear()
    assert pages == [pages[0]] * 4
    return messages(pages[0])


async def test_whoever_asks_again_for_what_follows_gets_each_line_once(client: httpx2.AsyncClient, home: Home) -> None:
    job_id = await start_job(client, home, await add_service(home))
    log = Log(home, job_id)
    seen: list[str] = []
    start: dict[str, Any] = {}
    for piece in (b"one\ntw", b"o\n", b"", b"three\nfour", b"\n\n", b"no newline"):
        log.write(piece)
        page = await ask(client, home, job_id, direction="forward", **start)
        seen += messages(page["logs"])
        start = {"startTime": page["nextStartTime"]}
    assert seen == ["one", "two", "three", "four", ""]
    log.close()
    await finish(home, job_id)
    assert messages((await ask(client, home, job_id, direction="forward", **start))["logs"]) == ["no newline"]


async def test_a_page_has_the_last_lines_in_the_order_of_time(client: httpx2.AsyncClient, home: Home) -> None:
    job_id = await start_job(client, home, await add_service(home))
    log = Log(home, job_id)
    log.write(b"".join(b"line %d\n" % number for number in range(50)))
    page = await ask(client, home, job_id)
    assert messages(page["logs"]) == [f"line {number}" for number in range(30, 50)]
    assert page["hasMore"]
    times = [each["timestamp"] for each in page["logs"]]
    assert times == sorted(times)
    # Both ends belong to the time asked for: who comes back with the last time sees that line again, by its id.
    again = await ask(client, home, job_id, startTime=times[-1], direction="forward")
    assert again["logs"] == page["logs"][-1:]


async def test_a_line_tells_its_resource_instance_level_and_type(client: httpx2.AsyncClient, home: Home) -> None:
    service_id = await add_service(home)
    job_id = await start_job(client, home, service_id)
    log = Log(home, job_id)
    log.write(b'{"level": "warn", "msg": "low"}\nplain\n')
    log.write(b"bad\n", "stderr")
    await finish(home, job_id)
    of_job = (await ask(client, home, job_id, direction="forward"))["logs"]
    labels = [{each["name"]: each["value"] for each in log["labels"]} for log in of_job]
    assert [each["level"] for each in labels] == ["warning", "info", "error"]
    assert all(each["resource"] == each["instance"] == job_id and each["type"] == "app" for each in labels)
    of_service = (await ask(client, home, service_id, direction="forward"))["logs"]
    assert of_service[0]["labels"][0] == {"name": "resource", "value": service_id}
    assert of_service[0]["id"] == of_job[0]["id"]


async def test_lines_are_chosen_by_level_text_type_and_instance(client: httpx2.AsyncClient, home: Home) -> None:
    service_id = await add_service(home)
    first, second = [await start_job(client, home, service_id) for _ in range(2)]
    for job_id in (first, second):
        log = Log(home, job_id)
        log.write(b"GET /a 200\nlevel=error GET /b, c 503\nlevel=warn slow\n", later_us=1000)
        await finish(home, job_id)

    async def asked(**more: Any) -> list[str]:
        return messages((await ask(client, home, service_id, direction="forward", instance=first, **more))["logs"])

    assert len(await asked()) == 3
    assert await asked(level="error") == await asked(level=["err*"]) == ["level=error GET /b, c 503"]
    assert await asked(level=["error", "warning"]) == ["level=error GET /b, c 503", "level=warn slow"]
    assert await asked(level="error,warning") == ["level=error GET /b, c 503", "level=warn slow"]
    assert await asked(text="/b, c") == await asked(text="/5\\d\\d$/") == await asked(text="get*503")
    assert await asked(text=["200", "slow"]) == ["GET /a 200", "level=warn slow"]
    assert await asked(type="app") == await asked()
    assert await asked(type="build") == await asked(host="example.com") == await asked(statusCode="200") == []


@on_both
async def test_secrets_are_hidden_and_lines_of_any_bytes_are_shown(client: httpx2.AsyncClient, home: Home) -> None:
    service_id = await add_service(home)
    await replace_variables(home.context, service_id, {"KEY": VariableChange("hunter2-hunter2", secret=True)})
    job_id = await start_job(client, home, service_id)
    log = Log(home, job_id)
    log.write(b"it is hunter2-")
    log.write(b"hunter2!\n\xff\xfe\r\n\n")
    await finish(home, job_id)
    shown = messages((await ask(client, home, job_id, direction="forward"))["logs"])
    assert "hunter2" not in shown[0]
    assert shown[1:] == ["\ufffd\ufffd", ""]


@on_both
@pytest.mark.parametrize("box", [b"", b"\1" + b"x" * 40], ids=["cut", "of another key"])
async def test_a_log_that_cannot_be_shown_is_told_in_its_place_and_hides_no_other(
    client: httpx2.AsyncClient, home: Home, box: bytes
) -> None:
    service_id = await add_service(home)
    good, sealed, torn = [await start_job(client, home, service_id) for _ in range(3)]
    for job_id in (good, sealed, torn):
        log = Log(home, job_id)
        log.write(b"line of %s\n" % job_id.encode())
        log.end()
        await finish(home, job_id)
    await home.context.database.run(
        lambda c: c.execute(update(runs).where(runs.c.id == "run-" + sealed[4:]).values(variables_sealed=box)) and None
    )
    (log_folder(home.context.settings.logs_dir, "run-" + torn[4:]) / ARCHIVE).write_bytes(b"nothing" * 9)
    for way in ("forward", "backward"):
        told = sorted(messages(await ask_all(client, home, service_id, direction=way, limit=1)))
        assert told[0] == "[the log of this run cannot be shown: its file is damaged]"
        assert "does not open" in told[1]
        assert told[2:] == [f"line of {good}"]
    assert "does not open" in messages((await ask(client, home, sealed))["logs"])[0]
    async with aclosing(
        Follower(home.context, ["run-" + each[4:] for each in (sealed, good)], [], 0).follow()
    ) as coming:
        followed = sorted([(await anext(coming))[0].data.decode() for _ in range(2)])
    assert "does not open" in followed[0]
    assert followed[1] == f"line of {good}"


@on_both
async def test_by_default_services_show_the_last_hour_and_jobs_all_of_theirs(
    client: httpx2.AsyncClient, home: Home
) -> None:
    service_id = await add_service(home)
    job_id = await start_job(client, home, service_id)
    Log(home, job_id).write(b"now\n")
    await finish(home, job_id)
    soon = (datetime.now(UTC) + timedelta(hours=2)).isoformat()
    assert messages((await ask(client, home, job_id, endTime=soon))["logs"]) == ["now"]
    assert messages((await ask(client, home, service_id))["logs"]) == ["now"]
    ago = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    assert (await ask(client, home, service_id, endTime=ago))["logs"] == []


async def test_the_values_of_a_label_are_listed(client: httpx2.AsyncClient, home: Home) -> None:
    service_id = await add_service(home)
    job_id = await start_job(client, home, service_id)
    Log(home, job_id).write(b"a\nlevel=debug b\na\n")
    await finish(home, job_id)

    async def values(label: str) -> Any:
        query = {"ownerId": home.context.workspace_id, "resource": service_id, "label": label}
        return (await client.get(f"{FACE}/logs/values", params=query)).json()

    assert await values("level") == ["debug", "info"]
    assert await values("instance") == [job_id]
    assert await values("type") == ["app"]
    assert await values("host") == await values("method") == await values("statusCode") == []


@on_both
async def test_what_is_wrong_is_told(client: httpx2.AsyncClient, home: Home) -> None:
    owner, service_id = home.context.workspace_id, await add_service(home)
    good = {"ownerId": owner, "resource": service_id}
    for more, status, told in (
        ({"ownerId": ""}, 404, owner),
        ({"resource": ""}, 400, "resource"),
        ({"resource": "job-" + "0" * 20}, 404, "job-000"),
        ({"resource": "srv-" + "0" * 20}, 404, "srv-000"),
        ({"resource": "nothing"}, 404, "nothing"),
        ({"direction": "up"}, 400, "backward, forward"),
        ({"limit": "101"}, 400, "limit"),
        ({"startTime": "soon"}, 400, "startTime"),
        ({"startTime": "2026-01-02T00:00:00Z", "endTime": "2026-01-01T00:00:00Z"}, 400, "later"),
        ({"text": "/(/"}, 400, "expression"),
    ):
        response = await client.get(f"{FACE}/logs", params=good | more)
        assert (response.status_code, wrong(response.json(), ERROR)) == (status, []), response.text
        assert told in response.json()["message"]
    assert (await client.get(f"{FACE}/logs/values", params=good | {"label": "path"})).status_code == 400


@on_both
async def test_followed_runs_give_each_line_once_in_order_and_what_fails_ends_the_following(
    client: httpx2.AsyncClient, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line_following, "_LOOK_SECONDS", 0.01)
    service_id = await add_service(home)
    early = await start_job(client, home, service_id)
    log = Log(home, early)
    log.write(b"before\n")
    follower = Follower(home.context, [], [service_id], to_us(home.context.clock.now()))
    seen: list[str] = []
    async with aclosing(follower.follow()) as coming:
        log.write(b"after\nno newline", later_us=10_000_000)
        log.close()
        await finish(home, early)
        late = await start_job(client, home, service_id)
        Log(home, late).write(b"late\n", later_us=10_000_000)
        await finish(home, late)
        async for lines in coming:
            seen += [line.data.decode() for line in lines]
            if len(seen) >= 3:
                break
    assert sorted(seen) == ["after", "late", "no newline"]
    assert seen.index("after") < seen.index("no newline")

    async def broken(*_: object) -> None:
        raise RuntimeError("the store is gone")

    monkeypatch.setattr("oneoff.operations.line_pages.list_runs_within", broken)
    with pytest.raises(RuntimeError, match="the store is gone"):
        async with aclosing(Follower(home.context, [], [service_id], 0).follow()) as coming:
            await anext(coming)
