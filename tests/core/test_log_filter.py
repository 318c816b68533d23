"""Which lines are wanted: text, wildcards and expressions, and none that takes for ever."""

from __future__ import annotations

import re
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


@pytest.mark.parametrize("pattern", [r"(a)\1", "(?=a)b", "(?<!a)b", "(?>a)", "a++", "(a{99}){99}", "("])
def test_what_looks_around_or_is_no_expression_is_refused(pattern: str) -> None:
    with pytest.raises(InvalidBody, match="text"):
        make_filter(f"/{pattern}/", "text")


def test_a_pattern_has_its_limit() -> None:
    with pytest.raises(InvalidBody, match="at most 500"):
        make_filter("a" * 501, "text")


HARD = (
    "a?" * 60 + "a" * 60 + "b",
    "(a+)+b",
    "(a|aa)*b",
    "(a|a)" * 50 + "b",
    "[ab]*[ab]*[ab]*[xy]",
    "(.{0,20}){9}x",
    ".*.*.*x",
)


@pytest.mark.parametrize("pattern", HARD)
def test_no_expression_takes_for_ever(pattern: str) -> None:
    """Python's own matcher takes hours for these, and nobody else works meanwhile."""
    began = time.monotonic()
    matches = make_filter(f"/{pattern}/", "text")
    assert not any(matches("a" * 1_000_000) for _ in range(10))
    assert time.monotonic() - began < 20


_ATOMS = st.sampled_from(["a", "b", "_", ".", "[^a]", "[a-c ]", r"\w", r"\s", r"\b", r"\B", "^", "$", "()", "(?i:B)"])
_EXPRESSIONS = st.recursive(
    _ATOMS,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map("".join),
        st.lists(inner, min_size=2, max_size=3).map(lambda parts: f"({'|'.join(parts)})"),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "*?", "{2}", "{0,2}", "{1,}"])).map(
            lambda of: f"(?:{of[0]}){of[1]}"
        ),
    ),
    max_leaves=6,
)


@given(_EXPRESSIONS, st.text("abB_ c", min_size=1, max_size=8))
def test_expressions_mean_what_they_mean_to_python(pattern: str, value: str) -> None:
    assert make_filter(f"/{pattern}/", "text")(value) == (re.search(pattern, value) is not None)
