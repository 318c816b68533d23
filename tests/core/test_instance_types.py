"""The catalogue, one from a file, and the choice from it."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oneoff.core.instance_types import (
    CATALOGUE,
    InstanceClass,
    InstanceType,
    choose_instance_type,
    default_for,
    parse_instance_types,
)
from oneoff.core.service import ServiceType
from oneoff.errors import InstanceTypeTooLarge, SettingsInvalid, UnknownInstanceType

SMALL: dict[str, Any] = {"name": "Small", "class": "service", "memory": "256MB", "cpus": Decimal("0.25")}
TABLE = {"s": {**SMALL, "usd_per_month": 3}, "c": {**SMALL, "class": "cron", "usd_per_minute": Decimal("0.00016")}}

LARGE = (64, 256 << 30)  # a node that holds every type


def test_a_file_is_read_with_exact_prices_in_its_order() -> None:
    assert parse_instance_types(TABLE) == (
        InstanceType("s", "Small", InstanceClass.SERVICE, 256 << 20, 0.25, Fraction(3, 30 * 86_400)),
        InstanceType("c", "Small", InstanceClass.CRON, 256 << 20, 0.25, Fraction(16, 100_000 * 60)),
    )


@given(st.decimals(0, 10**6, places=7), st.sampled_from([("usd_per_second", 1), ("usd_per_hour", 3600)]))
def test_no_price_is_rounded(amount: Decimal, unit: tuple[str, int]) -> None:
    found = parse_instance_types({**TABLE, "x": {**SMALL, unit[0]: amount}})
    assert found[2].usd_per_second * unit[1] == Fraction(amount)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"class": "worker"}, "class must be service or cron"),
        ({"memory": 512}, "memory must be at least 16MB"),
        ({"memory": "1MB"}, "memory must be at least 16MB"),
        ({"cpus": 0}, "cpus must be a number"),
        ({"cpus": "two"}, "cpus must be a number"),
        ({"cpus": Decimal("NaN")}, "cpus must be a number"),
        ({"usd_per_hour": 1}, "give one price"),
        ({"usd_per_month": -1}, "usd_per_month must be a number, 0 or more"),
        ({"usd_per_month": True}, "usd_per_month must be a number, 0 or more"),
        ({"speed": 1}, "there is no field speed"),
    ],
)
def test_a_wrong_type_is_refused_with_its_field(change: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsInvalid, match=f"instance type s: {words}"):
        parse_instance_types({**TABLE, "s": TABLE["s"] | change})


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({}, "at least one type"),
        ([], "at least one type"),
        ({"s": 1, "c": TABLE["c"]}, "must be a table of fields"),
        ({"s": TABLE["s"]}, 'no type has class = "cron"'),
        ({**TABLE, "x" * 21: TABLE["s"]}, "an id is 1 to 20 of"),
        ({**TABLE, "A b": TABLE["s"]}, "an id is 1 to 20 of"),
    ],
)
def test_a_wrong_file_is_refused(table: object, words: str) -> None:
    with pytest.raises(SettingsInvalid, match=words):
        parse_instance_types(table)


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(SettingsInvalid) as caught:
        parse_instance_types({"s": {}, "c": {"class": "cron", "cpus": 1}})
    assert len(caught.value.problems) == 6


@pytest.mark.parametrize("kind", list(ServiceType))
def test_a_type_of_the_other_class_or_an_unknown_one_is_refused_with_those_that_would_do(kind: ServiceType) -> None:
    assert default_for(kind).id == ("plan-crn-003" if kind is ServiceType.CRON_JOB else "plan-srv-006")
    ours = [each.id for each in CATALOGUE if each.klass is default_for(kind).klass]
    for asked in ("plan-xyz-001", *(each.id for each in CATALOGUE if each.id not in ours)):
        with pytest.raises(UnknownInstanceType, match=f"use one of {', '.join(ours)} "):
            choose_instance_type(asked, kind, *LARGE)
        with pytest.raises(UnknownInstanceType, match=rf"use one of {ours[0]}, {ours[1]} \("):
            choose_instance_type(asked, kind, 1, 2 << 30)
    assert [choose_instance_type(asked, kind, *LARGE).id for asked in ours] == ours


def test_a_type_that_a_node_can_never_hold_is_refused_with_those_that_fit() -> None:
    with pytest.raises(InstanceTypeTooLarge, match=r"2 CPU and 4 GB. Types that fit: plan-srv-006, .*, plan-srv-010$"):
        choose_instance_type("plan-srv-011", ServiceType.WEB_SERVICE, 2, 4 << 30)
    assert choose_instance_type("plan-srv-011", ServiceType.WEB_SERVICE, 4, 8 << 30).id == "plan-srv-011"
