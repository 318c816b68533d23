"""Events in plain words, for mail and chat. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from oneoff.core.events import Happened

_REASONS = {
    "oom_killed": "it ran out of memory",
    "timed_out": "it ran out of time",
    "image_unavailable": "its image could not be had",
    "start_failed": "it could not be started",
    "lost": "nobody knows how it ended",
    "canceled": "it was canceled",
}
_MOST_LISTED = 200  # characters of one value


@dataclass(frozen=True, slots=True)
class Notice:
    """`headline` is one line; `text` goes on, with a link when it is known where people look."""

    headline: str
    text: str


def to_notice(event: Happened, public_url: str | None) -> Notice:
    headline = _one_line(_HEADLINES.get(event.kind, _any)(event.kind, event.body))
    lines = [*_details(event.body), f"Event {event.id} of {event.created_at:%Y-%m-%d %H:%M:%S} UTC"]
    run_id = event.body.get("run_id") or (event.subject_id if event.kind.startswith("run.") else None)
    if public_url and run_id:
        lines.append(f"{public_url.rstrip('/')}/runs/{run_id}")
    return Notice(headline, "\n".join(lines))


def _failing(_kind: str, body: Mapping[str, Any]) -> str:
    return f"{body['job']} fails: {_why(body)}"


def _recovered(_kind: str, body: Mapping[str, Any]) -> str:
    return f"{body['job']} succeeds again; it failed since {body['since']}"


def _overdue(_kind: str, body: Mapping[str, Any]) -> str:
    ticks = body["expected_ticks"]
    return f"{body['job']}: no success for {ticks} expected ticks of the cron {body['cron']}"


def _cron_recovered(_kind: str, body: Mapping[str, Any]) -> str:
    return f"{body['job']}: a success again of the cron {body['cron']}"


def _ended(_kind: str, body: Mapping[str, Any]) -> str:
    status = body["status"]
    return (
        f"A run on {body['service']} {status}: {_why(body)}"
        if status == "failed"
        else f"A run on {body['service']} {status}"
    )


def _test(_kind: str, _body: Mapping[str, Any]) -> str:
    return "A test by Oneoff: messages arrive here"


def _any(kind: str, body: Mapping[str, Any]) -> str:
    where = body.get("job") or body.get("service") or body.get("name")
    return f"{kind}: {where}" if where else kind


_HEADLINES = {
    "job.failing": _failing,
    "job.recovered": _recovered,
    "cron.overdue": _overdue,
    "cron.recovered": _cron_recovered,
    "run.ended": _ended,
    "webhook.test": _test,
}


def _why(body: Mapping[str, Any]) -> str:
    if (words := _REASONS.get(body["reason"])) is not None:
        return words
    return str(body["reason"]) if body.get("exit_code") is None else f"exit code {body['exit_code']}"


def _details(body: Mapping[str, Any]) -> list[str]:
    return [
        f"{name}: {_one_line(str(value))[:_MOST_LISTED]}" for name, value in body.items() if value not in (None, "")
    ]


def _one_line(text: str) -> str:
    """What users name must not begin a line of its own, nor a header of a mail."""
    return "".join(c if c.isprintable() else " " for c in text)
