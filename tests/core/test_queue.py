"""Who gets the next slot: fair between services, by class within one, nobody left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from oneoff.core.queue import CLASSES, LIFT_AFTER, Turns, Waiting, in_order
from oneoff.core.run import Trigger

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
SERVICES = ("srv-a", "srv-b", "srv-c")
WAITING = st.lists(
    st.builds(
        Waiting,
        st.integers(0, 9999).map(lambda number: f"run-{number:04}"),
        st.sampled_from(SERVICES),
        st.sampled_from(Trigger),
        st.integers(0, 299).map(lambda seconds: NOON - timedelta(seconds=seconds)),
    ),
    max_size=20,
    unique_by=lambda run: run.run_id,
)
COUNTS = st.dictionaries(st.sampled_from(SERVICES), st.integers(0, 5))


@given(WAITING, COUNTS, COUNTS)
def test_everybody_has_one_place_and_within_a_service_class_and_age_decide(
    waiting: list[Waiting], going: dict[str, int], turns: dict[str, int]
) -> None:
    ordered = in_order(waiting, going, NOON, turns)
    assert sorted(run.run_id for run in ordered) == sorted(run.run_id for run in waiting)
    for service in SERVICES:
        line = [run for run in ordered if run.service_id == service]
        assert line == sorted(line, key=lambda run: (CLASSES[run.trigger], run.created_at, run.run_id))


@given(WAITING, COUNTS, COUNTS)
def test_no_service_gets_a_slot_while_another_that_waits_has_fewer(
    waiting: list[Waiting], going: dict[str, int], turns: dict[str, int]
) -> None:
    taken, left = Counter(going), Counter(run.service_id for run in waiting)
    for run in in_order(waiting, going, NOON, turns):
        assert taken[run.service_id] == min(taken[each] for each in left)
        taken[run.service_id] += 1
        left -= Counter([run.service_id])


@given(st.lists(st.sampled_from("abcdefgh"), max_size=60), st.integers(1, 8))
def test_the_last_turns_are_remembered_in_their_order_and_no_more_of_them(taken: list[str], most: int) -> None:
    turns = Turns(most)
    for service in taken:
        turns.take(service)
    last = list(dict.fromkeys(reversed(taken)))[:most]  # the newest first
    assert sorted(turns.numbers, key=turns.numbers.__getitem__, reverse=True) == last
    line = [_waiting(service, service, 60) for service in {*taken}]
    assert [run.service_id for run in in_order(line, {}, NOON, turns.numbers)][len(line) - len(last) :] == last[::-1]


@given(WAITING, st.lists(st.sampled_from(SERVICES)))
def test_on_one_slot_services_take_turns_however_long_the_line_of_one_is(
    waiting: list[Waiting], taken: list[str]
) -> None:
    served = [run.service_id for run in _serve(waiting, taken)]
    left = Counter(served)
    for before, service in pairwise(served):
        left -= Counter([before])
        assert service != before or set(left) == {before}


def test_who_never_had_a_turn_goes_first_and_among_those_the_one_that_waited_longest() -> None:
    line = [_waiting("a", "srv-a", 60), _waiting("b", "srv-b", 30), _waiting("c", "srv-c", 40)]
    assert [run.run_id for run in in_order(line, {}, NOON, {"srv-a": 7})] == ["c", "b", "a"]


def test_five_minutes_of_waiting_lift_a_run_by_one_class() -> None:
    batch = _waiting("batch", "srv-a", 2 * LIFT_AFTER.total_seconds(), Trigger.BATCH)
    assert [run.run_id for run in in_order([_waiting("person", "srv-a", 1), batch], {}, NOON)] == ["batch", "person"]


def _waiting(run_id: str, service: str, seconds: float, trigger: Trigger = Trigger.MANUAL) -> Waiting:
    return Waiting(run_id, service, trigger, NOON - timedelta(seconds=seconds))


def _serve(waiting: list[Waiting], taken: list[str]) -> Iterable[Waiting]:
    """One slot, given again and again, as the dispatcher does."""
    waiting, turns = list(waiting), Turns()
    for service in taken:
        turns.take(service)
    while waiting:
        run = in_order(waiting, {}, NOON, turns.numbers)[0]
        turns.take(run.service_id)
        waiting.remove(run)
        yield run
