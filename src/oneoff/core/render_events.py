"""Which of Render's types an event is, and what Render's webhooks are sent of it. Pure; used by the forms of webhooks
and by the Render-compatible API."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from oneoff.core.clock import to_text
from oneoff.core.events import Happened

DEPLOY_STATUSES = {"deploy.live": "succeeded", "deploy.failed": "failed", "deploy.canceled": "canceled"}
# Render's type -> the kinds that may be it. `run.*` are told apart by the service and the run.
TYPES: Mapping[str, tuple[str, ...]] = {
    "job_run_ended": ("run.ended",),
    "cron_job_run_started": ("run.started",),
    "cron_job_run_ended": ("run.ended",),
    "deploy_started": ("deploy.started",),
    "deploy_ended": tuple(DEPLOY_STATUSES),
    "service_suspended": ("service.suspended",),
    "service_resumed": ("service.resumed",),
}
_PLAIN = {kind: word for word, kinds in TYPES.items() for kind in kinds if not kind.startswith("run.")}


def to_kinds(types: Iterable[str]) -> list[str]:
    """What may be one of them; nothing for types that Oneoff never has."""
    return list(dict.fromkeys(kind for each in types for kind in TYPES.get(each, ())))


def to_type(event: Happened) -> str | None:
    """A run of a saved job on a `crn-` service is what Render calls a run of a cron job; all others are jobs. None when
    Render has no such event."""
    if event.service_id is None:
        return None
    is_cron = event.service_id.startswith("crn-") and event.body.get("job_id") is not None
    if event.kind == "run.started":
        return "cron_job_run_started" if is_cron else None
    if event.kind == "run.ended":
        return "cron_job_run_ended" if is_cron else "job_run_ended"
    return _PLAIN.get(event.kind)


def to_render_payload(event: Happened) -> dict[str, Any] | None:
    """The body of a delivery as Render's webhooks have it: who wants details asks for the event by its id."""
    if (word := to_type(event)) is None:
        return None
    about = {"id": event.id, "serviceId": event.service_id, "serviceName": event.body["service"].rpartition("/")[2]}
    status = event.body.get("status") if word.endswith("run_ended") else DEPLOY_STATUSES.get(event.kind)
    return {
        "type": word,
        "timestamp": to_text(event.created_at),
        "data": about if status is None else {**about, "status": status},
    }
