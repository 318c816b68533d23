"""What is sent to a webhook, and one attempt to send it. Used by the deliverer, and by the operations for a test."""

from __future__ import annotations

import asyncio
import json
import socket
from datetime import datetime
from importlib import import_module
from typing import Any
from urllib.parse import unquote, urlsplit

from oneoff import journal
from oneoff.core.events import Happened
from oneoff.core.notices import to_notice
from oneoff.core.webhook import FORMS, Answer, DeliveryStatus, WebhookKind, signed_headers
from oneoff.engine.context import Context
from oneoff.errors import OneoffError
from oneoff.settings import MAIL_PORTS, Settings
from oneoff.store.deliveries import Delivery
from oneoff.store.webhooks import Webhook


def target_place(webhook_id: str) -> str:
    """Where the address of a receiver is sealed for."""
    return f"webhooks/{webhook_id}/target"


def secret_place(webhook_id: str) -> str:
    """Where the secrets of a webhook are sealed for."""
    return f"webhooks/{webhook_id}/secret"


def make_delivery(context: Context, webhook: Webhook, event: Happened, now: datetime) -> Delivery | None:
    """Not saved yet; None when the event is not told in the form of this webhook, or its type there is not wanted."""
    if webhook.kind is WebhookKind.WEBHOOK:
        body = FORMS[webhook.form](event)
        if body is not None and webhook.types and body["type"] not in webhook.types:
            return None
    else:
        notice = to_notice(event, context.settings.public_url)
        body = {"subject": notice.headline, "text": notice.text}
    if body is None:
        return None
    return Delivery(
        id=context.new_id("delivery"),
        webhook_id=webhook.id,
        event_id=event.id,
        event_kind=event.kind,
        body=json.dumps(body, separators=(",", ":"), ensure_ascii=False),
        status=DeliveryStatus.PENDING,
        attempts=0,
        next_attempt_at=now,
        created_at=now,
    )


async def attempt_delivery(
    context: Context, webhook: Webhook, delivery: Delivery, limit: float | None = None
) -> Answer:
    """Never raises, whoever is to blame. `limit` is in seconds; by default that of the senders."""
    try:
        return await _attempt(context, webhook, delivery, limit)
    except Exception as problem:  # noqa: BLE001 - it has failed, as by a receiver: tried again, and given up in the end
        return to_answer(delivery, problem)


def to_answer(delivery: Delivery, problem: Exception) -> Answer:
    """Of an attempt that nobody outside has made fail. It is told here, and nowhere else."""
    if isinstance(problem, OneoffError):
        journal.warning("delivery failed", delivery=delivery.id, error=str(problem))
        return Answer(error=str(problem))
    journal.error("delivery failed by a defect", problem, delivery=delivery.id)
    return Answer(error="an error of Oneoff's own: the server's log has it")


async def _attempt(context: Context, webhook: Webhook, delivery: Delivery, limit: float | None) -> Answer:
    target = context.sealer.open(webhook.target_sealed, target_place(webhook.id)).decode()
    if webhook.kind is WebhookKind.EMAIL:
        return await _mail(context, webhook, delivery, tuple(json.loads(target)))
    # Imported late, and beside the loop: an HTTP client costs memory and time that only those with webhooks spend.
    client = await asyncio.to_thread(import_module, "oneoff.senders.webhook.client")
    if webhook.kind is WebhookKind.SLACK:
        notice = json.loads(delivery.body)
        body, headers = _to_chat(notice["subject"], notice["text"]), {}
    else:
        body = delivery.body.encode()
        secrets = open_secrets(context, webhook)
        headers = signed_headers(delivery.event_id, context.clock.now(), body, secrets)
    headers["Content-Type"] = "application/json"
    networks = context.settings.webhook_networks
    answer: Answer = await client.post(target, headers, body, networks, limit or client.LIMIT_SECONDS)
    return answer


def open_secrets(context: Context, webhook: Webhook) -> list[str]:
    """Those that sign now, the newest first."""
    boxes = [webhook.secret_sealed]
    until = webhook.old_secret_until
    if webhook.old_secret_sealed is not None and until is not None and context.clock.now() < until:
        boxes.append(webhook.old_secret_sealed)
    return [context.sealer.open(box, secret_place(webhook.id)).decode() for box in boxes]


async def _mail(context: Context, webhook: Webhook, delivery: Delivery, recipients: tuple[str, ...]) -> Answer:
    from oneoff.senders.webhook import mail

    try:
        server = _mail_server(context.settings)
    except OSError as problem:
        return Answer(error=f"the password for the mail server cannot be read: {problem.strerror}")
    if server is None:
        return Answer(error="there is no mail server: set smtp_url")
    notice = json.loads(delivery.body)
    message_id = f"{delivery.event_id}.{webhook.id}"
    message = mail.Message(message_id, recipients, notice["subject"], notice["text"], delivery.created_at)
    return await mail.send(mail.MailServer(**server), message)


def _mail_server(settings: Settings) -> dict[str, Any] | None:
    """The fields of senders' MailServer. Raises OSError for the file of the password."""
    if settings.smtp_url is None:
        return None
    url = urlsplit(settings.smtp_url)
    tls, port = MAIL_PORTS[url.scheme]
    file = settings.smtp_password_file
    return {
        "host": url.hostname,
        "port": url.port or port,
        "tls": tls,
        "sender": settings.smtp_from or f"oneoff@{socket.gethostname()}",
        "user": None if url.username is None else unquote(url.username),
        "password": None if file is None else file.read_text().strip(),
    }


def _to_chat(headline: str, text: str) -> bytes:
    """Slack's three special characters escaped: users name jobs, and their names must not become links or mentions."""
    for special, escaped in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        headline, text = headline.replace(special, escaped), text.replace(special, escaped)
    return json.dumps({"text": f"*{headline}*\n{text}"}, ensure_ascii=False).encode()
