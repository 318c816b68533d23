"""Tells webhooks what happened: turns events into deliveries, and tries each until it has arrived or is given up.

Where each webhook has come to, and each delivery, is in the store, written in one transaction: no event is lost, and
none is sent twice but the one that a server died over between sending and writing that down.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial

from oneoff import journal, metrics
from oneoff.chance import take
from oneoff.core.webhook import Answer, has_failed_for_long, is_wanted, next_delivery_at
from oneoff.engine.context import Context
from oneoff.engine.delivery import attempt_delivery, make_delivery, to_answer
from oneoff.engine.events import record
from oneoff.errors import OneoffError
from oneoff.store import deliveries, events, webhooks
from oneoff.store.database import Connection
from oneoff.store.deliveries import Attempt, Delivery
from oneoff.store.events import Event, EventFilter
from oneoff.store.webhooks import Webhook

_LOOK_AGAIN_SECONDS = 15.0
_EVENTS_AT_ONCE = 200
_AT_ONCE = 8  # attempts at one webhook: a slow one holds up nobody else
# An attempt that has not been written down by then was its server's last: it is made again.
_CLAIM = timedelta(seconds=60)


class Deliverer:
    name = "deliverer"

    def __init__(self, context: Context, limit_seconds: float | None = None) -> None:
        self.wake = context.signals.deliver
        self._context = context
        self._limit = limit_seconds
        self._going: dict[str, set[str]] = defaultdict(set)  # webhook id -> ids of its deliveries being attempted
        self._tasks: set[asyncio.Task[None]] = set()

    async def tick(self) -> float:
        database = self._context.database
        enabled = await database.read(webhooks.list_enabled)
        self._context.signals.wants_events = bool(enabled)
        while enabled and await database.read(events.find_last_seq) > min(each.position for each in enabled):
            enabled = await database.run(self._tell_some)
        delay = _LOOK_AGAIN_SECONDS
        for webhook in enabled:
            delay = min(delay, await self._begin_attempts(webhook))
        return delay

    async def close(self) -> None:
        """Attempts that are going are made again by the next server."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def idle(self) -> None:
        """Until no attempt is going."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _tell_some(self, connection: Connection) -> list[Webhook]:
        """The next events become deliveries of whoever wants them. Returns the webhooks as they are then."""
        context = self._context
        enabled = webhooks.list_enabled(connection)
        if not enabled:
            return []
        first = min(each.position for each in enabled)
        found = events.list_after(connection, context.workspace_id, EventFilter(), _EVENTS_AT_ONCE, first)
        made, moved = [], []
        for webhook in enabled:
            for event in found:
                if event.seq > webhook.position and is_wanted(webhook.wanted, event):
                    made.append(self._make(webhook, event))
            last = found[-1].seq if found else first
            if last > webhook.position:
                if not webhooks.move_if_at(connection, webhook.id, webhook.position, last):
                    raise _MovedByAnother
                webhook = replace(webhook, position=last)
            moved.append(webhook)
        deliveries.save_new(connection, [each for each in made if each is not None])
        return moved

    def _make(self, webhook: Webhook, event: Event) -> Delivery | None:
        try:
            return make_delivery(self._context, webhook, event, self._context.clock.now())
        except Exception as problem:  # noqa: BLE001 - one that cannot be put into words must not hold up all others
            journal.error("event not told", problem, webhook=webhook.id, seen=event.id)
            return None

    async def _begin_attempts(self, webhook: Webhook) -> float:
        """Those that are due, as far as there is room. Returns the delay until the next one is."""
        going = self._going[webhook.id]
        most = _AT_ONCE + len(going) + 1
        waiting = await self._context.database.read(lambda c: deliveries.fetch_next(c, webhook.id, most))
        now = self._context.clock.now()
        for delivery in waiting:
            if delivery.id in going:
                continue
            if len(going) >= _AT_ONCE:
                break  # the end of one wakes us
            if delivery.next_attempt_at > now:
                return (delivery.next_attempt_at - now).total_seconds()
            going.add(delivery.id)
            task = asyncio.create_task(self._attempt(delivery))
            self._tasks.add(task)
            task.add_done_callback(partial(self._done, delivery))
        return _LOOK_AGAIN_SECONDS

    async def _attempt(self, delivery: Delivery) -> None:
        context = self._context
        now = context.clock.now()

        def claim(connection: Connection) -> Webhook | None:
            webhook = webhooks.find_webhook(connection, delivery.webhook_id)
            is_ours = webhook is not None and webhook.enabled
            return webhook if is_ours and deliveries.claim_if_due(connection, delivery, now, now + _CLAIM) else None

        webhook = await context.database.run(claim)
        if webhook is None:
            return
        began = context.clock.monotonic()
        answer = await attempt_delivery(context, webhook, delivery, self._limit)
        seconds = context.clock.monotonic() - began
        metrics.WEBHOOK_ATTEMPTS.add(webhook.kind, "arrived" if answer.is_success else "failed")
        metrics.WEBHOOK_ATTEMPT_SECONDS.observe(seconds, webhook.kind)
        conclude = partial(self._conclude, delivery=delivery, began_at=now, seconds=seconds)
        try:
            await context.database.run(partial(conclude, answer=answer))
        except OneoffError:
            raise
        except Exception as problem:  # noqa: BLE001 - what cannot be written down must not be tried for ever
            await context.database.run(partial(conclude, answer=to_answer(delivery, problem)))

    def _conclude(
        self, connection: Connection, delivery: Delivery, began_at: datetime, seconds: float, answer: Answer
    ) -> None:
        told = (answer.status_code, answer.error, answer.text)
        attempt = Attempt(delivery.attempts + 1, began_at, round(seconds * 1000), *told)
        context, now = self._context, self._context.clock.now()
        next_at = None
        if not answer.is_success and not answer.is_gone:
            next_at = next_delivery_at(attempt.number, now, take(1)[0] / 255)
        if not deliveries.save_attempt_if_pending(connection, delivery, attempt, next_at, now):
            return
        webhook = webhooks.find_webhook(connection, delivery.webhook_id)
        if webhook is None:
            return
        if answer.is_success:
            if webhook.failing_since is not None:
                webhooks.save_changes(connection, webhook.id, {"failing_since": None})
            return
        since = webhook.failing_since or now
        if webhook.failing_since is None:
            webhooks.save_changes(connection, webhook.id, {"failing_since": since})
        if answer.is_gone:
            disable(context, connection, webhook, "it answered 410: it asks never to be called again")
        elif next_at is None and has_failed_for_long(since, now):
            disable(context, connection, webhook, f"no delivery has arrived since {since:%Y-%m-%d %H:%M} UTC")

    def _done(self, delivery: Delivery, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._going[delivery.webhook_id].discard(delivery.id)
        self.wake.set()
        if task.cancelled() or (problem := task.exception()) is None:
            return
        if isinstance(problem, OneoffError):  # the claim runs out, and the attempt is made again
            journal.warning("delivery interrupted", delivery=delivery.id, error=str(problem))
        else:
            journal.error("delivery interrupted by a defect", problem, delivery=delivery.id)


def disable(context: Context, connection: Connection, webhook: Webhook, why: str) -> None:
    """Events pass it by from now on, and what has not arrived is canceled."""
    if not webhook.enabled:
        return
    now = context.clock.now()
    webhooks.save_changes(connection, webhook.id, {"enabled": False, "disabled_at": now, "disabled_reason": why})
    deliveries.cancel_pending(connection, webhook.id, now)
    body = {"name": webhook.name, "kind": webhook.kind.value, "target": webhook.shown, "reason": why}
    record(context, connection, "webhook.disabled", webhook.id, body)
    journal.warning("webhook disabled", webhook=webhook.id, why=why)


class _MovedByAnother(OneoffError):
    """Another server on the same database was faster: nothing of this transaction may stand."""

    temporary = True
