"""From crons and ticks to what the API answers: the shapes of `cron_shapes`, as plain values."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from oneoff.api.answers import to_time
from oneoff.core.cron_expression import parse_cron
from oneoff.core.cron_preview import Previewed
from oneoff.core.cron_words import describe_cron
from oneoff.operations.crons import Cron, Tick


def to_cron(cron: Cron, coming: Iterable[Previewed]) -> dict[str, Any]:
    return {
        "id": cron.id,
        "name": cron.name,
        "job_id": cron.job_id,
        "job": cron.job,
        "service_id": cron.service_id,
        "expression": cron.expression,
        "description": describe_cron(parse_cron(cron.expression)),
        "time_zone": cron.zone,
        "dst_policy": cron.dst_policy.value,
        "overlap": cron.overlap.value,
        "catch_up": cron.catch_up.value,
        "catch_up_window_seconds": cron.catch_up_seconds,
        "jitter_seconds": cron.jitter_seconds,
        "starts_at": to_time(cron.starts_at),
        "ends_at": to_time(cron.ends_at),
        "hold_during_deploy": cron.hold_during_deploy,
        "alert_after_ticks": cron.alert_after_ticks,
        "alerted_at": to_time(cron.alerted_at),
        "paused": cron.paused,
        "paused_by": _paused_by(cron),
        "next": to_instants(coming),
        "managed_by": cron.managed_by,
        "created_at": to_time(cron.created_at),
    }


def to_instants(coming: Iterable[Previewed]) -> list[dict[str, Any]]:
    return [
        {
            "local": each.wall.isoformat(timespec="minutes"),
            "utc": to_time(each.moment),
            "mark": None if each.mark is None else each.mark.value,
        }
        for each in coming
    ]


def to_tick(tick: Tick) -> dict[str, Any]:
    return {
        "cron_id": tick.cron_id,
        "due_at": to_time(tick.due_at),
        "until": to_time(tick.until),
        "count": tick.count,
        "outcome": tick.outcome.value,
        "run_id": tick.run_id,
        "message": tick.message,
        "decided_at": to_time(tick.decided_at),
    }


def _paused_by(cron: Cron) -> str | None:
    if cron.workspace_paused:
        return "workspace"
    if cron.environment_paused:
        return "environment"
    return "cron" if cron.paused else None
