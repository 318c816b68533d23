"""The plan of a job file: what would become of each thing it names, or named before. Pure; made by the operations."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any


class Action(StrEnum):
    CREATE = "create"
    UPDATE = "update"
    ADOPT = "adopt"  # made by a person or by another file, and the file's from now on; perhaps changed
    KEEP = "keep"  # as the file says already
    DELETE = "delete"  # the file made it, and names it no longer
    LEAVE = "leave"  # the same, but deleting was not asked for


@dataclass(frozen=True, slots=True)
class Change:
    """None = not set. Of a variable never the value: only whether it is set, or another one."""

    field: str
    before: Any
    after: Any


@dataclass(frozen=True, slots=True)
class PlanItem:
    """`kind` is group, job or cron; `name` the group's, `PATH:JOB` or `PATH:JOB:CRON`."""

    action: Action
    kind: str
    name: str
    changes: Sequence[Change] = field(default=())


SET, CHANGED = "set", "another value"


def compare(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
    """Where they differ; a field that is not there is None."""
    names = [*before, *(name for name in after if name not in before)]
    return [Change(name, before.get(name), after.get(name)) for name in names if before.get(name) != after.get(name)]


def compare_variables(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
    """By name, without their values."""

    def told(change: Change) -> Change:
        both = change.before is not None and change.after is not None
        shown_before = None if change.before is None else SET
        shown_after = None if change.after is None else CHANGED if both else SET
        return Change(f"variables.{change.field}", shown_before, shown_after)

    return [told(change) for change in compare(before, after)]


def digest_of(plan: Sequence[PlanItem]) -> str:
    """The same for the same plan: who has seen one can ask for just that."""
    text = json.dumps([asdict(item) for item in plan], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
