"""What a due tick does while the job has runs going. Pure; decided in the same transaction as the tick."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from oneoff.core.run import Trigger
from oneoff.core.ticks import TickOutcome


class Overlap(StrEnum):
    """The policy of a cron."""

    SKIP = "skip"
    ALLOW = "allow"
    QUEUE = "queue"  # one may wait until the others have ended
    REPLACE = "replace"  # cancels cron runs, then starts; as `skip` while any other run is going


@dataclass(frozen=True, slots=True)
class Going:
    """A run of the job that has not ended for good: queued, starting, running, or between two attempts.

    `origin` is the trigger of its first attempt, so that the retry of a cron run counts as one. `is_held` says that
    it was made under `queue` or `replace` and still waits for others.
    """

    run_id: str
    origin: Trigger
    created_at: datetime
    is_held: bool = False
    has_started: bool = False  # a container exists or existed: starting, running, or between two attempts


@dataclass(frozen=True, slots=True)
class Decision:
    """`cancel`: runs to cancel in the same transaction. `is_held`: the new run starts only when `is_released`."""

    outcome: TickOutcome
    cancel: tuple[str, ...] = ()
    is_held: bool = False

    @property
    def makes_run(self) -> bool:
        return self.outcome is not TickOutcome.SKIPPED_OVERLAP


def decide_overlap(policy: Overlap, going: Sequence[Going]) -> Decision:
    """What becomes of a due tick; `going` are all runs of the job that are, whatever triggered them."""
    if not going or policy is Overlap.ALLOW:
        return Decision(TickOutcome.FIRED)
    if policy is Overlap.QUEUE and not any(run.is_held for run in going):
        return Decision(TickOutcome.QUEUED, is_held=True)
    if policy is Overlap.REPLACE and all(run.origin is Trigger.CRON for run in going):
        return Decision(TickOutcome.REPLACED, tuple(run.run_id for run in going), is_held=True)
    return Decision(TickOutcome.SKIPPED_OVERLAP)


def is_released(held: Going, going: Iterable[Going]) -> bool:
    """May a held run start? When of the job's other runs none has started and none is older: a run somebody asks for
    later does not keep it waiting, nor is it started beside one that is at work."""
    others = [run for run in going if run.run_id != held.run_id]
    return not any(run.has_started or _age(run) < _age(held) for run in others)


def _age(run: Going) -> tuple[datetime, str]:
    return run.created_at, run.run_id
