"""Requests of a token in a minute."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oneoff.core.plan import PLANS, Plan
from oneoff.errors import PlanHasNoJobs, TooManyRequests
from oneoff.operations.rates import WINDOW_SECONDS, Allowance, RequestRates

SMALL = Plan("Small", 60, requests_per_minute=3)


def test_a_window_lasts_a_minute_from_its_first_request() -> None:
    rates = RequestRates({**PLANS, "small": SMALL})
    assert [rates.count("tok-a", SMALL, now) for now in (10.0, 20.0, 69.5)] == [
        Allowance(3, 2, 60), Allowance(3, 1, 50), Allowance(3, 0, 1),
    ]  # fmt: skip
    with pytest.raises(TooManyRequests, match=r"the 3 requests a minute of the Small plan: go on in 1 s, or .* Pro or"):
        rates.count("tok-a", SMALL, 69.9)
    assert rates.count("tok-b", SMALL, 69.9) == Allowance(3, 2, 60)
    assert rates.count("tok-a", SMALL, 70.0) == Allowance(3, 2, 60)


def test_a_plan_without_requests_lets_nobody_in() -> None:
    with pytest.raises(PlanHasNoJobs):
        RequestRates(PLANS).count("tok-a", PLANS["starter"], 0.0)


@given(st.lists(st.floats(0, 40), max_size=60))
def test_no_window_lets_more_in_than_the_plan_says(pauses: list[float]) -> None:
    rates, now, let_in = RequestRates(PLANS), 0.0, [-1e9]
    for pause in pauses:
        now += pause
        lately = [at for at in let_in if at > now - WINDOW_SECONDS]
        try:
            rates.count("tok-a", SMALL, now)
        except TooManyRequests:
            assert len(lately) >= SMALL.requests_per_minute  # nobody is refused without need
        else:
            assert len(lately) < 2 * SMALL.requests_per_minute  # two windows that touch, at the very most
            let_in.append(now)
