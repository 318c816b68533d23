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


def check_id(what: str, text: str) -> str:
    """`text` when it can be the id of such a thing. Raises NotFound: what has no id's form exists nowhere, and some
    databases refuse to be asked for it (PostgreSQL for NUL)."""
    if not has_prefix(text, *_KINDS[what]):
        raise NotFound(what, text, f"an id of this kind looks like {_example(what)}")
    return text


def _example(what: str) -> str:
    return f"{PREFIXES[_KINDS[what][0]]}-…"
