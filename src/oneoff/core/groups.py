"""Concurrency groups: a name and a limit across jobs, crons and manual runs. Pure; asked by the dispatcher."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from oneoff.core.queue import Waiting
from oneoff.errors import InvalidGroup

MOST_AT_ONCE = 1000
_NAME = re.compile(r"[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Group:
    """At most `limit` runs of the workspace's group at once."""

    name: str
    limit: int = 1


@dataclass(frozen=True, slots=True)
class Admission:
    """`free` and `beyond` keep the order they were given: `beyond` wait for room in the workspace and for nothing else.
    `blocked` tells for each other run the sentence of what it waits for."""

    free: tuple[Waiting, ...]
    blocked: Mapping[str, str]
    beyond: tuple[Waiting, ...] = ()


def make_group(name: str, limit: int = 1) -> Group:
    """Raises InvalidGroup."""
    if not _NAME.fullmatch(name):
        raise InvalidGroup(f"{name!r} cannot name a group: use 1 to 63 of a-z, 0-9 and '-', beginning with a letter")
    if not 1 <= limit <= MOST_AT_ONCE:
        raise InvalidGroup(f"the limit of group {name} must be 1 to {MOST_AT_ONCE}")
    return Group(name, limit)


def admit(
    in_order: Iterable[Waiting],
    groups: Mapping[str, Group],
    going: Mapping[str, int],
    blocked: Mapping[str, str],
    room: int | None = None,
) -> Admission:
    """Who of the waiting may start, given them as `core.queue.in_order` puts them.

    `groups`: run id -> its group, for those that have one; `going`: group name -> runs of it on nodes; `blocked`: run
    id -> what it waits for already, such as an older run of its job. A run that is blocked takes no place of its group.
    `room`: how many more runs of the workspace the plan lets go at once; None = any number.
    """
    taken = Counter(going)
    free: list[Waiting] = []
    beyond: list[Waiting] = []
    waits = {}
    for run in in_order:
        group = groups.get(run.run_id)
        if run.run_id in blocked:
            waits[run.run_id] = blocked[run.run_id]
        elif group is not None and taken[group.name] >= group.limit:
            waits[run.run_id] = f"group {group.name}: {group.limit} at once"
        else:
            if group is not None:
                taken[group.name] += 1
            (free if room is None or len(free) < room else beyond).append(run)
    return Admission(tuple(free), waits, tuple(beyond))
