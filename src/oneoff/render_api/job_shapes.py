"""A run as the Job of both documents: that of 2021, and that of today."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from typing import Any

from oneoff.core.run import Run, RunStatus
from oneoff.errors import NotFound
from oneoff.render_api.answers import to_time, without_unset

_JOB_ID = re.compile(r"job-[0-9a-z]{20}")
ToJob = Callable[[Run], dict[str, Any]]

# What a job's status is called -> those of a run.
STATUSES: Mapping[str, tuple[RunStatus, ...]] = {
    "pending": (RunStatus.QUEUED, RunStatus.STARTING),
    "running": (RunStatus.RUNNING,),
    "succeeded": (RunStatus.SUCCEEDED,),
    "failed": (RunStatus.FAILED,),
    "canceled": (RunStatus.CANCELED,),
}
_NAMES = {status: name for name, statuses in STATUSES.items() for status in statuses}


def to_job_id(run_id: str) -> str:
    return "job-" + run_id.removeprefix("run-")


def read_job_id(job_id: str) -> str:
    """The run's id. Raises NotFound."""
    if not _JOB_ID.fullmatch(job_id):
        raise NotFound("job", job_id, "an id of this kind looks like job-…")
    return "run-" + job_id.removeprefix("job-")


def to_status(status: RunStatus) -> str:
    return _NAMES[status]


def to_start_command(run: Run) -> str:
    return run.shell if run.shell is not None else shlex.join(run.command or ())


def to_job(run: Run) -> dict[str, Any]:
    """As Render answers today: the status is always there, what is unset is left out."""
    return without_unset(
        {
            "id": to_job_id(run.id),
            "serviceId": run.service_id,
            "startCommand": to_start_command(run),
            "planId": run.instance_type,
            "status": to_status(run.status),
            "createdAt": to_time(run.created_at),
            "startedAt": None if run.started_at is None else to_time(run.started_at),
            "finishedAt": None if run.finished_at is None else to_time(run.finished_at),
        }
    )


def to_job_of_2021(run: Run) -> dict[str, Any]:
    """As the document of 2021 shows: these keys in this order, null until there is something to tell."""
    times = {"createdAt": run.created_at, "startedAt": run.started_at, "finishedAt": run.finished_at}
    return {
        "id": to_job_id(run.id),
        "serviceId": run.service_id,
        "startCommand": to_start_command(run),
        "planId": run.instance_type,
        **{name: None if time is None else time.isoformat(timespec="microseconds") for name, time in times.items()},
        "status": run.status.value if run.status.is_final else None,
    }
