"""The overlap policy: each decision, and that it holds at every moment of a simulated job."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from oneoff.core.overlap import Going, Overlap, decide_overlap, is_released
from oneoff.core.run import Trigger
from oneoff.core.ticks import TickOutcome

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)

GOING = st.lists(
    st.builds(
        Going,
        st.integers(0, 10_000).map(lambda number: f"run-{number}"),
        st.sampled_from([Trigger.CRON, Trigger.MANUAL, Trigger.API, Trigger.BATCH]),
        st.integers(0, 600).map(lambda seconds: NOON + timedelta(seconds=seconds)),
        st.booleans(),
        st.booleans(),
    ),
    max_size=4,
    unique_by=lambda run: run.run_id,
)


@given(st.sampled_from(Overlap))
def test_nothing_going_means_it_fires_under_every_policy(policy: Overlap) -> None:
    decision = decide_overlap(policy, [])
    assert (decision.outcome, decision.cancel, decision.is_held) == (TickOutcome.FIRED, (), False)


@given(GOING)
def test_skip_fires_only_when_nothing_is_going(going: list[Going]) -> None:
    outcome = decide_overlap(Overlap.SKIP, going).outcome
    assert outcome is (TickOutcome.SKIPPED_OVERLAP if going else TickOutcome.FIRED)


@given(GOING)
def test_allow_always_fires(going: list[Going]) -> None:
    assert decide_overlap(Overlap.ALLOW, going).outcome is TickOutcome.FIRED


@given(GOING.filter(bool))
def test_queue_holds_at_most_one(going: list[Going]) -> None:
    decision = decide_overlap(Overlap.QUEUE, going)
    if any(run.is_held for run in going):
        assert (decision.outcome, decision.makes_run) == (TickOutcome.SKIPPED_OVERLAP, False)
    else:
        assert (decision.outcome, decision.is_held, decision.cancel) == (TickOutcome.QUEUED, True, ())


@given(GOING.filter(bool))
def test_replace_cancels_cron_runs_and_gives_way_to_all_others(going: list[Going]) -> None:
    decision = decide_overlap(Overlap.REPLACE, going)
    if any(run.origin is not Trigger.CRON for run in going):
        assert (decision.outcome, decision.cancel) == (TickOutcome.SKIPPED_OVERLAP, ())
    else:
        assert decision.outcome is TickOutcome.REPLACED
        assert decision.cancel == tuple(run.run_id for run in going)
        assert decision.is_held


@given(GOING)
def test_a_held_run_is_never_released_beside_one_that_started(going: list[Going]) -> None:
    held = Going("run-held", Trigger.CRON, NOON + timedelta(seconds=300), is_held=True)
    released = is_released(held, [held, *going])
    older = any((run.created_at, run.run_id) < (held.created_at, held.run_id) for run in going)
    assert released == (not older and not any(run.has_started for run in going))


class Simulation:
    """A job under one policy: ticks, manual runs, starts and ends in any order."""

    def __init__(self, policy: Overlap) -> None:
        self.policy = policy
        self.runs: dict[str, Going] = {}
        self.canceled: set[str] = set()
        self.made = 0

    def make(self, origin: Trigger, *, is_held: bool) -> None:
        self.made += 1
        run_id = f"run-{self.made:04}"
        self.runs[run_id] = Going(run_id, origin, NOON + timedelta(seconds=self.made), is_held)

    def step(self, action: str) -> None:
        getattr(self, action)()
        self.check(action)

    def tick(self) -> None:
        decision = decide_overlap(self.policy, list(self.runs.values()))
        for run_id in decision.cancel:
            if self.runs[run_id].has_started:
                self.canceled.add(run_id)  # its container takes a while to end
            else:
                del self.runs[run_id]
        if decision.makes_run:
            self.make(Trigger.CRON, is_held=decision.is_held)

    def manual(self) -> None:
        self.make(Trigger.MANUAL, is_held=False)

    def start(self) -> None:
        for run in list(self.runs.values()):
            if run.has_started or (run.is_held and not is_released(run, self.runs.values())):
                continue
            self.runs[run.run_id] = Going(run.run_id, run.origin, run.created_at, False, True)
            if run.origin is Trigger.CRON and self.policy is not Overlap.ALLOW:
                beside = [each for each in self.runs.values() if each.has_started and each.run_id != run.run_id]
                if run.is_held:
                    assert not beside
                assert not any(each.origin is Trigger.CRON for each in beside)
            return

    def end(self) -> None:
        started = [run for run in self.runs.values() if run.has_started]
        if started:
            del self.runs[started[0].run_id]

    def check(self, action: str) -> None:
        crons = [run for run in self.runs.values() if run.origin is Trigger.CRON]
        held = [run for run in self.runs.values() if run.is_held]
        started = [run for run in crons if run.has_started]
        if self.policy is not Overlap.ALLOW:
            assert len(held) <= 1
            assert len(started) <= 1
            assert not held or len(self.runs) >= 1


@given(st.sampled_from(Overlap), st.lists(st.sampled_from(["tick", "tick", "manual", "start", "start", "end"])))
@settings(max_examples=300, deadline=None)
def test_the_policy_holds_at_every_moment(policy: Overlap, actions: list[str]) -> None:
    job = Simulation(policy)
    for action in actions:
        job.step(action)


@given(st.sampled_from([Overlap.QUEUE, Overlap.REPLACE]), st.lists(st.sampled_from(["tick", "manual", "start", "end"])))
@settings(max_examples=200, deadline=None)
def test_a_held_run_starts_when_the_others_have_ended(policy: Overlap, actions: list[str]) -> None:
    job = Simulation(policy)
    for action in actions:
        job.step(action)
    for _ in range(3 * len(actions)):
        job.start()
        job.end()
    assert not job.runs
