"""Batches: counts add up whatever happens, never too many items are going, and the end says what became of them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oneoff.core.batch import (
    MOST_ITEMS,
    BatchStatus,
    ItemStatus,
    Progress,
    check_batch,
    check_item_variables,
    conclude_batch,
    item_status_of,
    items_to_begin,
    rerun_statuses,
    size_of,
    stopping_index,
)
from oneoff.core.run import FINAL
from oneoff.core.variables import MOST_BYTES_IN_ALL
from oneoff.errors import InvalidBatch, InvalidVariables

ENDS = [ItemStatus.SUCCEEDED, ItemStatus.FAILED, ItemStatus.CANCELED, ItemStatus.STOPPED]


@settings(max_examples=40)
@given(items=st.integers(1, 25), most=st.integers(1, 10), data=st.data())
def test_a_batch_comes_to_its_end_and_never_more_than_its_share_is_going(
    items: int, most: int, data: st.DataObject
) -> None:
    progress, seen = Progress(items), list[ItemStatus]()
    while not progress.has_ended:
        progress = progress.begin(items_to_begin(progress, most))
        assert 0 < progress.going <= most
        count = data.draw(st.integers(1, progress.going))
        ended = data.draw(st.lists(st.sampled_from(ENDS), min_size=count, max_size=count))
        seen += ended
        progress = progress.end(ended)
        if data.draw(st.booleans()) and data.draw(st.booleans()):
            seen += [ItemStatus.STOPPED] * progress.waiting
            progress = progress.give_up(progress.waiting)
        assert progress.waiting + progress.going + progress.succeeded + progress.failed + progress.canceled == items
        assert min(progress.waiting, progress.going, progress.canceled) >= 0
    assert (progress.succeeded, progress.failed) == (seen.count(ItemStatus.SUCCEEDED), seen.count(ItemStatus.FAILED))
    assert len(seen) == items
    assert items_to_begin(progress, most) == 0


@given(succeeded=st.integers(0, 3), failed=st.integers(0, 3), canceled=st.integers(0, 3), is_canceled=st.booleans())
def test_the_end_of_a_batch_is_told_from_its_counts(
    succeeded: int, failed: int, canceled: int, is_canceled: bool
) -> None:
    items = succeeded + failed + canceled
    status = conclude_batch(Progress(items, 0, succeeded, failed, canceled), is_canceled=is_canceled)
    assert status is not BatchStatus.RUNNING
    assert (status is BatchStatus.SUCCEEDED) == (failed + canceled == 0)
    if is_canceled and canceled:
        assert status is BatchStatus.CANCELED
    elif failed:
        assert status is BatchStatus.FAILED
    assert conclude_batch(Progress(items + 1, 0, succeeded, failed, canceled), is_canceled=True) is BatchStatus.RUNNING
    going = Progress(items + 1, 1, succeeded, failed, canceled)
    assert conclude_batch(going, is_canceled=is_canceled) is BatchStatus.RUNNING


def test_every_end_of_a_run_is_one_of_an_item() -> None:
    assert {item_status_of(status).value for status in FINAL} == {status.value for status in FINAL}


@given(failed=st.sets(st.integers(0, 50)))
def test_the_first_item_that_failed_stops_a_batch_only_when_it_is_wanted(failed: set[int]) -> None:
    assert stopping_index(False, failed) is None
    assert stopping_index(True, failed) == (min(failed) if failed else None)


def test_what_succeeded_is_never_run_again_and_what_was_canceled_only_when_it_is_wanted() -> None:
    assert rerun_statuses(with_canceled=False) == {ItemStatus.FAILED, ItemStatus.STOPPED}
    assert rerun_statuses(with_canceled=True) == {ItemStatus.FAILED, ItemStatus.STOPPED, ItemStatus.CANCELED}


@pytest.mark.parametrize(("items", "most"), [(0, 4), (MOST_ITEMS + 1, 4), (1, 0), (1, 1_001)])
def test_too_few_and_too_many_are_refused(items: int, most: int) -> None:
    with pytest.raises(InvalidBatch):
        check_batch(items, most)


def test_the_largest_batch_is_allowed() -> None:
    check_batch(MOST_ITEMS, 1_000)


def test_variables_of_an_item_count_beside_those_of_its_service() -> None:
    half = {f"V{number}": "x" * 100_000 for number in range(5)}
    sizes = {name: size_of(name, value) for name, value in half.items()}
    own = {f"W{number}": "x" * 99_000 for number in range(5)}
    check_item_variables(own, sizes, sum(sizes.values()))
    check_item_variables(half, sizes, sum(sizes.values()))  # takes the place of the others
    with pytest.raises(InvalidVariables, match=str(MOST_BYTES_IN_ALL)):
        check_item_variables({**own, "ONE": "x" * 10_000}, sizes, sum(sizes.values()))
    with pytest.raises(InvalidVariables, match="reserved"):
        check_item_variables({"ONEOFF_X": "1"}, {}, 0)
