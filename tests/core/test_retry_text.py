"""Retry policies survive their way through the store."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oneoff.core.retry import RETRIABLE, BackOff, RetryPolicy
from oneoff.core.retry_text import from_text, make_retries, to_text
from oneoff.errors import InvalidRetries

policies = st.builds(
    RetryPolicy,
    count=st.integers(1, 20),
    back_off=st.sampled_from(BackOff),
    delay_seconds=st.integers(0, 60),
    most_delay_seconds=st.integers(60, 3600),
    exit_codes=st.frozensets(st.integers(1, 255)),
    reasons=st.frozensets(st.sampled_from(sorted(RETRIABLE)), min_size=1),
)


@given(policies)
def test_a_policy_is_read_back_as_it_was(policy: RetryPolicy) -> None:
    text = to_text(policy)
    assert text is not None
    assert from_text(text) == policy


def test_a_policy_that_was_kept_under_other_rules_is_still_read() -> None:
    text = to_text(RetryPolicy(21, reasons=frozenset()))
    assert text is not None
    assert (from_text(text).count, from_text(text).reasons) == (21, frozenset())


def test_no_retries_are_no_policy() -> None:
    assert to_text(make_retries({"count": 0})) is None


@pytest.mark.parametrize(
    "given_", [{"count": 21}, {"count": 1, "exit_codes": [0]}, {"count": 1, "reasons": ["canceled"]}]
)
def test_what_breaks_a_rule_is_refused(given_: dict[str, object]) -> None:
    with pytest.raises(InvalidRetries):
        make_retries(given_)
