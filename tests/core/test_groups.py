"""Concurrency groups: never above the limit, nobody held back without need, each blocked run told why."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oneoff.core.groups import Group, admit, make_group
from oneoff.core.queue import Waiting, in_order
from oneoff.core.run import Trigger
from oneoff.errors import InvalidGroup

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
WAITING = st.lists(
    st.builds(
        Waiting,
        st.integers(0, 9999).map(lambda number: f"run-{number:04}"),
        st.sampled_from(["srv-a", "srv-b"]),
        st.sampled_from(Trigger),
        st.integers(0, 900).map(lambda seconds: NOON - timedelta(seconds=seconds)),
    ),
    max_size=12,
    unique_by=lambda run: run.run_id,
)
GROUPS = [Group("db-migrate", 1), Group("mail", 3)]


@given(WAITING, st.data())
def test_a_group_is_used_up_to_its_limit_and_never_above(waiting: list[Waiting], data: st.DataObject) -> None:
    chosen = {run.run_id: data.draw(st.sampled_from([None, *GROUPS])) for run in waiting}
    groups = {run_id: group for run_id, group in chosen.items() if group is not None}
    going = {group.name: data.draw(st.integers(0, 4)) for group in GROUPS}
    blocked = {run.run_id: "an older run of its job" for run in waiting if data.draw(st.booleans())}
    ordered = in_order(waiting, {}, NOON)
    admission = admit(ordered, groups, going, blocked)

    assert [run for run in ordered if run in admission.free] == list(admission.free)
    assert {run.run_id for run in waiting} == {run.run_id for run in admission.free} | admission.blocked.keys()
    assert not {run.run_id for run in admission.free} & admission.blocked.keys()
    started = Counter(groups[run.run_id].name for run in admission.free if run.run_id in groups)
    for group in GROUPS:
        wanting = [run_id for run_id, its in groups.items() if its == group and run_id not in blocked]
        room = max(0, group.limit - going[group.name])
        assert started[group.name] == min(room, len(wanting))
    for run_id, why in admission.blocked.items():
        assert why == blocked.get(run_id) or (run_id in groups and groups[run_id].name in why)
    assert all(run.run_id in admission.blocked or run in admission.free for run in waiting)


@given(WAITING, st.integers(0, 12), st.data())
def test_no_more_are_free_than_the_plan_has_room_for_and_the_others_keep_their_order(
    waiting: list[Waiting], room: int, data: st.DataObject
) -> None:
    groups = {run.run_id: GROUPS[0] for run in waiting if data.draw(st.booleans())}
    ordered = in_order(waiting, {}, NOON)
    without, within = admit(ordered, groups, {}, {}), admit(ordered, groups, {}, {}, room)
    assert within.blocked == without.blocked
    assert (*within.free, *within.beyond) == without.free
    assert len(within.free) == min(room, len(without.free))


def test_the_first_in_line_takes_the_place() -> None:
    line = [Waiting(f"run-{n}", "srv-a", Trigger.MANUAL, NOON + timedelta(seconds=n)) for n in range(3)]
    groups = {run.run_id: GROUPS[0] for run in line}
    admission = admit(line, groups, {}, {})
    assert admission.free == (line[0],)
    assert admission.blocked == {run.run_id: "group db-migrate: 1 at once" for run in line[1:]}


def test_a_group_is_checked() -> None:
    assert make_group("db-migrate", 1000) == Group("db-migrate", 1000)
    for name, limit in (("DB", 1), ("", 1), ("-a", 1), ("a", 0), ("a", 1001)):
        with pytest.raises(InvalidGroup):
            make_group(name, limit)
