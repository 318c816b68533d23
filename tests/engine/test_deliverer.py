"""Webhooks on real sockets and a given clock: attempts, back-off and signature as specified, whatever receivers do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from oneoff.core.addresses import parse_networks
from oneoff.core.clock import to_text
from oneoff.core.webhook import DELAYS_SECONDS, MOST_JITTER, WebhookKind
from oneoff.engine.context import Context
from oneoff.engine.deliverer import Deliverer
from oneoff.engine.delivery import target_place
from oneoff.engine.events import record
from oneoff.engine.janitor import Janitor
from oneoff.errors import WrongSecretKey
from oneoff.operations import webhooks
from oneoff.operations.webhooks import NewWebhook, Told, Webhook
from oneoff.sealing import Sealer
from oneoff.senders.webhook import client
from oneoff.store import deliveries, events
from oneoff.store import webhooks as rows
from oneoff.store.events import EventFilter
from tests.engine.mail_server import make_certificate
from tests.engine.receiver import OK, Receiver, answer_of, receiving
from tests.engine.world import eventually
from tests.monitoring.samples import Moved
from tests.operations.home import Home, open_home
from tests.operations.test_crons import START, StillClock

pytestmark = pytest.mark.anyio
LOOPBACK = parse_networks("127.0.0.0/8")
LIMIT = 10.0  # of an exchange
SHORT = 0.3  # where one is to be exceeded: nobody waits 15 s here


class Post:
    """A home with a deliverer, and hands for the clock."""

    def __init__(self, home: Home, clock: StillClock) -> None:
        self.home, self.clock = home, clock
        settings = replace(home.context.settings, webhook_networks=LOOPBACK)
        self.context: Context = replace(home.context, clock=clock, settings=settings)
        self.deliverer = Deliverer(self.context, LIMIT)

    async def add(self, receiver: Receiver, **settings: Any) -> Webhook:
        kind = settings.pop("kind", WebhookKind.WEBHOOK)
        return await webhooks.create_webhook(
            self.context, NewWebhook(kind, "ours", settings={"url": receiver.url, **settings})
        )

    async def happen(self, *kinds: str, service_id: str | None = None, **more: Any) -> None:
        body = {"name": "n", "admin": False, "actor": "a"} | more

        def work(connection: Any) -> None:
            for kind in kinds:
                record(self.context, connection, kind, "tok-1", body, service_id)

        await self.context.database.run(work)

    async def tick(self) -> float:
        """All that is due now, to its end."""
        await self.deliverer.tick()
        await self.deliverer.idle()
        return await self.deliverer.tick()

    async def log(self, webhook: Webhook) -> list[Told]:
        listed = await webhooks.list_deliveries(self.context, webhook.id, None, 100, None)
        return sorted(listed, key=lambda told: told.delivery.created_at)

    def turn(self, seconds: float) -> None:
        self.clock.time += timedelta(seconds=seconds)


# Where the database makes a difference; the others are about receivers.
on_both = pytest.mark.parametrize("post", ["sqlite", "postgres"], indirect=True)


@pytest.fixture
async def post(request: pytest.FixtureRequest, data_dir: Path, anyio_backend: str) -> AsyncIterator[Post]:
    is_postgres = getattr(request, "param", "sqlite") == "postgres"
    url = request.getfixturevalue("schema_url") if is_postgres else None
    home = await open_home(data_dir, url)
    made = Post(home, StillClock())
    yield made
    await made.deliverer.close()
    home.close()


@pytest.fixture
async def receiver(anyio_backend: str) -> AsyncIterator[Receiver]:
    async with receiving() as made:
        yield made


@on_both
async def test_a_delivery_has_the_headers_and_the_body_of_the_specification(post: Post, receiver: Receiver) -> None:
    await post.happen("token.created")  # before there is a webhook: never told
    webhook = await post.add(receiver)
    await post.happen("token.revoked")
    await post.tick()
    (got,) = receiver.got
    secret = webhooks.reveal_secret(post.context, webhook)
    assert got.is_signed_with(secret)
    assert not got.is_signed_with("whsec_" + "A" * 32)
    told = (await events_of(post, "token.revoked"))[0]
    assert got.headers["webhook-id"] == told.id
    assert got.headers["webhook-timestamp"] == str(int(START.timestamp()))
    assert got.headers["content-type"] == "application/json"
    assert got.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert got.value == {
        "type": "token.revoked",
        "timestamp": to_text(START),
        "data": {"id": told.id, "subject_id": "tok-1", "service_id": None, "name": "n", "admin": False, "actor": "a"},
    }
    (delivered,) = await post.log(webhook)
    assert (delivered.delivery.status, len(delivered.attempts)) == ("delivered", 1)
    assert (delivered.attempts[0].status_code, delivered.attempts[0].answer) == (200, "thanks")
    await post.tick()
    assert len(receiver.got) == 1


async def test_a_failing_receiver_is_tried_eight_times_over_33_hours_and_then_given_up(
    post: Post, receiver: Receiver
) -> None:
    receiver.answers, moved = [answer_of(500, b"no" * 1000)] * 20, Moved()
    webhook = await post.add(receiver)
    await post.happen("token.created")
    await post.tick()
    for number, delay in enumerate(DELAYS_SECONDS, 1):
        assert len(receiver.got) == number
        post.turn(delay - 1)
        await post.tick()
        assert len(receiver.got) == number, "it came back too early"
        post.turn(1 + delay * MOST_JITTER)
        await post.tick()
    assert len(receiver.got) == len(DELAYS_SECONDS) + 1 == 8
    post.turn(10 * 86_400)
    await post.tick()
    assert len(receiver.got) == 8
    assert len({each.body for each in receiver.got}) == len({each.headers["webhook-id"] for each in receiver.got}) == 1
    assert len({each.headers["webhook-timestamp"] for each in receiver.got}) == 8
    assert all(each.is_signed_with(webhooks.reveal_secret(post.context, webhook)) for each in receiver.got)
    assert moved.by('oneoff_webhook_attempts_total{kind="webhook",outcome="failed"}') == 8
    assert moved.by('oneoff_webhook_attempt_seconds_count{kind="webhook"}') == 8
    (told,) = await post.log(webhook)
    assert told.delivery.status == "failed"
    assert [each.status_code for each in told.attempts] == [500] * 8
    assert told.attempts[0].error == "it answered 500"
    assert len(told.attempts[0].answer or "") == 1024
    first, last = told.attempts[0].started_at, told.attempts[-1].started_at
    assert timedelta(hours=32) < last - first < timedelta(hours=37)
    assert (await webhooks.get_webhook(post.context, webhook.id)).enabled


@pytest.mark.parametrize(
    ("answer", "code", "words"),
    [
        (None, None, "no whole answer within 0.3 s"),
        (answer_of(302, b"", "Location: http://127.0.0.1:1/elsewhere"), 302, "redirections are not followed"),
        (answer_of(404, b"\xff\x00"), 404, "it answered 404"),
        (b"SSH-2.0-hello\r\n\r\n", None, "not HTTP"),
        (b"", None, "it broke off"),
    ],
    ids=["hangs", "redirects", "refuses", "speaks no HTTP", "closes"],
)
async def test_what_is_no_success_is_tried_again_and_told(
    post: Post, receiver: Receiver, answer: bytes | None, code: int | None, words: str
) -> None:
    receiver.answers = [answer]
    post.deliverer = Deliverer(post.context, SHORT if answer is None else LIMIT)
    webhook = await post.add(receiver)
    await post.happen("token.created")
    await post.tick()
    (told,) = await post.log(webhook)
    assert (told.delivery.status, told.attempts[0].status_code) == ("pending", code)
    assert words in (told.attempts[0].error or "")
    assert (await webhooks.get_webhook(post.context, webhook.id)).failing_since == START
    post.deliverer = Deliverer(post.context, LIMIT)
    post.turn(DELAYS_SECONDS[0] * 1.1)
    await post.tick()
    assert [len(each.attempts) for each in await post.log(webhook)] == [2]
    assert (await webhooks.get_webhook(post.context, webhook.id)).failing_since is None
    assert len(receiver.got) == 2


async def test_an_answer_that_comes_too_late_or_never_ends_is_none(post: Post, receiver: Receiver) -> None:
    """The limit is for the whole exchange: a head in time does not make a success of it."""
    half = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nlate"

    async def never_ending(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(half)
        await receiver.hanging.wait()
        writer.close()

    server = await asyncio.start_server(never_ending, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    webhook = await post.add(receiver, url=f"http://127.0.0.1:{port}/")
    post.deliverer = Deliverer(post.context, SHORT)
    await post.happen("token.created")
    await post.tick()
    (told,) = await post.log(webhook)
    assert (told.delivery.status, told.attempts[0].error) == ("pending", "no whole answer within 0.3 s")
    receiver.hanging.set()
    server.close()


async def test_a_slow_receiver_holds_up_nobody_else(post: Post, receiver: Receiver) -> None:
    async with receiving() as slow:
        slow.answers = [None] * 50
        await post.add(slow)
        await post.add(receiver)
        await post.happen(*["token.created"] * 20)

        async def all_came() -> bool:
            await post.deliverer.tick()
            return len(receiver.got) == 20

        await eventually(all_came)
        assert slow.connections <= 8
        slow.hanging.set()
        slow.answers.clear()
        await post.tick()


async def test_a_webhook_hears_what_it_wants_and_nothing_else(post: Post, receiver: Receiver) -> None:
    service = await post.home.add_service()
    await post.add(receiver, kinds=["token.*"])
    async with receiving() as other, receiving() as failures:
        await post.add(other, services=[service.path])
        await post.add(failures, failures_only=True)
        await post.happen("token.created")
        await post.happen("token.revoked", service_id=service.id)
        body = {"before": "a", "plan": "b", "actor": "c"}
        disabled = {"name": "n", "kind": "webhook", "target": "t", "reason": "r"}

        def work(connection: Any) -> None:
            record(post.context, connection, "plan.changed", "tea-1", body)
            record(post.context, connection, "webhook.disabled", "whk-1", disabled)

        await post.context.database.run(work)
        await post.tick()
        assert sorted(each.value["type"] for each in receiver.got) == ["token.created", "token.revoked"]
        assert [each.value["type"] for each in other.got] == ["token.revoked"]
        assert [each.value["type"] for each in failures.got] == ["webhook.disabled"]


@on_both
async def test_a_server_that_dies_between_sending_and_writing_it_down_sends_that_one_again(
    post: Post, receiver: Receiver
) -> None:
    webhook = await post.add(receiver)
    await post.happen("token.created")
    receiver.answers = [None]
    await post.deliverer.tick()
    await eventually(lambda: receiver.got)
    await post.deliverer.close()  # SIGKILL: what it was at is not written down
    second = post.deliverer = Deliverer(post.context, LIMIT)
    await post.tick()
    assert len(receiver.got) == 1, "the claim of the dead server still holds"
    post.turn(61)
    await post.tick()
    assert [each.headers["webhook-id"] for each in receiver.got] == [receiver.got[0].headers["webhook-id"]] * 2
    post.turn(10_000)
    await post.tick()
    assert len(receiver.got) == 2
    assert [len(each.attempts) for each in await post.log(webhook)] == [1]
    assert second is post.deliverer


@on_both
async def test_two_servers_share_the_work_and_send_nothing_twice(post: Post, receiver: Receiver) -> None:
    await post.add(receiver)
    other = Deliverer(post.context, LIMIT)
    await post.happen(*["token.created"] * 12)
    for _ in range(6):
        await asyncio.gather(post.deliverer.tick(), other.tick(), return_exceptions=True)  # one of them may be slower
        await asyncio.gather(post.deliverer.idle(), other.idle())
    assert len(receiver.got) == len({each.headers["webhook-id"] for each in receiver.got}) == 12


@pytest.mark.parametrize("defect", ["in the attempt", "in what it answers"])
async def test_a_defect_counts_as_a_failed_attempt_is_told_once_and_holds_up_nobody_else(
    post: Post, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], defect: str
) -> None:
    original = client.post

    async def defective(address: str, *more: Any) -> Any:
        if address != "http://127.0.0.1:1/bad":
            return await original(address, *more)
        if defect == "in the attempt":
            raise RuntimeError("nobody thought of it")
        return client.Answer(500, "it answered 500", object())  # type: ignore[arg-type] - cannot be saved

    monkeypatch.setattr(client, "post", defective)
    bad = await post.add(receiver, url="http://127.0.0.1:1/bad")
    good = await post.add(receiver)
    await post.happen("token.created")
    for number, delay in enumerate((*DELAYS_SECONDS, 10 * 86_400, 60), 1):
        await post.tick()
        (told,) = await post.log(bad)
        assert len(told.attempts) == min(number, 8)
        assert {each.error for each in told.attempts} == {"an error of Oneoff's own: the server's log has it"}
        post.turn(delay * (1 + MOST_JITTER))
    assert told.delivery.status == "failed"
    assert capsys.readouterr().err.count("delivery failed by a defect") == 8
    assert [each.delivery.status for each in await post.log(good)] == ["delivered"]


async def test_what_this_server_s_key_does_not_open_is_a_failed_attempt_that_says_so(
    post: Post, receiver: Receiver
) -> None:
    webhook = await post.add(receiver)
    box = Sealer(b"x" * 32).seal(receiver.url.encode(), target_place(webhook.id))
    await post.context.database.run(lambda c: rows.save_changes(c, webhook.id, {"target_sealed": box}))
    assert "sealed with another secret.key" in str((await webhooks.send_test(post.context, webhook.id, "a")).attempts)
    await post.happen("token.created")
    await post.tick()
    (told,) = [each for each in await post.log(webhook) if each.delivery.event_kind == "token.created"]
    assert [each.error for each in told.attempts] == [str(WrongSecretKey(target_place(webhook.id)))]


@on_both
async def test_410_disables_at_once_and_what_is_pending_is_canceled(post: Post, receiver: Receiver) -> None:
    receiver.answers = [answer_of(500), answer_of(410)]
    webhook = await post.add(receiver)
    await post.happen("token.created")
    await post.tick()
    await post.happen("token.revoked")
    await post.tick()
    found = await webhooks.get_webhook(post.context, webhook.id)
    assert (found.enabled, found.disabled_at) == (False, START)
    assert sorted(each.delivery.status for each in await post.log(webhook)) == ["canceled", "failed"]
    (told,) = await events_of(post, "webhook.disabled")
    assert (told.subject_id, told.body["target"]) == (webhook.id, receiver.url)
    await post.happen("token.created")
    await webhooks.change_webhook(post.context, webhook.id, {"enabled": True}, "tester")
    await post.happen("token.revoked")
    await post.tick()
    assert [each.value["type"] for each in receiver.got[2:]] == ["token.revoked"]


async def test_five_days_without_a_success_disable(post: Post, receiver: Receiver) -> None:
    receiver.answers = [answer_of(503)] * 100
    webhook = await post.add(receiver)
    for _ in range(5):
        await post.happen("token.created")
        for delay in (0, *DELAYS_SECONDS):
            post.turn(delay * 1.11)
            await post.tick()
    found = await webhooks.get_webhook(post.context, webhook.id)
    assert not found.enabled
    assert found.disabled_reason == "no delivery has arrived since 2026-03-01 12:00 UTC"
    assert len(receiver.got) == 32, "four deliveries of 36 hours each are beyond five days"


async def test_while_a_secret_is_replaced_both_sign(post: Post, receiver: Receiver) -> None:
    webhook = await post.add(receiver, secret="whsec_" + "A" * 32)
    new = webhooks.reveal_secret(post.context, await webhooks.rotate_secret(post.context, webhook.id, 3600, None))
    for _ in range(2):
        await post.happen("token.created")
        await post.tick()
        post.turn(3601)
    during, after = receiver.got
    assert during.is_signed_with(new)
    assert during.is_signed_with("whsec_" + "A" * 32)
    assert after.is_signed_with(new)
    assert not after.is_signed_with("whsec_" + "A" * 32)


async def test_a_name_that_leads_inside_is_refused_at_save_and_before_each_connection(
    post: Post, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    webhook = await post.add(receiver, url=f"http://localhost:{receiver.port}/")
    context = replace(post.context, settings=replace(post.context.settings, webhook_networks=()))
    post.deliverer = Deliverer(context, LIMIT)
    await post.happen("token.created")
    await post.tick()
    (told,) = await post.log(webhook)
    assert "lies in a private or reserved network" in (told.attempts[0].error or "")
    assert receiver.connections == 0


async def test_a_certificate_is_that_of_the_name_and_trusted(
    post: Post, receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, tls = make_certificate(tmp_path)
    async with receiving(tls) as secure:
        webhook = await post.add(receiver, url=f"https://localhost:{secure.port}/hook")
        told = await webhooks.send_test(post.context, webhook.id, "tester")
        assert "its certificate is not trusted" in (told.attempts[0].error or "")
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        client._trust.cache_clear()
        told = await webhooks.send_test(post.context, webhook.id, "tester")
        assert told.delivery.status == "delivered", told.attempts
        assert secure.got[0].headers["host"] == f"localhost:{secure.port}"
        await webhooks.change_webhook(post.context, webhook.id, {"url": f"https://127.0.0.1:{secure.port}/"}, "tester")
        told = await webhooks.send_test(post.context, webhook.id, "tester")
        assert "its certificate is not trusted" in (told.attempts[0].error or ""), "it is none of that address"
    client._trust.cache_clear()


async def test_a_test_is_sent_once_and_now_and_changes_nothing_else(post: Post, receiver: Receiver) -> None:
    webhook = await post.add(receiver, kinds=["run.ended"])
    receiver.answers = [OK, answer_of(500)]
    told = await webhooks.send_test(post.context, webhook.id, "tester")
    assert (told.delivery.status, told.attempts[0].status_code) == ("delivered", 200)
    assert receiver.got[0].value["type"] == "webhook.test"
    told = await webhooks.send_test(post.context, webhook.id, "tester")
    assert (told.delivery.status, told.attempts[0].error) == ("failed", "it answered 500")
    post.turn(100)
    await post.tick()
    assert len(receiver.got) == 2
    assert (await webhooks.get_webhook(post.context, webhook.id)).failing_since is None


async def test_a_delivery_is_sent_once_more_when_somebody_asks(post: Post, receiver: Receiver) -> None:
    webhook = await post.add(receiver)
    await post.happen("token.created")
    await post.tick()
    (told,) = await post.log(webhook)
    post.turn(1)
    await webhooks.redeliver(post.context, webhook.id, told.delivery.id)
    await post.tick()
    assert receiver.got[0].body == receiver.got[1].body
    assert receiver.got[0].headers["webhook-id"] == receiver.got[1].headers["webhook-id"]
    assert [each.delivery.status for each in await post.log(webhook)] == ["delivered"] * 2


@on_both
async def test_the_janitor_keeps_events_that_a_webhook_has_not_looked_at(post: Post, receiver: Receiver) -> None:
    webhook = await post.add(receiver)
    await post.happen("token.created")
    janitor = Janitor(post.context, Dispatchers())
    post.turn(91 * 86_400)
    await janitor._forget_events()
    assert len(await events_of(post, "token.created")) == 1
    await post.tick()
    assert len(receiver.got) == 1
    post.turn(91 * 86_400)
    await janitor._forget_events()
    assert await events_of(post, "token.created") == []
    assert await post.context.database.read(lambda c: deliveries.list_deliveries(c, webhook.id, None, 9, None)) == []


class Dispatchers:
    """Nothing is going."""

    going = frozenset[str]()


async def events_of(post: Post, kind: str) -> list[events.Event]:
    wanted = EventFilter([kind])
    listed: list[events.Event] = await post.context.database.read(
        lambda c: events.list_after(c, post.context.workspace_id, wanted, 100, 0)
    )
    return listed
