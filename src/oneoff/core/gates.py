"""Deploy gates: jobs that run before a deploy goes live or after it. Pure; asked by the deploy and the executor."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from oneoff.core.run import GOING, RunStatus


class Gate(StrEnum):
    """When a job runs in the life of a deploy. Both run in the new image."""

    BEFORE_DEPLOY = "before_deploy"
    AFTER_DEPLOY = "after_deploy"


class GateState(StrEnum):
    """What the runs of a deploy's `before_deploy` jobs say together."""

    OPEN = "open"  # go live
    WAITING = "waiting"  # `pre_deploy_in_progress`
    FAILED = "failed"  # `pre_deploy_failed`, the old image stays live
    CANCELED = "canceled"  # somebody canceled a gate: `canceled`, the old image stays live


# Of each state the status of the deploy; an open gate has none of its own: the deploy goes on.
DEPLOY_STATUS = {
    GateState.WAITING: "pre_deploy_in_progress",
    GateState.FAILED: "pre_deploy_failed",
    GateState.CANCELED: "canceled",
}


def gate_state(expected: int, runs: Sequence[RunStatus], will_retry: Sequence[bool] = ()) -> GateState:
    """`runs`: the newest attempt of each of the `expected` before_deploy jobs that has one; `will_retry` says of each
    whether another attempt follows. Opens only when every job succeeded; a failure counts before all have ended."""
    retried = [*will_retry, *[False] * (len(runs) - len(will_retry))]
    final = [status for status, again in zip(runs, retried, strict=True) if status not in GOING and not again]
    if RunStatus.FAILED in final:
        return GateState.FAILED
    if RunStatus.CANCELED in final:
        return GateState.CANCELED
    return GateState.OPEN if len(final) >= expected else GateState.WAITING
