"""Chat and mail: plain words to real sockets, by the same rules as webhooks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from oneoff.core.events import KINDS
from oneoff.core.webhook import NEWS, WebhookKind
from oneoff.engine.deliverer import Deliverer
from oneoff.engine.events import record
from oneoff.operations import webhooks
from oneoff.operations.webhooks import NewWebhook, Webhook
from tests.engine.mail_server import MailServer, mail_server, make_certificate
from tests.engine.receiver import answer_of, receiving
from tests.engine.test_deliverer import Post, post  # noqa: F401 - a fixture

pytestmark = pytest.mark.anyio
FAILING = dict.fromkeys(KINDS["job.failing"].body) | {
    "service": "shop/production", "job_id": "jdf-1", "job": "shop/production:backup", "run_id": "run-7",
    "status": "failed", "reason": "nonzero_exit", "exit_code": 3, "since": "2026-03-01T12:00:00Z",
}  # fmt: skip


def use(post: Post, **settings: Any) -> None:  # noqa: F811
    post.context = replace(post.context, settings=replace(post.context.settings, **settings))
    post.deliverer = Deliverer(post.context)


async def fail(post: Post, **more: Any) -> None:  # noqa: F811
    await post.context.database.run(
        lambda c: record(post.context, c, "job.failing", "jdf-1", FAILING | more, "srv-1"),
    )


async def add_mail(post: Post, server: MailServer, url: str, *to: str, **settings: Any) -> Webhook:  # noqa: F811
    use(post, smtp_url=url.format(port=server.port), smtp_from="oneoff@example.com", **settings)
    new = NewWebhook(WebhookKind.EMAIL, "oncall", settings={"recipients": to or ("a@example.com", "b@example.com")})
    return await webhooks.create_webhook(post.context, new)


async def test_chat_is_told_the_first_failure_in_words_that_cannot_be_links(post: Post) -> None:  # noqa: F811
    async with receiving() as chat:
        use(post, public_url="https://oneoff.example.com")
        webhook = await post.add(chat, kind=WebhookKind.SLACK)
        assert webhook.kinds == NEWS
        assert webhook.shown == f"http://127.0.0.1:{chat.port}/…"
        await post.happen("token.created")
        await fail(post, job="shop/production:<!channel> & co")
        chat.answers = [answer_of(500)]
        await post.tick()
        post.turn(11)
        await post.tick()
        assert [each.body for each in chat.got] == [chat.got[0].body] * 2
        assert "webhook-signature" not in chat.got[0].headers
        headline, *details = chat.got[0].value["text"].splitlines()
        assert headline == "*shop/production:&lt;!channel&gt; &amp; co fails: exit code 3*"
        assert details[-1] == "https://oneoff.example.com/runs/run-7"


async def test_mail_is_one_message_to_all_that_says_what_happened(post: Post) -> None:  # noqa: F811
    async with mail_server() as server:
        webhook = await add_mail(post, server, "smtp+plain://127.0.0.1:{port}")
        await fail(post)
        await post.tick()
        (mail,) = server.messages
        assert mail["Subject"] == "shop/production:backup fails: exit code 3"
        assert (mail["From"], mail["To"]) == ("oneoff@example.com", "a@example.com, b@example.com")
        assert mail["Auto-Submitted"] == "auto-generated"
        assert "exit_code: 3" in str(mail.get_payload())
        assert "https://" not in str(mail.get_payload()), "no link without public_url"
        assert server.recipients == [["a@example.com", "b@example.com"]]
        (told,) = await post.log(webhook)
        assert (told.delivery.status, told.attempts[0].status_code) == ("delivered", 250)
        await webhooks.send_test(post.context, webhook.id, "tester")
        assert server.messages[1]["Subject"] == "A test by Oneoff: messages arrive here"


async def test_mail_that_is_refused_is_tried_again_and_in_part_it_is_not(post: Post) -> None:  # noqa: F811
    async with mail_server() as server:
        webhook = await add_mail(post, server, "smtp+plain://127.0.0.1:{port}")
        server.refusals = ["450 later", "450 later", "550 unknown", ""]
        await fail(post)
        await post.tick()
        (told,) = await post.log(webhook)
        assert (told.delivery.status, told.attempts[0].status_code) == ("pending", 450)
        assert told.attempts[0].error == "refused for a@example.com, b@example.com"
        post.turn(11)
        await post.tick()
        (told,) = await post.log(webhook)
        assert (told.delivery.status, told.attempts[1].answer) == ("delivered", "refused for a@example.com")
        assert server.recipients == [["b@example.com"]]


async def test_a_password_goes_over_tls_only_and_to_a_trusted_server_only(
    post: Post,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "password").write_text("geheim\n")
    certificate, tls = make_certificate(tmp_path)
    address, settings = "smtp://us%65r@localhost:{port}", {"smtp_password_file": tmp_path / "password"}
    async with mail_server(tls) as server, mail_server() as without_tls:
        webhook = await add_mail(post, without_tls, address, **settings)
        told = await webhooks.send_test(post.context, webhook.id, "tester")
        assert "STARTTLS" in (told.attempts[0].error or "")
        webhook = await add_mail(post, server, address, **settings)
        told = await webhooks.send_test(post.context, webhook.id, "tester")
        assert "certificate verify failed" in (told.attempts[0].error or "")
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        told = await webhooks.send_test(post.context, webhook.id, "tester")
        assert told.delivery.status == "delivered", told.attempts
        assert (server.logins, without_tls.logins) == ([("user", "geheim", True)], [])
        (tmp_path / "password").unlink()
        told = await webhooks.send_test(post.context, webhook.id, "tester")
        assert "password for the mail server cannot be read" in (told.attempts[0].error or "")
