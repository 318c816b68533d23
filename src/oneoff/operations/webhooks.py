"""Webhooks: made, changed, tested, their secrets rotated, their deliveries looked at. Used by the API; the deliverer
does the rest. Whoever calls has been let in as an admin."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from oneoff.chance import take
from oneoff.core.events import expand_kinds
from oneoff.core.webhook import (
    EVERYTHING,
    FORMS,
    MOST_ATTEMPTS,
    NEWS,
    SECRET_BYTES,
    DeliveryStatus,
    WebhookKind,
    check_secret,
    make_secret,
    parse_url,
    shown_url,
)
from oneoff.engine.delivery import attempt_delivery, make_delivery, open_secrets, secret_place, target_place
from oneoff.errors import InvalidWebhook, TooManyWebhooks
from oneoff.operations.context import Context
from oneoff.operations.ids import check_id
from oneoff.operations.runs import find_service_id
from oneoff.senders.webhook.addresses import Unresolved, find_addresses
from oneoff.store import deliveries, events, idempotency, webhooks
from oneoff.store.deliveries import Attempt as Attempt
from oneoff.store.deliveries import Delivery as Delivery
from oneoff.store.dialect import Connection
from oneoff.store.events import Event
from oneoff.store.idempotency import Idempotency
from oneoff.store.webhooks import Webhook as Webhook

_MOST_WEBHOOKS = 100
_MOST_NAME = 100
_MOST_RECIPIENTS = 20
_MOST_LISTED = 100
_MOST_ADDRESS = 2_000
_MOST_OVERLAP_SECONDS = 30 * 86_400
_RECIPIENT = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9.-]{1,250}")
_TYPE = re.compile(r"[a-z0-9_.]{1,80}")
_TEST_CLAIM = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class NewWebhook:
    """`settings` are those of `change_webhook` that the caller gave, unchecked, and perhaps `secret`."""

    kind: WebhookKind
    name: str
    form: str = "oneoff"
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Told:
    """A delivery with its attempts."""

    delivery: Delivery
    attempts: Sequence[Attempt]


async def create_webhook(context: Context, new: NewWebhook, request: Idempotency | None = None) -> Webhook:
    """It is told what happens from now on. Raises InvalidWebhook, AddressNotAllowed, UnknownEventKind, NotFound for a
    service, TooManyWebhooks, IdempotencyKeyReused."""
    if new.form not in FORMS:
        raise InvalidWebhook(f"there is no such form: write one of {', '.join(FORMS)}", "form")
    webhook_id, now = context.new_id("webhook"), context.clock.now()
    wanted = list(EVERYTHING if new.kind is WebhookKind.WEBHOOK else NEWS)
    given = {"kinds": wanted, "types": [], "services": [], "failures_only": False, "enabled": True, "name": new.name}
    secret = new.settings.get("secret")
    secret = make_secret(take(SECRET_BYTES)) if secret is None else check_secret(secret)
    settings = {name: value for name, value in new.settings.items() if name != "secret" and value is not None}
    if not ({"url", "recipients"} & settings.keys()):
        raise _missing_target(new.kind)
    columns = await _to_columns(context, (webhook_id, new.kind), {**given, **settings})

    def work(connection: Connection) -> Webhook:
        if (earlier := idempotency.find_resource(connection, request)) is not None:
            return webhooks.get_webhook(connection, earlier)
        if webhooks.count_webhooks(connection, context.workspace_id) >= _MOST_WEBHOOKS:
            raise TooManyWebhooks(_MOST_WEBHOOKS)
        webhook = Webhook(
            id=webhook_id,
            workspace_id=context.workspace_id,
            kind=new.kind,
            form=new.form,
            secret_sealed=context.sealer.seal(secret.encode(), secret_place(webhook_id)),
            position=events.find_last_seq(connection),
            created_at=now,
            updated_at=now,
            **{**_NOTHING_YET, **columns},
        )
        webhooks.save_new(connection, webhook)
        idempotency.save_resource(connection, request, webhook.id, now)
        return webhook

    webhook = await context.database.run(work)
    context.signals.webhooks_changed()
    return webhook


async def get_webhook(context: Context, webhook_id: str) -> Webhook:
    """Raises NotFound."""
    check_id("webhook", webhook_id)
    return await context.database.read(lambda c: webhooks.get_webhook(c, webhook_id))


async def list_webhooks(context: Context, limit: int, before: str | None) -> list[Webhook]:
    """Newest first."""
    return await context.database.read(lambda c: webhooks.list_webhooks(c, context.workspace_id, limit, before))


async def change_webhook(context: Context, webhook_id: str, settings: Mapping[str, Any], actor: str) -> Webhook:
    """`settings` are some of `name`, `url` or `recipients`, `kinds`, `types`, `services`, `failures_only`, `enabled`.
    Enabled again, it is told what happens from then on. Raises what `create_webhook` raises."""
    webhook = await get_webhook(context, webhook_id)
    columns = await _to_columns(context, (webhook_id, webhook.kind), settings)
    now = context.clock.now()

    def work(connection: Connection) -> Webhook:
        before = webhooks.get_webhook(connection, webhook_id)
        changes = {**columns, "updated_at": now}
        enabled = changes.get("enabled", before.enabled)
        if enabled and not before.enabled:
            changes |= {"disabled_at": None, "disabled_reason": None, "failing_since": None}
            changes["position"] = events.find_last_seq(connection)
        elif before.enabled and not enabled:
            changes |= {"disabled_at": now, "disabled_reason": f"by {actor}"}
            deliveries.cancel_pending(connection, webhook_id, now)
        webhooks.save_changes(connection, webhook_id, changes)
        return webhooks.get_webhook(connection, webhook_id)

    changed = await context.database.run(work)
    context.signals.webhooks_changed()
    return changed


async def delete_webhook(context: Context, webhook_id: str) -> None:
    """With the log of its deliveries. Raises NotFound."""
    check_id("webhook", webhook_id)

    def work(connection: Connection) -> None:
        webhooks.get_webhook(connection, webhook_id)
        webhooks.delete_with_deliveries(connection, webhook_id)

    await context.database.run(work)
    context.signals.webhooks_changed()


def reveal_secret(context: Context, webhook: Webhook) -> str:
    """The one that signs; of one that is being replaced, the new one."""
    return open_secrets(context, webhook)[0]


def reveal_target(context: Context, webhook: Webhook) -> str:
    """The address as it was given, with what is secret in it; of mail, the recipients as JSON."""
    return context.sealer.open(webhook.target_sealed, target_place(webhook.id)).decode()


async def rotate_secret(context: Context, webhook_id: str, overlap_seconds: int, secret: str | None) -> Webhook:
    """A new secret, of the caller's choice or random. The old one signs beside it for a while. Raises NotFound,
    InvalidWebhook."""
    check_id("webhook", webhook_id)
    if not 0 <= overlap_seconds <= _MOST_OVERLAP_SECONDS:
        raise InvalidWebhook("the old secret may sign for 0 to 30 days more", "overlap_seconds")
    new = make_secret(take(SECRET_BYTES)) if secret is None else check_secret(secret)
    now = context.clock.now()

    def work(connection: Connection) -> Webhook:
        webhook = webhooks.get_webhook(connection, webhook_id)
        changes = {
            "secret_sealed": context.sealer.seal(new.encode(), secret_place(webhook_id)),
            "old_secret_sealed": webhook.secret_sealed if overlap_seconds else None,
            "old_secret_until": now + timedelta(seconds=overlap_seconds) if overlap_seconds else None,
            "updated_at": now,
        }
        webhooks.save_changes(connection, webhook_id, changes)
        return webhooks.get_webhook(connection, webhook_id)

    return await context.database.run(work)


async def send_test(context: Context, webhook_id: str, actor: str) -> Told:
    """A `webhook.test` event, once and now, also to one that is disabled. Raises NotFound."""
    webhook, now = await get_webhook(context, webhook_id), context.clock.now()
    body = {"name": webhook.name, "actor": actor}
    event = Event(context.new_id("event"), webhook.workspace_id, "webhook.test", webhook.id, now, body)
    made = make_delivery(context, webhook, event, now)
    if made is None:
        raise InvalidWebhook("its form has no test", "form")
    delivery = replace(made, next_attempt_at=now + _TEST_CLAIM)
    await context.database.run(lambda c: deliveries.save_new(c, [delivery]))
    began = context.clock.monotonic()
    answer = await attempt_delivery(context, webhook, delivery)
    took = round((context.clock.monotonic() - began) * 1000)
    attempt = Attempt(1, now, took, answer.status_code, answer.error, answer.text)

    def work(connection: Connection) -> Told:
        deliveries.save_attempt_if_pending(connection, delivery, attempt, None, context.clock.now())
        return Told(deliveries.get_delivery(connection, webhook_id, delivery.id), [attempt])

    return await context.database.run(work)


async def list_deliveries(
    context: Context, webhook_id: str, status: DeliveryStatus | None, limit: int, before: str | None
) -> list[Told]:
    """Newest first. Raises NotFound."""
    check_id("webhook", webhook_id)

    def work(connection: Connection) -> list[Told]:
        webhooks.get_webhook(connection, webhook_id)
        listed = deliveries.list_deliveries(connection, webhook_id, status, limit, before)
        attempts = deliveries.fetch_attempts(connection, [each.id for each in listed])
        return [Told(each, attempts[each.id]) for each in listed]

    return await context.database.read(work)


async def redeliver(context: Context, webhook_id: str, delivery_id: str, request: Idempotency | None = None) -> Told:
    """The same event and body in a delivery of its own, with all its attempts. Raises NotFound, InvalidWebhook,
    IdempotencyKeyReused."""
    check_id("webhook", webhook_id)
    check_id("delivery", delivery_id)
    now, new_id = context.clock.now(), context.new_id("delivery")

    def work(connection: Connection) -> Told:
        if (made := idempotency.find_resource(connection, request)) is not None:
            attempts = deliveries.fetch_attempts(connection, [made])[made]
            return Told(deliveries.get_delivery(connection, webhook_id, made), attempts)
        if not webhooks.get_webhook(connection, webhook_id).enabled:
            raise InvalidWebhook("the webhook is disabled: enable it first", "enabled")
        old = deliveries.get_delivery(connection, webhook_id, delivery_id)
        changes: dict[str, Any] = {"id": new_id, "status": DeliveryStatus.PENDING, "attempts": 0, "finished_at": None}
        new = replace(old, **changes, next_attempt_at=now, created_at=now)
        deliveries.save_new(connection, [new])
        idempotency.save_resource(connection, request, new_id, now)
        return Told(new, [])

    told = await context.database.run(work)
    context.signals.webhooks_changed()
    return told


def next_attempt_of(told: Told) -> Any:
    """When it is tried again; None when it is not."""
    is_pending = told.delivery.status is DeliveryStatus.PENDING and len(told.attempts) < MOST_ATTEMPTS
    return told.delivery.next_attempt_at if is_pending else None


_NOTHING_YET: Mapping[str, Any] = dict.fromkeys(
    ("disabled_at", "disabled_reason", "old_secret_sealed", "old_secret_until", "failing_since")
)


async def _to_columns(context: Context, whose: tuple[str, WebhookKind], settings: Mapping[str, Any]) -> dict[str, Any]:
    """`whose` is the id of the webhook and its kind."""
    columns: dict[str, Any] = {}
    for name, value in settings.items():
        if name == "services":
            found = [await find_service_id(context, each) for each in value[:_MOST_LISTED]]
            columns["service_ids"] = tuple(each for each in found if each is not None)
        elif name in ("url", "recipients"):
            columns |= await _to_target(context, whose, name, value)
        else:
            columns[name] = _CHECKS[name](value)
    return columns


async def _to_target(context: Context, whose: tuple[str, WebhookKind], name: str, value: Any) -> dict[str, Any]:
    webhook_id, kind = whose
    if (name == "recipients") is not (kind is WebhookKind.EMAIL):
        raise _missing_target(kind)
    if kind is WebhookKind.EMAIL:
        if context.settings.smtp_url is None:
            raise InvalidWebhook("this server has no mail server: the operator sets smtp_url", "kind")
        target, shown = json.dumps(_check_recipients(value)), ", ".join(value)
    else:
        target, shown = await _check_url(context, value), shown_url(value, kind)
    return {"target_sealed": context.sealer.seal(target.encode(), target_place(webhook_id)), "shown": shown}


async def _check_url(context: Context, text: str) -> str:
    """A name that does not resolve now may do so later: it is looked at before each connection."""
    if len(text) > _MOST_ADDRESS:
        raise InvalidWebhook(f"the address has more than {_MOST_ADDRESS} characters", "url")
    url = parse_url(text)
    if url.scheme == "http" and not context.settings.webhook_networks:
        raise InvalidWebhook(
            "use https: without TLS only networks in the operator's setting webhook_networks can be reached",
            "url",
        )
    with suppress(Unresolved):
        await find_addresses(url, context.settings.webhook_networks)
    return text


def _check_recipients(value: Sequence[str]) -> list[str]:
    if not 1 <= len(value) <= _MOST_RECIPIENTS:
        raise InvalidWebhook(f"name 1 to {_MOST_RECIPIENTS} recipients", "recipients")
    for each in value:
        if not _RECIPIENT.fullmatch(each):
            raise InvalidWebhook(f"{each!r} is no mail address: write name@example.com", "recipients")
    return list(dict.fromkeys(value))


def _check_kinds(value: Sequence[str]) -> tuple[str, ...]:
    """Kept as they were written: `run.*` also means what is added later."""
    expand_kinds(value)
    return tuple(dict.fromkeys(value)) or EVERYTHING


def _check_types(value: Sequence[str]) -> tuple[str, ...]:
    """Also some that never come: other forms know more than there is to tell."""
    for each in value[:_MOST_LISTED]:
        if not _TYPE.fullmatch(each):
            raise InvalidWebhook(f"{each[:80]!r} is no type of an event", "types")
    return tuple(dict.fromkeys(value[:_MOST_LISTED]))


def _check_name(value: str) -> str:
    if not value.strip() or len(value) > _MOST_NAME or not value.isprintable():
        raise InvalidWebhook(f"name it with 1 to {_MOST_NAME} printable characters", "name")
    return value


_CHECKS: Mapping[str, Callable[[Any], Any]] = {
    "name": _check_name,
    "kinds": _check_kinds,
    "types": _check_types,
    "failures_only": bool,
    "enabled": bool,
}


def _missing_target(kind: WebhookKind) -> InvalidWebhook:
    if kind is WebhookKind.EMAIL:
        return InvalidWebhook("mail goes to `recipients`: name 1 to 20 addresses", "recipients")
    return InvalidWebhook("it needs the `url` of the receiver, https://HOST/PATH, and no recipients", "url")
