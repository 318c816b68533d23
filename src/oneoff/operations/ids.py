"""Ids as callers send them. Used by all operations, before the store is asked."""

from __future__ import annotations

from oneoff.core.ids import PREFIXES, has_prefix
from oneoff.errors import NotFound

_KINDS = {
    "service": ("service", "cron_service"),
    "environment": ("environment",),
    "deploy": ("deploy",),
    "run": ("run",),
    "batch": ("batch",),
    "job": ("job",),
    "cron": ("cron",),
    "token": ("token",),
    "event": ("event",),
    "webhook": ("webhook",),
    "delivery": ("delivery",),
}
_SHOWN_BY = {
    "service": "service list",
    "environment": "project list",
    "deploy": "deploys list PATH",
    "run": "runs list",
    "batch": "batch list",
    "job": "job list",
    "cron": "cron list",
    "token": "token list",
    "event": "events --json",
    "webhook": "webhook list",
    "delivery": "webhook deliveries NAME",
}


def check_id(what: str, text: str) -> str:
    """`text` when it can be the id of such a thing. Raises NotFound: what has no id's form exists nowhere, and some
    databases refuse to be asked for it (PostgreSQL for NUL)."""
    if not has_prefix(text, *_KINDS[what]):
        prefix = PREFIXES[_KINDS[what][0]]
        raise NotFound(
            what, text, f"an id is {prefix}- and 20 letters or digits here, `oneoff {_SHOWN_BY[what]}` shows them"
        )
    return text
