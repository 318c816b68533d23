"""What is said of a program that the image does not have."""

from __future__ import annotations

import pytest

from oneoff.core.command import explain_missing, make_command
from oneoff.errors import InvalidCommand


@pytest.mark.parametrize(
    ("argv0", "words"),
    [
        ("python", "none of PATH has it (/bin)"),
        ("./manage.py", "a relative path starts at the working directory, /srv"),
        ("/opt/tool", ""),
        ("cd", "a shell builtin needs `--shell`"),
        ("ls -l", "it is one word with blanks: give the words one by one, or use `--shell`"),
    ],
)
def test_a_missing_program_is_explained_by_how_it_was_named(argv0: str, words: str) -> None:
    assert explain_missing(argv0, "/bin", "/srv") == words


@pytest.mark.parametrize("argument", ["", "x" * 100_000])
def test_a_command_that_no_kernel_executes_is_refused(argument: str) -> None:
    most = 1_000_000 // (len(argument) + 9)
    assert make_command(["x", *[argument] * (most - 1)], None).argv
    with pytest.raises(InvalidCommand, match="in all"):
        make_command(["x", *[argument] * (most + 1)], None)
