"""Events of Oneoff as those of Render: the same happenings in its words. Kinds that it does not know have none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from oneoff.core.render_events import DEPLOY_STATUSES, to_type
from oneoff.core.run import Reason, RunStatus
from oneoff.operations.events import Event
from oneoff.render_api.answers import to_time, without_unset
from oneoff.render_api.cron_jobs import STATUSES as CRON_STATUSES
from oneoff.render_api.job_shapes import to_job_id

_MB = 1 << 20
_NO_TRIGGER = dict.fromkeys(("firstBuild", "envUpdated", "manual", "deployedByRender", "clearCache", "rollback"), False)


def to_event(event: Event) -> dict[str, Any] | None:
    """None when Render has no such event."""
    if event.service_id is None or (kind := to_type(event)) is None:
        return None
    return {
        "id": event.id,
        "timestamp": to_time(event.created_at),
        "serviceId": event.service_id,
        "type": kind,
        "details": _to_details(event, kind),
    }


def _to_details(event: Event, kind: str) -> dict[str, Any]:
    body = event.body
    if kind == "job_run_ended":
        ended = {"jobId": to_job_id(event.subject_id), "status": body["status"], "reason": _to_reason(body)}
        return without_unset(ended)
    if kind == "cron_job_run_started":
        return {"cronJobRunId": to_job_id(event.subject_id)}
    if kind == "cron_job_run_ended":
        status = CRON_STATUSES[RunStatus(body["status"])]
        return without_unset(
            {"cronJobRunId": to_job_id(event.subject_id), "status": status, "reason": _to_reason(body)}
        )
    if kind == "deploy_started":
        return {"deployId": event.subject_id, "trigger": _NO_TRIGGER | {"manual": True}}
    if kind == "deploy_ended":
        status = DEPLOY_STATUSES[event.kind]
        return {"deployId": event.subject_id, "deployStatus": status, "status": 0, "reason": {}}
    return {}


def _to_reason(body: Mapping[str, Any]) -> dict[str, Any] | None:
    """Why a run failed; None when it did not."""
    if body["status"] != RunStatus.FAILED.value:
        return None
    reason, message = body["reason"], body["message"] or body["reason"]
    told: dict[str, Any] = {"evicted": reason == Reason.LOST.value}
    if reason == Reason.LOST.value:
        told["evictionReason"] = message
    elif reason == Reason.TIMED_OUT.value:
        told |= {"timedOutSeconds": body["timeout_seconds"], "timedOutReason": "the time limit of the run was over"}
    elif reason == Reason.OOM_KILLED.value:
        told["oomKilled"] = {"memoryLimit": f"{body['memory_bytes'] // _MB}Mi"}
    else:
        told["nonZeroExit"] = body["exit_code"]
    if reason in (Reason.IMAGE_UNAVAILABLE.value, Reason.START_FAILED.value):
        told |= {"earlyExit": True, "unhealthy": message}
    return without_unset(told)
