"""What a call about logs asks for: whose, of what time, which lines. Used by `logs`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from starlette.requests import HTTPConnection

from oneoff.core.clock import from_us, to_us
from oneoff.core.log_filter import Matches, make_filter
from oneoff.core.log_level import level_of
from oneoff.core.run import Run
from oneoff.entrance.requests import context_of
from oneoff.errors import InvalidBody, NotFound
from oneoff.operations import line_pages, runs, services
from oneoff.operations.context import Context
from oneoff.operations.timed_lines import Line
from oneoff.render_api.answers import to_time
from oneoff.render_api.job_shapes import read_job_id, to_job_id
from oneoff.render_api.owners import check_owner
from oneoff.render_api.queries import get_list, get_text, get_time, read_word
from oneoff.store.runs import RunFilter

TYPE = "app"  # of every line: requests and builds are not Oneoff's
_NOT_OURS = ("host", "statusCode", "method", "path", "task", "taskRun", "sandbox")  # labels that no line has
_ID_CHARACTERS = 20
_DEFAULT_WINDOW = timedelta(hours=1)
_MOST_RESOURCES = 100


class Direction(StrEnum):
    BACKWARD = "backward"
    FORWARD = "forward"


@dataclass(frozen=True, slots=True)
class Resources:
    """Jobs by themselves, and services with all their jobs."""

    jobs: Sequence[Run]
    service_ids: Sequence[str]

    def label_of(self, line: Line) -> str:
        """The resource by which a line was found."""
        if line.run.service_id in self.service_ids:
            return line.run.service_id
        return to_job_id(line.run.id)

    async def find_runs(self, context: Context, first: datetime, last: datetime) -> list[Run]:
        found = {run.id: run for run in self.jobs}
        for service_id in self.service_ids:
            within = await line_pages.list_runs_within(context, service_id, first, last)
            found |= {run.id: run for run in within}
        return list(found.values())

    def default_start(self, now: datetime) -> datetime:
        """An hour ago; of jobs alone their beginning, so that none of their lines is missed."""
        if self.service_ids:
            return now - _DEFAULT_WINDOW
        return min(run.created_at for run in self.jobs)


async def get_resources(request: HTTPConnection) -> Resources:
    """Raises InvalidBody, NotFound."""
    context = context_of(request)
    if (owner_id := get_text(request, "ownerId")) is None:
        raise InvalidBody(f"ownerId is missing: that of this server is {context.workspace_id}", "ownerId")
    check_owner(context, owner_id)
    asked = get_list(request, "resource")
    if not asked or len(asked) > _MOST_RESOURCES:
        raise InvalidBody(f"resource: send 1 to {_MOST_RESOURCES} ids of services and jobs", "resource")
    jobs, service_ids = [], []
    for each in asked:
        if each.startswith("job-"):
            jobs.append(await _get_job(context, each))
        else:
            service_ids.append(await _check_service(context, each))
    return Resources(jobs, service_ids)


@dataclass(frozen=True, slots=True)
class Period:
    first: datetime
    last: datetime

    @property
    def us(self) -> tuple[int, int]:
        return to_us(self.first), to_us(self.last)


def get_period(request: HTTPConnection, resources: Resources) -> Period:
    """Raises InvalidBody."""
    now = context_of(request).clock.now()
    last = get_time(request, "endTime") or now
    first = get_time(request, "startTime") or min(resources.default_start(now), last)
    if first > last + timedelta(microseconds=1):
        raise InvalidBody("startTime is later than endTime", "startTime")
    return Period(first, last)


def get_direction(request: HTTPConnection) -> Direction:
    return read_word(request.query_params.get("direction") or Direction.BACKWARD, "direction", Direction)


def get_filter(request: HTTPConnection) -> Callable[[Line], bool]:
    """Of each label any of the values asked for. Text may hold commas: it is taken as it is. Raises InvalidBody."""
    if any(request.query_params.getlist(name) for name in _NOT_OURS):
        return lambda _line: False
    levels = _make(get_list(request, "level"), "level", whole=True)
    kinds = _make(get_list(request, "type"), "type", whole=True)
    instances = get_list(request, "instance")
    texts = _make(list(filter(None, request.query_params.getlist("text"))), "text", whole=False)
    if kinds and not any(matches(TYPE) for matches in kinds):
        return lambda _line: False

    def matches(line: Line) -> bool:
        if instances and to_job_id(line.run.id) not in instances:
            return False
        if levels and not any(wanted(to_level(line)) for wanted in levels):
            return False
        return not texts or any(wanted(to_message(line)) for wanted in texts)

    return matches


def to_log(line: Line, resource: str) -> dict[str, Any]:
    labels = {"resource": resource, "instance": to_job_id(line.run.id), "level": to_level(line), "type": TYPE}
    return {
        "id": f"{line.run.id[-_ID_CHARACTERS:]}-{line.position}",
        "message": to_message(line),
        "timestamp": to_time(from_us(line.time_us)),
        "labels": [{"name": name, "value": value} for name, value in labels.items()],
    }


def to_level(line: Line) -> str:
    return level_of(line.data, line.stream).name.lower()


def to_message(line: Line) -> str:
    text = line.data.decode(errors="replace")
    return f"{text} [{line.cut_bytes} more bytes]" if line.cut_bytes else text


def _make(values: Sequence[str], field: str, *, whole: bool) -> list[Matches]:
    return [make_filter(value, field, whole=whole) for value in values]


async def _get_job(context: Context, job_id: str) -> Run:
    try:
        return await runs.get_run(context, read_job_id(job_id))
    except NotFound:
        raise NotFound("resource", job_id) from None


async def _check_service(context: Context, service_id: str) -> str:
    """One that is there, or is gone and has runs."""
    try:
        return (await services.get_service(context, service_id)).id
    except NotFound:
        wanted = RunFilter(service_id)
        if "\0" not in service_id and await runs.list_runs(context, wanted, 1, None):
            return service_id
        raise NotFound("resource", service_id) from None
