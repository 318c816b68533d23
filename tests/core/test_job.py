"""What a job is called, and how more arguments join its command."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oneoff.core.command import Command
from oneoff.core.job import check_job_name, with_arguments
from oneoff.errors import InvalidName

words = st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8), min_size=1, max_size=4)


@pytest.mark.parametrize("name", ["", "Migrate", "-a", "a-", "1a", "a" * 64, "a:b", "a/b", "ü"])
def test_a_name_that_breaks_the_rule_is_refused_naming_its_field(name: str) -> None:
    with pytest.raises(InvalidName) as refused:
        check_job_name(name)
    assert refused.value.field == "name"


def test_no_arguments_leave_the_command_as_it_is() -> None:
    assert with_arguments(Command(shell="a | b"), ()) == Command(shell="a | b")


def test_a_list_gets_its_arguments_as_they_are() -> None:
    assert with_arguments(Command(("a", "b")), ("c d", "$e")) == Command(("a", "b", "c d", "$e"))


@given(words)
def test_a_shell_command_gets_each_argument_as_one_word(arguments: list[str]) -> None:
    shell = with_arguments(Command(shell="printf '%s\\0'"), arguments).shell
    assert shell is not None
    out = subprocess.run(["/bin/sh", "-c", shell], capture_output=True, check=True).stdout
    assert out.decode().split("\0")[:-1] == arguments
