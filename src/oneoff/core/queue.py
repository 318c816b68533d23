"""Who is next: the order in which waiting runs get slots. Pure; the dispatcher and the API use the same order."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from oneoff.core.run import Trigger

# Within a service: deploy gates, then what a person or a program waits for, then crons, then batches.
CLASSES: Mapping[Trigger, int] = {
    Trigger.DEPLOY: 0,
    Trigger.MANUAL: 1,
    Trigger.API: 1,
    Trigger.CRON: 2,
    Trigger.RETRY: 2,
    Trigger.BATCH: 3,
}
LIFT_AFTER = timedelta(minutes=5)  # waiting so long lifts a run by one class, again and again
MOST_TURNS = 1024


@dataclass(frozen=True, slots=True)
class Waiting:
    """A queued run, as far as the order is concerned."""

    run_id: str
    service_id: str
    trigger: Trigger
    created_at: datetime


class Turns:
    """Which services had the newest slots, since this server began: then everybody is equal. The last `most` are
    remembered; one that is not had its turn longer ago than all those, as one that never had any."""

    def __init__(self, most: int = MOST_TURNS) -> None:
        self._most = most
        self._count = 0
        self._numbers: dict[str, int] = {}  # service id -> number of its newest slot; those first that are longest ago

    def take(self, service_id: str) -> None:
        self._count += 1
        self._numbers.pop(service_id, None)
        self._numbers[service_id] = self._count
        if len(self._numbers) > self._most:
            del self._numbers[next(iter(self._numbers))]

    @property
    def numbers(self) -> dict[str, int]:
        """Service id -> number of its newest slot, counted over all. A copy, which any thread may ask for."""
        return dict(self._numbers)


def in_order(
    waiting: Iterable[Waiting], going: Mapping[str, int], now: datetime, turns: Mapping[str, int] | None = None
) -> list[Waiting]:
    """All of `waiting` in the order in which they will get slots.

    Fair between services: the next slot goes to the service with the fewest runs going (`going`: service id -> count),
    among equals to the one that had its turn longest ago (`turns`: see `Turns.numbers`), then to the run that waited
    longest. Within a service by class, then oldest first.
    """
    lines: dict[str, list[Waiting]] = defaultdict(list)
    for run in waiting:
        lines[run.service_id].append(run)
    for line in lines.values():
        line.sort(key=lambda run: (_class_at(run, now), run.created_at, run.run_id), reverse=True)
    taken, served = defaultdict(int, going), defaultdict(int, turns or {})
    newest = max(served.values(), default=0)
    ordered: list[Waiting] = []
    while lines:
        service_id = min(lines, key=lambda each: (taken[each], served[each], lines[each][-1].created_at, each))
        ordered.append(lines[service_id].pop())
        taken[service_id] += 1
        served[service_id] = newest = newest + 1
        if not lines[service_id]:
            del lines[service_id]
    return ordered


def _class_at(run: Waiting, now: datetime) -> int:
    lifts = max(0, (now - run.created_at) // LIFT_AFTER)
    return max(0, CLASSES[run.trigger] - lifts)
