"""Webhooks: who is told of which events, when a delivery is tried again, how it is signed. Pure.

The form on the wire is that of the Standard Webhooks specification 1.0: the headers webhook-id, webhook-timestamp and
webhook-signature. Used by the operations and the deliverer.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from urllib.parse import SplitResult, urlsplit, urlunsplit

from oneoff.core.clock import to_text
from oneoff.core.events import Happened, is_failure, matches
from oneoff.core.render_events import to_render_payload
from oneoff.errors import InvalidWebhook

SECRET_BYTES = 32
# Between the end of an attempt and the next one: eight attempts over about 33 hours.
DELAYS_SECONDS = (10, 60, 300, 1_200, 5_400, 21_600, 90_000)
MOST_ATTEMPTS = len(DELAYS_SECONDS) + 1
MOST_JITTER = 0.1  # of the delay, added to it, so that what failed together does not come back together
LASTING_FAILURE = timedelta(days=5)  # without one success, and then a delivery given up: the webhook is disabled
OVERLAP_SECONDS = 86_400  # how long a replaced secret still signs
_PREFIX = "whsec_"
_GONE = 410
_OF_SECRET = range(24, 65)  # bytes, as the specification has it
# What people want to be told by mail or chat.
NEWS = ("job.failing", "job.recovered", "cron.overdue", "cron.recovered")
EVERYTHING = ("*",)


class WebhookKind(StrEnum):
    """What sort of receiver it is."""

    WEBHOOK = "webhook"
    SLACK = "slack"
    EMAIL = "email"


class DeliveryStatus(StrEnum):
    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"  # all attempts
    CANCELED = "canceled"  # the webhook was disabled before it arrived


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which events a webhook is told: of these kinds (`run.ended`, `run.*`, `*`), of these services (none = all events,
    also those of no service), and perhaps failures only."""

    kinds: Sequence[str]
    service_ids: Sequence[str] = ()
    failures_only: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of an attempt: a status code (`250` of a mail server), or `error` in words. `text` is how the answer
    begins."""

    status_code: int | None = None
    error: str | None = None
    text: str | None = None

    @property
    def is_success(self) -> bool:
        return self.error is None

    @property
    def is_gone(self) -> bool:
        """The receiver asks never to be called again."""
        return self.status_code == _GONE


def is_wanted(wanted: Wanted, event: Happened) -> bool:
    return (
        any(matches(pattern, event.kind) for pattern in wanted.kinds)
        and (not wanted.service_ids or event.service_id in wanted.service_ids)
        and (not wanted.failures_only or is_failure(event.kind, event.body))
    )


def next_delivery_at(attempts: int, ended_at: datetime, chance: float) -> datetime | None:
    """When to try again after so many attempts, the last of which ended then; None when it is given up. `chance` is
    from 0 to 1."""
    if attempts >= MOST_ATTEMPTS:
        return None
    return ended_at + timedelta(seconds=DELAYS_SECONDS[attempts - 1] * (1 + MOST_JITTER * chance))


def judge(status_code: int, text: str | None) -> Answer:
    """An HTTP answer: only 2xx is a success. A redirection is none: the address was checked, where it leads was not."""
    if 200 <= status_code < 300:
        return Answer(status_code, None, text)
    if 300 <= status_code < 400:
        return Answer(status_code, f"it answered {status_code}, and redirections are not followed", text)
    return Answer(status_code, f"it answered {status_code}", text)


def has_failed_for_long(failing_since: datetime | None, now: datetime) -> bool:
    return failing_since is not None and now - failing_since >= LASTING_FAILURE


def to_payload(event: Happened) -> dict[str, Any]:
    """The body of a delivery, as JSON."""
    about = {"id": event.id, "subject_id": event.subject_id, "service_id": event.service_id}
    return {"type": event.kind, "timestamp": to_text(event.created_at), "data": {**about, **event.body}}


Form = Callable[[Happened], dict[str, Any] | None]
# What the bodies of a webhook look like; None = this event is not told in that form.
FORMS: Mapping[str, Form] = {"oneoff": to_payload, "render": to_render_payload}


def make_secret(random: bytes) -> str:
    return _PREFIX + base64.b64encode(random).decode()


def check_secret(text: str) -> str:
    """Of a caller's own choice. Raises InvalidWebhook."""
    try:
        size = len(_key(text))
    except (ValueError, binascii.Error):
        size = 0
    if not text.startswith(_PREFIX) or size not in _OF_SECRET:
        raise InvalidWebhook(
            "a secret is whsec_ and the base64 of 24 to 64 random bytes; leave it out to get one", "secret"
        )
    return text


def signed_headers(event_id: str, at: datetime, body: bytes, secrets: Sequence[str]) -> dict[str, str]:
    """One signature for each secret, as while one replaces another."""
    timestamp = str(int(at.timestamp()))
    signed = f"{event_id}.{timestamp}.".encode() + body
    digests = (hmac.new(_key(secret), signed, hashlib.sha256).digest() for secret in secrets)
    signatures = " ".join(f"v1,{base64.b64encode(digest).decode()}" for digest in digests)
    return {"webhook-id": event_id, "webhook-timestamp": timestamp, "webhook-signature": signatures}


def parse_url(text: str) -> SplitResult:
    """Of a receiver. Raises InvalidWebhook, which does not repeat it: it may hold a password."""
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:
        raise InvalidWebhook("the address is none: write https://HOST/PATH", "url") from None
    if url.scheme not in ("https", "http") or not url.hostname or port == 0 or not _is_plain(text):
        raise InvalidWebhook("the address is none: write https://HOST/PATH", "url")
    return url


def shown_url(text: str, kind: WebhookKind) -> str:
    """Without what may be secret in it: user and password, values of a query, all of the path of a chat's address."""
    url = urlsplit(text)
    host = url.netloc.rpartition("@")[2]
    names = [part.partition("=")[0] for part in url.query.split("&") if part]
    query = "&".join(f"{name}=…" for name in names)
    path = url.path if kind is WebhookKind.WEBHOOK else "/…"
    return urlunsplit((url.scheme, f"…@{host}" if "@" in url.netloc else host, path, query, ""))


def _is_plain(text: str) -> bool:
    return text.isascii() and text.isprintable() and " " not in text


def _key(secret: str) -> bytes:
    return base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
