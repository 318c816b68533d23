"""What is said of a program that the image does not have."""

from __future__ import annotations

import pytest

from oneoff.core.command import explain_missing


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
