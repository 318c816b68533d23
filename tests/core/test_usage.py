"""Sums of exact costs: whatever is told apart, the total is the same; nothing is rounded before it is shown."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from oneoff.core.instance_types import CATALOGUE, InstanceType
from oneoff.core.terms import at_price_of, read_terms, to_terms
from oneoff.core.usage import By, UsageLine, UsageRow, fold, total_of

TYPES = st.builds(
    InstanceType,
    st.just("some"),
    st.just("Some"),
    st.just(CATALOGUE[0].klass),
    st.integers(1 << 24, 1 << 46),
    st.floats(0.01, 1024),
    st.fractions(0, 100),
)
ROWS = st.builds(
    UsageRow,
    st.integers(0, 3),
    st.sampled_from(["srv-a", "srv-b"]),
    st.just("shop/production/web"),
    st.sampled_from([None, "jdf-a", "jdf-b"]),
    st.sampled_from([each.id for each in CATALOGUE]),
    st.none() | TYPES.map(to_terms),
    st.integers(1, 100),
    st.integers(1, 10**7),
)


@given(TYPES, TYPES)
def test_terms_read_back_exactly(each: InstanceType, now: InstanceType) -> None:
    terms = read_terms(to_terms(each), "gone")
    assert (terms.cpus, terms.memory_bytes, terms.usd_per_second) == (each.cpus, each.memory_bytes, each.usd_per_second)
    again = read_terms(at_price_of(to_terms(each), now), "gone")
    assert again == replace(terms, usd_per_second=now.usd_per_second)
    assert at_price_of(None, now) == to_terms(now)
    assert len(to_terms(each)) <= 100 or each.usd_per_second.denominator > 10**30


def test_a_run_without_terms_has_those_of_the_built_in_catalogue() -> None:
    for each in CATALOGUE:
        assert read_terms(None, each.id) == read_terms(to_terms(each), each.id)
    assert read_terms(None, "gone").usd_per_second == 0


@given(st.lists(ROWS, max_size=20), st.sets(st.sampled_from(By)))
def test_the_total_does_not_depend_on_what_is_told_apart(rows: list[UsageRow], by: set[By]) -> None:
    told = [
        replace(
            row,
            day=row.day if By.DAY in by else None,
            service_id=row.service_id if By.SERVICE in by else None,
            job_id=row.job_id if By.JOB in by else None,
        )
        for row in rows
    ]
    lines = fold(told, by)
    cost = sum((row.seconds * read_terms(row.terms, row.instance_type).usd_per_second for row in rows), Fraction(0))
    total = total_of(lines)
    assert total == UsageLine(runs=sum(r.runs for r in rows), seconds=sum(r.seconds for r in rows), usd=cost)
    keys = [(line.day, line.service_id, line.job_id, line.instance_type) for line in lines]
    assert len(set(keys)) == len(keys)
    assert all((line.instance_type is not None) == (By.INSTANCE_TYPE in by) for line in lines)
