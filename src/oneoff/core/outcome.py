"""From the facts of an exit to the status and the reason of a run. The engine calls it once per run; pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from oneoff.core.run import Reason, RunStatus

_SIGNAL_CODES = range(129, 160)  # 128 + n for n = 1 … 31, as shells and engines tell a death by signal


@dataclass(frozen=True, slots=True)
class Exit:
    """Facts of an end, and nothing concluded from them. `code` is what the engine reports (128+n for signal n)."""

    code: int
    oom_seen: bool
    started_at: datetime
    finished_at: datetime
    stopped_by: str | None = None  # "timeout" when the driver itself enforced the time limit, else None
    unseen: bool = False  # the engine was started anew since, and may have lost the last output


class StopKind(StrEnum):
    """Who asked for the end of a run. Committed before any signal is sent, so that 137 is never guessed about."""

    TIMEOUT = "timeout"
    CANCEL = "cancel"


@dataclass(frozen=True, slots=True)
class StopRequest:
    kind: StopKind
    requested_at: datetime


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended. `exit_code` and `signal` are set only when they are known to be the command's."""

    status: RunStatus
    reason: Reason
    exit_code: int | None = None
    signal: int | None = None
    oom_seen: bool = False


def conclude(facts: Exit, stop: StopRequest | None) -> Outcome:
    """What an end means. A natural end earlier than the committed stop request is the command's own result."""
    kind = _ours(facts, stop)
    if kind is StopKind.CANCEL:
        return Outcome(RunStatus.CANCELED, Reason.CANCELED, facts.code, oom_seen=facts.oom_seen)
    if kind is StopKind.TIMEOUT:
        return Outcome(RunStatus.FAILED, Reason.TIMED_OUT, facts.code, oom_seen=facts.oom_seen)
    if facts.code == 0:
        return Outcome(RunStatus.SUCCEEDED, Reason.COMPLETED, 0, oom_seen=facts.oom_seen)
    signal = facts.code - 128 if facts.code in _SIGNAL_CODES else None
    if facts.oom_seen:
        return Outcome(RunStatus.FAILED, Reason.OOM_KILLED, facts.code, signal, oom_seen=True)
    if signal is not None:
        return Outcome(RunStatus.FAILED, Reason.KILLED, facts.code, signal)
    return Outcome(RunStatus.FAILED, Reason.NONZERO_EXIT, facts.code)


def _ours(facts: Exit, stop: StopRequest | None) -> StopKind | None:
    if stop is not None and facts.finished_at >= stop.requested_at:
        return stop.kind
    if facts.stopped_by == StopKind.TIMEOUT:
        return StopKind.TIMEOUT
    return None
