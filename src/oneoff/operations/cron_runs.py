"""The runs of crons: what the scheduler saves with its ticks. Handed to it by `oneoff.server`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache

from oneoff.core.run import Run, Trigger
from oneoff.operations.context import Context
from oneoff.operations.jobs import Job, to_request
from oneoff.operations.launches import Materials, get_materials
from oneoff.operations.room import check_room
from oneoff.operations.runs import Origin, make_run, save_group_if_absent
from oneoff.store import jobs
from oneoff.store.crons import Cron
from oneoff.store.dialect import Connection


class CronRuns:
    """For one transaction, in which it reads each job and service once, and only those that are asked for."""

    def __init__(self, context: Context, connection: Connection, due: Sequence[Cron]) -> None:
        self._context = context
        self._connection = connection
        self._due = due
        self._jobs: dict[str, Job] | None = None
        self._materials: dict[str, Materials] = {}
        self._groups: set[str | None] = {None}

    def make(self, cron: Cron, due: datetime, at: datetime) -> tuple[Run, bytes]:
        """Raises what `accept_run` raises, but DiskFull."""
        if self._jobs is None:
            self._jobs = jobs.fetch_jobs(self._connection, {each.job_id for each in self._due})
        job = self._jobs[cron.job_id]
        if (materials := self._materials.get(job.service_id)) is None:
            materials = self._materials[job.service_id] = get_materials(self._context, self._connection, job.service_id)
        request = to_request(self._context, job, told={"ONEOFF_SCHEDULED_FOR": _format(due)}, at=at)
        origin = Origin(f"cron {cron.name}", Trigger.CRON, job_id=job.id, cron_id=cron.id, scheduled_for=due)
        return make_run(self._context, materials, request, origin, at)

    def admit(self, run: Run) -> None:
        """Its group is there afterwards. Raises DiskFull."""
        check_room(self._context.settings, self._context.clock)
        if run.concurrency_group not in self._groups:
            save_group_if_absent(self._connection, run.workspace_id, run.concurrency_group)
            self._groups.add(run.concurrency_group)


@lru_cache(maxsize=64)
def _format(due: datetime) -> str:
    return f"{due:%Y-%m-%dT%H:%M:%SZ}"
