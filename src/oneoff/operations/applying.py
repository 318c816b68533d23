"""Job files: what a file names is made or changed, in one transaction, or only told. Used by the API.

A thing belongs to the file that made it (`managed_by`); what a person or another file made is never taken over unless
that is asked for.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from oneoff.core.applying import Action, Change, PlanItem, compare, compare_variables, digest_of
from oneoff.core.clock import to_text
from oneoff.core.groups import make_group
from oneoff.core.job import Job
from oneoff.core.retry_text import from_text, to_plain
from oneoff.core.service import parse_path
from oneoff.errors import (
    InvalidBody,
    InvalidInput,
    JobFileInvalid,
    ManagedElsewhere,
    NotFound,
    OneoffError,
    PlanOutdated,
)
from oneoff.operations import crons, jobs
from oneoff.operations.context import Context
from oneoff.operations.crons import Cron, NewCron
from oneoff.operations.jobs import NewJob
from oneoff.operations.variables import VariableChange
from oneoff.store import concurrency, services
from oneoff.store import crons as cron_rows
from oneoff.store import jobs as job_rows
from oneoff.store.crons import CronFilter
from oneoff.store.dialect import Connection
from oneoff.store.services import Service

_MOST_CRONS = 10_000


@dataclass(frozen=True, slots=True)
class WantedCron:
    """`settings` as for `crons.create_cron`; what is not there has its default."""

    name: str
    settings: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class WantedJob:
    """`settings` as for `jobs.create_job`, without variables; what is not there has its default."""

    service: str
    name: str
    settings: Mapping[str, Any]
    variables: Mapping[str, VariableChange] = field(default_factory=dict)
    crons: Sequence[WantedCron] = ()


@dataclass(frozen=True, slots=True)
class JobFile:
    """`source` is the file's name; it and `service` say which file it is, wherever it lies."""

    source: str
    service: str
    groups: Mapping[str, int] = field(default_factory=dict)
    jobs: Sequence[WantedJob] = ()


@dataclass(frozen=True, slots=True)
class Manner:
    """`expected` is the digest of the plan that somebody has agreed to."""

    dry_run: bool = False
    prune: bool = False
    adopt: bool = False
    expected: str | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    managed_by: str
    items: Sequence[PlanItem]

    @property
    def digest(self) -> str:
        return digest_of(self.items)


async def apply_file(context: Context, file: JobFile, manner: Manner) -> Plan:
    """What was done, or would be when it is a dry run. Raises JobFileInvalid with all that is wrong, NotFound for the
    file's service, PlanOutdated."""

    def work(connection: Connection) -> Plan:
        service = _find_service(context, connection, file.service)
        plan = _Applying(context, connection, file, manner, f"{file.source} ({service.path})").carry_out()
        if manner.dry_run:
            raise _OnlyTold(plan)
        if manner.expected is not None and manner.expected != plan.digest:
            raise PlanOutdated
        return plan

    try:
        plan = await context.database.run(work)
    except _OnlyTold as told:
        return told.plan
    context.signals.crons_changed()
    context.signals.run_accepted()  # a higher limit of a group lets waiting runs start
    return plan


class _OnlyTold(Exception):
    """Undoes the transaction of a dry run."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan


class _Applying:
    """One transaction. Everything is tried, so that all problems are told together."""

    def __init__(
        self, context: Context, connection: Connection, file: JobFile, manner: Manner, managed_by: str
    ) -> None:
        self._context = context
        self._connection = connection
        self._file = file
        self._manner = manner
        self._managed_by = managed_by
        self._items: list[PlanItem] = []
        self._problems: list[tuple[str, str]] = []
        self._named: set[str] = set()  # ids of the jobs and crons that the file names

    def carry_out(self) -> Plan:
        for name, limit in sorted(self._file.groups.items()):
            self._try(f"groups.{name}", lambda name=name, limit=limit: self._set_group(name, limit))  # type: ignore[misc]
        for number, wanted in enumerate(self._file.jobs):
            self._try(f"jobs.{number}", lambda number=number, wanted=wanted: self._set_job(number, wanted))  # type: ignore[misc]
        self._remove_unnamed()
        if self._problems:
            raise JobFileInvalid(self._problems)
        return Plan(self._managed_by, self._items)

    def _try(self, place: str, work: Callable[[], None]) -> None:
        try:
            work()
        except OneoffError as problem:
            if problem.temporary:
                raise
            wrong = getattr(problem, "field", None) if isinstance(problem, InvalidInput) else None
            self._problems.append((f"{place}.{wrong}" if wrong else place, str(problem)))

    def _set_group(self, name: str, limit: int) -> None:
        group = make_group(name, limit)
        workspace_id = self._context.workspace_id
        present = concurrency.fetch_groups(self._connection, workspace_id).get(name)
        changes = compare({"limit": None if present is None else present.limit}, {"limit": limit})
        action = Action.CREATE if present is None else Action.UPDATE if changes else Action.KEEP
        self._items.append(PlanItem(action, "group", name, changes))
        if changes:
            concurrency.save_group(self._connection, workspace_id, group)

    def _set_job(self, number: int, wanted: WantedJob) -> None:
        service = _find_service(self._context, self._connection, wanted.service)
        present = job_rows.find_by_name(self._connection, service.id, wanted.name)
        if present is None:
            job = self._create_job(service, wanted)
        elif present.id in self._named:
            raise InvalidBody(f"{present.path} is there twice", "name")
        else:
            self._named.add(present.id)
            job = self._change_job(present, wanted)
        self._named.add(job.id)
        workspace_id, of_job = self._context.workspace_id, CronFilter(job_id=job.id)
        listed = cron_rows.list_crons(self._connection, workspace_id, of_job, _MOST_CRONS, None)
        there = {cron.name: cron for cron in listed}
        self._named |= {there[each.name].id for each in wanted.crons if each.name in there}
        for index, each in enumerate(wanted.crons):
            place = f"jobs.{number}.crons.{index}"
            self._try(place, lambda each=each: self._set_cron(job, there.get(each.name), each))  # type: ignore[misc]

    def _create_job(self, service: Service, wanted: WantedJob) -> Job:
        settings = {**wanted.settings, "variables": dict(wanted.variables)}
        job = jobs.insert_job(
            self._context, self._connection, NewJob(service.id, wanted.name, settings), self._managed_by
        )
        facts = compare({}, _facts_of_job(job)) + compare_variables({}, jobs.open_job_variables(self._context, job))
        self._items.append(PlanItem(Action.CREATE, "job", job.path, facts))
        return job

    def _change_job(self, present: Job, wanted: WantedJob) -> Job:
        settings = dict.fromkeys((*jobs.SETTINGS, "command", "shell")) | dict(wanted.settings)
        before = jobs.open_job_variables(self._context, present)
        variables = {**dict.fromkeys(before), **_fully(wanted.variables)}
        job = jobs.change_settings(self._context, self._connection, present, settings | {"variables": variables})
        after = jobs.open_job_variables(self._context, job)
        changes = compare(_facts_of_job(present), _facts_of_job(job)) + compare_variables(before, after)
        action = self._choose(present.managed_by, "job", present.path, changes)
        self._items.append(PlanItem(action, "job", present.path, changes))
        if action is not Action.KEEP:
            job_rows.replace_job(self._connection, replace(job, managed_by=self._managed_by))
        return present

    def _set_cron(self, job: Job, present: Cron | None, wanted: WantedCron) -> None:
        name = f"{job.path}:{wanted.name}"
        if present is None:
            new = NewCron(job.id, {**wanted.settings, "name": wanted.name})
            cron = crons.insert_cron(self._context, self._connection, new, self._managed_by)
            self._named.add(cron.id)
            self._items.append(PlanItem(Action.CREATE, "cron", name, _facts_of_new_cron(cron)))
            return
        settings = crons.complete_settings(wanted.settings)
        after = {field: settings[field] for field in settings}
        changes = compare(_plainly({field: getattr(present, field) for field in settings}), _plainly(after))
        action = self._choose(present.managed_by, "cron", name, changes)
        self._items.append(PlanItem(action, "cron", name, changes))
        if changes:
            crons.update_columns(self._context, self._connection, present, settings)
        if action is Action.ADOPT:
            cron_rows.save_changes(self._connection, present.id, {"managed_by": self._managed_by})

    def _choose(self, managed_by: str | None, kind: str, name: str, changes: Sequence[Change]) -> Action:
        """Raises ManagedElsewhere."""
        if managed_by == self._managed_by:
            return Action.UPDATE if changes else Action.KEEP
        if not self._manner.adopt:
            raise ManagedElsewhere(kind, name, managed_by)
        return Action.ADOPT

    def _remove_unnamed(self) -> None:
        """Crons first: a job goes only when it has none left."""
        mine = (self._connection, self._context.workspace_id, self._managed_by)
        for cron in cron_rows.list_managed_by(*mine):
            if cron.id not in self._named:
                self._items.append(PlanItem(self._removal, "cron", f"{cron.job}:{cron.name}"))
                if self._manner.prune:
                    crons.remove_cron(self._context, self._connection, cron)
        for job in job_rows.list_managed_by(*mine):
            if job.id not in self._named:
                self._items.append(PlanItem(self._removal, "job", job.path))
                if self._manner.prune:
                    self._try(job.path, lambda job=job: jobs.remove_job(self._connection, job))  # type: ignore[misc]

    @property
    def _removal(self) -> Action:
        return Action.DELETE if self._manner.prune else Action.LEAVE


def _find_service(context: Context, connection: Connection, text: str) -> Service:
    """By path. Raises NotFound, AmbiguousPath, InvalidPath."""
    found = services.find_by_path(connection, context.workspace_id, parse_path(text))
    if found is None:
        raise NotFound("service", text, f"`oneoff service list` shows them, `oneoff service create {text}` makes it")
    return found


def _fully(variables: Mapping[str, VariableChange]) -> dict[str, VariableChange]:
    """A secret that the file gives as a plain value is one no longer."""
    return {name: VariableChange(each.value, bool(each.secret)) for name, each in variables.items()}


def _facts_of_job(job: Job) -> dict[str, Any]:
    """What a file can say of it, in plain values; what is not set is left out."""
    facts = {
        "command": None if job.command.argv is None else list(job.command.argv),
        "shell": job.command.shell,
        **{name: getattr(job, name) for name in jobs.SETTINGS},
        "retries": None if job.retries is None else to_plain(from_text(job.retries)),
        "retention": None if job.retention is None else json.loads(job.retention),
    }
    return {name: value for name, value in _plainly(facts).items() if value is not None}


def _facts_of_new_cron(cron: Cron) -> list[Change]:
    defaults = crons.complete_settings({})
    facts = {name: getattr(cron, name) for name in defaults if getattr(cron, name) != defaults[name]}
    return compare({}, _plainly(facts))


def _plainly(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {crons.NAMES.get(name, name): _to_plain(value) for name, value in facts.items()}


def _to_plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return to_text(value)
    if isinstance(value, StrEnum):
        return value.value
    return list(value) if isinstance(value, tuple) else value
