"""The .env files that `env set --file` and `run --env-file` read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oneoff.cli.dotenv import parse_dotenv
from oneoff.cli.problems import CliError


@pytest.mark.parametrize(
    ("text", "variables"),
    [
        ("", {}),
        ("A=1\nB=2", {"A": "1", "B": "2"}),
        ("\ufeffA=1\r\nB=2\r\n", {"A": "1", "B": "2"}),
        ("# a comment\n\n  export A = 1  \n", {"A": "1"}),
        ("A=", {"A": ""}),
        ("A=1=2=3", {"A": "1=2=3"}),
        ("A=a b c", {"A": "a b c"}),
        ("A=value # comment", {"A": "value"}),
        ("A=# only a comment", {"A": ""}),
        ("A=http://h/#part", {"A": "http://h/#part"}),
        ("A='it is # $HOME \\n'", {"A": "it is # $HOME \\n"}),
        ('A="a\\nb\\t\\"c\\" \\\\ \\$HOME $HOME"', {"A": 'a\nb\t"c" \\ $HOME $HOME'}),
        ('A="unknown \\q stays"', {"A": "unknown \\q stays"}),
        ("A='first\nsecond=2\n# third'\nB=4", {"A": "first\nsecond=2\n# third", "B": "4"}),
        (
            'A="-----BEGIN KEY-----\nabc\n-----END KEY-----\n" # key',
            {"A": "-----BEGIN KEY-----\nabc\n-----END KEY-----\n"},
        ),
        ("A=it's", {"A": "it's"}),
        ("A=naïve ☃\u2028\u0085x", {"A": "naïve ☃\u2028\u0085x"}),
        ("A=1\nA=2", {"A": "2"}),
    ],
)
def test_it_is_read_as_written(text: str, variables: dict[str, str]) -> None:
    assert parse_dotenv(text, ".env") == variables


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("A=1\nsecret-thing\n", 2, "NAME=value"),
        ("A=1\n=secret\n", 2, "NAME=value"),
        ("1A=secret", 1, "NAME=value"),
        ("A=1\n\nB='secret\nsecret", 3, "never closed"),
        ('A="secret\nmore" secret', 2, "follows the closing"),
        ("A='secret'secret", 1, "follows the closing"),
    ],
)
def test_a_wrong_line_is_named_without_its_value(text: str, line: int, says: str) -> None:
    with pytest.raises(CliError) as caught:
        parse_dotenv(text, "my.env")
    message = str(caught.value)
    assert message.startswith(f"my.env, line {line}: ")
    assert says in message
    assert "secret" not in message


@given(st.text(st.characters(exclude_characters="\r\0", exclude_categories=["Cs"])))
def test_any_value_survives_double_quotes(value: str) -> None:
    quoted = value.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$")
    assert parse_dotenv(f'A="{quoted}"\nB=1', ".env") == {"A": value, "B": "1"}
