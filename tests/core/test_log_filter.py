"""Which lines are wanted: text, wildcards and expressions, and none that takes for ever."""

from __future__ import annotations

import time
from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oneoff.core.log_filter import make_filter
from oneoff.errors import InvalidBody


def test_text_is_looked_for_anywhere_and_without_regard_to_case() -> None:
    matches = make_filter("Error", "text")
    assert matches("an ERROR here")
    assert not matches("all well")
    assert make_filter("error", "level", whole=True)("error")
    assert not make_filter("err", "level", whole=True)("error")


@given(st.text("ab*", max_size=6), st.text("ab", max_size=8))
def test_wildcards_mean_what_they_mean_to_a_shell(pattern: str, value: str) -> None:
    assert make_filter(pattern, "text", whole=True)(value) == fnmatchcase(value, pattern)
    assert make_filter(pattern, "text")(value) == fnmatchcase(value, f"*{pattern}*")


def test_expressions_are_as_they_are_written() -> None:
    assert make_filter("/code=[45]\\d\\d/", "text")("status code=503 again")
    assert not make_filter("/^code/", "text")("status code=503")
    assert not make_filter("/Error/", "text")("error")
    assert make_filter("/(?i)Error/", "text")("error")


@pytest.mark.parametrize(
    "pattern", ["(a+)+b", "(a|aa)*", "a*b*c*d*", r"(a)\1", "(?=a)b", "(?<!a)b", "(a{1,})+", "a{1,}b{2,}c*d+", "("]
)
def test_what_could_take_for_ever_and_what_is_no_expression_is_refused(pattern: str) -> None:
    with pytest.raises(InvalidBody, match="text"):
        make_filter(f"/{pattern}/", "text")


def test_a_pattern_has_its_limit() -> None:
    with pytest.raises(InvalidBody, match="at most 500"):
        make_filter("a" * 501, "text")


def test_long_lines_are_looked_at_in_part() -> None:
    began = time.monotonic()
    assert not make_filter("/x*x*y/", "text")("x" * 1_000_000)
    assert time.monotonic() - began < 20
