"""How the end of a run becomes the exit code of `oneoff run`, `attach`, `wait` and `logs --follow`. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from oneoff.core.limits import format_duration

TIMED_OUT = 124
PLATFORM_FAILED = 125  # Oneoff or the engine failed, not the command
NOT_EXECUTABLE = 126
NOT_FOUND = 127
OOM_KILLED = 137
CANCELED = 130
API_REFUSED = 1  # of commands that follow no run
USAGE = 2

FINAL = frozenset({"succeeded", "failed", "canceled"})


def exit_code_of(run: Mapping[str, Any]) -> int:
    """`run` is an ended Run of the API. A reason this version does not know counts as a failure of the platform."""
    reason, code, signal = run["reason"], run["exit_code"], run["signal"]
    if run["status"] == "succeeded":
        return 0
    if reason == "nonzero_exit" and code:
        return int(code)
    if reason == "killed" and (code or signal):
        return int(code or 128 + signal)
    if reason == "start_failed":
        return int(code) if code in (NOT_EXECUTABLE, NOT_FOUND) else PLATFORM_FAILED
    return {"oom_killed": OOM_KILLED, "timed_out": TIMED_OUT, "canceled": CANCELED}.get(reason, PLATFORM_FAILED)


def describe_end(run: Mapping[str, Any]) -> str:
    """One line for people: `finished: exit code 0 in 3.2s`."""
    reason, took, message = run["reason"], run["duration_seconds"], run["message"]
    if message and reason in _BEGINNINGS:
        return f"{_BEGINNINGS[reason]}: {message}"
    if reason == "timed_out" and _had_to_end(run):
        return f"timed out: it had to end by {run['must_end_at']}"
    limit = format_duration(run["timeout_seconds"])
    words = _WORDS.get(reason, "{status}: {reason}").format(**run, limit=limit)
    if reason == "canceled" and run.get("canceled_by"):
        words += f" by {run['canceled_by']}"
    if run["oom_seen"] and reason != "oom_killed":
        words += " (but something in it was killed for want of memory)"
    if took is None:
        return words
    lasted = f"{took:.1f}s" if took < 60 else format_duration(round(took))
    return f"{words} {'in' if run['exit_code'] == 0 or reason == 'nonzero_exit' else 'after'} {lasted}"


def _had_to_end(run: Mapping[str, Any]) -> bool:
    """By the time of day, not by its limit. As times: as texts, `…:00.5Z` comes before `…:00Z`."""
    must: str | None = run.get("must_end_at")
    return must is not None and datetime.fromisoformat(run["finished_at"]) >= datetime.fromisoformat(must)


# The server's message says what happened there; elsewhere the facts do.
_BEGINNINGS = {"image_unavailable": "did not start", "start_failed": "did not start", "lost": "lost"}
_WORDS = {
    "completed": "finished: exit code 0",
    "nonzero_exit": "finished: exit code {exit_code}",
    "killed": "killed by signal {signal}",
    "oom_killed": "killed: it needed more memory than {instance_type} has (--instance-type gives more),",
    "timed_out": "timed out: its limit is {limit} (--timeout gives more), ended",
    "image_unavailable": "did not start: image {image} cannot be had",
    "start_failed": "did not start",
    "lost": "lost: it started, and nobody can know how it ended",
    "canceled": "canceled",
}
