"""What a workspace may do, by its plan: the built-in table, one from an operator's file, and the checks. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from oneoff.core.cron import Timing
from oneoff.core.cron_gap import smallest_gap
from oneoff.core.limits import CEILING_SECONDS, check_time_limit, format_duration, parse_duration
from oneoff.core.retention import Retention
from oneoff.errors import (
    CronTooFrequent,
    InvalidDuration,
    PlanHasNoJobs,
    PlanNotOffered,
    PlanTokensUsedUp,
    SettingsInvalid,
    UnknownPlan,
)

_KEPT_WITHOUT_JOBS = Retention(1000, 365)


@dataclass(frozen=True, slots=True)
class Plan:
    """`longest_run_seconds` is the maximum time limit, and the default of a run that asks for none. A plan without
    jobs has 0 wherever it would count something of theirs."""

    name: str
    longest_run_seconds: int
    has_jobs: bool = True
    smallest_cron_gap_seconds: int = 60
    runs_at_once: int = 1
    kept_runs: int = 1
    kept_days: int = 1
    requests_per_minute: int = 0  # per token; 0 = none are let through, as it has no jobs to ask for
    tokens: int = 1

    @property
    def retention(self) -> Retention:
        """A plan without jobs makes no runs: those of before are not dropped for it."""
        return Retention(self.kept_runs, self.kept_days) if self.has_jobs else _KEPT_WITHOUT_JOBS


Plans = Mapping[str, Plan]  # by the id that a workspace has

PLANS: Plans = {
    "starter": Plan("Starter", 0, False, 0, 0, 0, 0, 0, 1),
    "pro": Plan("Pro", 24 * 3600, True, 300, 10, 100, 90, 100, 5),
    "team": Plan("Team", CEILING_SECONDS, True, 60, 100, 1000, 365, 500, 20),
}
FIRST_PLAN = "team"  # of the workspace made at first start

_ID = re.compile(r"[a-z][a-z0-9-]{0,19}")
_SECONDS = ("longest_run_seconds", "smallest_cron_gap_seconds")
_KEYS = {"longest_run": "longest_run_seconds", "smallest_cron_gap": "smallest_cron_gap_seconds"}
_COUNTS = ("runs_at_once", "kept_runs", "kept_days", "requests_per_minute", "tokens")


def plan_of(plan_id: str, plans: Plans) -> Plan:
    """Of a workspace. Raises PlanNotOffered: an operator's file may have lost it."""
    if (plan := plans.get(plan_id)) is None:
        raise PlanNotOffered(plan_id, plans)
    return plan


def first_plan_id(plans: Plans) -> str:
    """Of a new workspace: FIRST_PLAN, or the last one that has jobs when there is none of that id."""
    return FIRST_PLAN if FIRST_PLAN in plans else [key for key, each in plans.items() if each.has_jobs][-1]


def find_plan_id(asked: str, plans: Plans) -> str:
    """By its id, or by its name however it is written. Raises UnknownPlan."""
    for plan_id, plan in plans.items():
        if asked.casefold() in (plan_id, plan.name.casefold()):
            return plan_id
    raise UnknownPlan(asked, plans)


def check_has_jobs(plan: Plan, plans: Plans = PLANS) -> None:
    """Raises PlanHasNoJobs, naming the plans that have them."""
    if not plan.has_jobs:
        raise PlanHasNoJobs(plan.name, _names(plans, lambda each: True))


def check_longest_run(plan: Plan, seconds: int, plans: Plans = PLANS, already: int = 0) -> int:
    """`seconds` when a run may take so long. Raises TimeLimitTooLong, naming the plans that would do; of a going run
    that is to get more, what it has `already` is told."""
    if seconds <= plan.longest_run_seconds:
        return seconds
    would_do = _names(plans, lambda each: each.longest_run_seconds >= seconds)
    return check_time_limit(seconds, plan.longest_run_seconds, f"the {plan.name} plan", would_do, already)


def check_cron_gap(plan: Plan, timing: Timing, since: datetime, plans: Plans = PLANS) -> None:
    """At save, and again when it fires: the plan may have changed. Raises CronTooFrequent with the worst gap."""
    gap = smallest_gap(timing, since)
    if gap is None or gap.seconds >= plan.smallest_cron_gap_seconds:
        return
    walls = [each.astimezone(timing.zone) for each in (gap.first, gap.second)]
    when = f"{walls[0]:%Y-%m-%d %H:%M %Z} and {walls[1]:%Y-%m-%d %H:%M %Z}"
    least = format_duration(plan.smallest_cron_gap_seconds)
    would_do = _names(plans, lambda each: each.smallest_cron_gap_seconds <= gap.seconds)
    raise CronTooFrequent(timing.expression.text, format_duration(gap.seconds), least, plan.name, when, would_do)


def check_token_room(plan: Plan, tokens: int, plans: Plans = PLANS) -> None:
    """May another token be made beside so many? Raises PlanTokensUsedUp, naming the plans that would do."""
    if tokens >= plan.tokens:
        raise PlanTokensUsedUp(plan.name, plan.tokens, [each.name for each in plans.values() if each.tokens > tokens])


def room_for_runs(plan: Plan, going: int) -> int:
    """How many more runs of the workspace may be on nodes; the others wait."""
    return max(0, plan.runs_at_once - going)


def parse_plans(table: object) -> dict[str, Plan]:
    """Plans of an operator's file: plan id -> {name, has_jobs, longest_run, smallest_cron_gap, runs_at_once, kept_runs,
    kept_days, requests_per_minute, tokens}; times as `5m` or in seconds. Raises SettingsInvalid with all problems."""
    problems: list[str] = []
    if not isinstance(table, Mapping) or not table:
        raise SettingsInvalid(["the file of plans must hold a table with at least one plan"])
    plans = {str(key): _parse_plan(str(key), row, problems) for key, row in table.items()}
    problems += [f"plan {key}: an id is 1 to 20 of a-z, 0-9 and '-'" for key in plans if not _ID.fullmatch(key)]
    if problems:
        raise SettingsInvalid(problems)
    if not any(plan.has_jobs for plan in plans.values()):
        raise SettingsInvalid(["no plan has jobs: set has_jobs = true in at least one"])
    return plans


def _names(plans: Plans, allows: Callable[[Plan], bool]) -> list[str]:
    """Of the plans with jobs that allow it."""
    return [each.name for each in plans.values() if each.has_jobs and allows(each)]


def _parse_plan(key: str, row: object, problems: list[str]) -> Plan:
    if not isinstance(row, Mapping):
        problems.append(f"plan {key}: it must be a table of fields")
        return Plan(key, 0)
    values: dict[str, Any] = {_KEYS.get(str(name), str(name)): value for name, value in row.items()}
    allowed = {each.name for each in fields(Plan)}
    problems += [f"plan {key}: there is no field {name}" for name in sorted(values.keys() - allowed)]
    has_jobs = values.get("has_jobs", True)
    if not isinstance(has_jobs, bool):
        problems.append(f"plan {key}: has_jobs must be true or false")
        has_jobs = True
    counts = {name: _parse_count(key, name, values, has_jobs, problems) for name in _COUNTS}
    seconds = {name: _parse_seconds(key, name, values, has_jobs, problems) for name in _SECONDS}
    return Plan(name=str(values.get("name", key)), has_jobs=has_jobs, **seconds, **counts)


def _parse_count(key: str, name: str, values: Mapping[str, Any], has_jobs: bool, problems: list[str]) -> int:
    value = values.get(name, None if has_jobs else int(name == "tokens"))
    if isinstance(value, bool) or not isinstance(value, int) or value < (1 if has_jobs else 0):
        problems.append(f"plan {key}: {name} must be a whole number, at least 1")
        return 1
    return value


def _parse_seconds(key: str, name: str, values: Mapping[str, Any], has_jobs: bool, problems: list[str]) -> int:
    value = values.get(name, None if has_jobs else 0)
    if value is None:
        problems.append(f"plan {key}: {name.removesuffix('_seconds')} is missing: write for example 5m, 12h or 30d")
        return 1
    try:
        seconds = 0 if value == 0 and not has_jobs else parse_duration(str(value))
    except InvalidDuration as problem:
        problems.append(f"plan {key}: {name.removesuffix('_seconds')}: {problem}")
        return 1
    if seconds > CEILING_SECONDS:
        most = format_duration(CEILING_SECONDS)
        problems.append(f"plan {key}: {name.removesuffix('_seconds')} is above the ceiling of {most}")
    return seconds
