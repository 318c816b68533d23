"""Deploy gates open only when every job succeeded."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from oneoff.core.gates import GateState, gate_state
from oneoff.core.run import GOING, RunStatus

RUNS = st.lists(st.tuples(st.sampled_from(RunStatus), st.booleans()), max_size=5)


@given(RUNS, st.integers(0, 3))
def test_a_gate_opens_only_when_every_expected_job_succeeded(runs: list[tuple[RunStatus, bool]], more: int) -> None:
    statuses = [status for status, _ in runs]
    retried = [again and status is RunStatus.FAILED for status, again in runs]
    state = gate_state(len(runs) + more, statuses, retried)
    final_failure = any(s is RunStatus.FAILED and not again for s, again in zip(statuses, retried, strict=True))
    if final_failure:
        assert state is GateState.FAILED
    elif RunStatus.CANCELED in statuses:
        assert state is GateState.CANCELED
    elif more or any(status in GOING for status in statuses) or any(retried):
        assert state is GateState.WAITING
    else:
        assert state is GateState.OPEN
        assert all(status is RunStatus.SUCCEEDED for status in statuses)


def test_a_deploy_without_gates_goes_live_at_once() -> None:
    assert gate_state(0, []) is GateState.OPEN
