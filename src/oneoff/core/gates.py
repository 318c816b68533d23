"""Deploy gates: jobs that run before a deploy goes live or after it. Pure; used by the deploys."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from oneoff.core.deploy import DeployStatus
from oneoff.core.run import GOING, Reason, Run, RunStatus
from oneoff.errors import InvalidBody


class Gate(StrEnum):
    """When a job runs in the life of a deploy. Both run in the new image."""

    BEFORE_DEPLOY = "before_deploy"
    AFTER_DEPLOY = "after_deploy"


def make_gate(text: str) -> Gate:
    """Raises InvalidBody."""
    try:
        return Gate(text)
    except ValueError:
        raise InvalidBody(f"{text!r} is no gate: write {Gate.BEFORE_DEPLOY} or {Gate.AFTER_DEPLOY}", "gate") from None


class GateState(StrEnum):
    """What the runs of a deploy's `before_deploy` jobs say together."""

    OPEN = "open"  # go live
    WAITING = "waiting"  # `pre_deploy_in_progress`
    FAILED = "failed"  # `pre_deploy_failed`, the old image stays live
    CANCELED = "canceled"  # somebody canceled a gate: `canceled`, the old image stays live


# Of each state the status of the deploy; an open gate has none of its own: the deploy goes on.
DEPLOY_STATUS = {
    GateState.WAITING: DeployStatus.PRE_DEPLOY_IN_PROGRESS,
    GateState.FAILED: DeployStatus.PRE_DEPLOY_FAILED,
    GateState.CANCELED: DeployStatus.CANCELED,
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


def describe_gate_end(job: str, run: Run) -> str:
    """`job migrate failed with exit code 3 (run-…)`, of a run that did not succeed."""
    match run.reason:
        case Reason.NONZERO_EXIT:
            how = f"failed with exit code {run.exit_code}"
        case Reason.CANCELED:
            how = f"was canceled by {run.stop_actor}" if run.stop_actor else "was canceled"
        case Reason.KILLED:
            how = f"was killed by signal {run.signal}"
        case Reason.OOM_KILLED:
            how = f"needed more memory than {run.instance_type} has"
        case Reason.TIMED_OUT:
            how = "reached its time limit"
        case _:
            how = "did not start" if run.started_at is None else "was lost"
    words = f": {run.message}" if run.message and run.reason not in (Reason.NONZERO_EXIT, Reason.CANCELED) else ""
    return f"job {job} {how} ({run.id}){words}"
