"""Tokens of log streams: what can be sent as a header, and no refusal that repeats one."""

from __future__ import annotations

import pytest

from oneoff.core.log_stream import LogStreamKind, check_token, header_of
from oneoff.errors import InvalidLogStream


@pytest.mark.parametrize(
    "token", ["s3cret ", " s3cret", "X-Key: s3cret ", "Host: s3cret", "content-length: 5", "s3\ncret"]
)
def test_a_token_that_is_no_header_is_refused_without_being_repeated(token: str) -> None:
    with pytest.raises(InvalidLogStream) as refused:
        check_token(LogStreamKind.OTLP, token)
    assert "s3" not in str(refused.value)


def test_a_token_is_a_header_of_its_own_or_that_of_a_bearer() -> None:
    assert header_of(check_token(LogStreamKind.OTLP, "X-Key: s3cret")) == ("X-Key", "s3cret")
    assert header_of(check_token(LogStreamKind.OTLP, "s3cret")) == ("Authorization", "Bearer s3cret")
    assert check_token(LogStreamKind.SYSLOG, "Host: s3cret") == "Host: s3cret"
