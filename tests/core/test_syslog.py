"""Messages are what RFC 5424 says, by a reader written from its grammar."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oneoff.core.log_lines import LogLine
from oneoff.core.log_origin import LogOrigin
from oneoff.core.syslog import SyslogWriter, frame_by_newline, frame_by_octets, is_token_element

ORIGIN = LogOrigin("run-0000000000000000000a", "srv-0000000000000000000b", "shop/production/web", "migrate", 2, "n1")
# Section 6. PRINTUSASCII is %d33-126; a PARAM-VALUE holds '"', '\' and ']' only behind a '\'.
_VALUE = rb'(?:[^"\\\]]|\\["\\\]])*'
_ELEMENT = rb'\[[!#-<>-\\^-~]{1,32}(?: [!#-<>-\\^-~]{1,32}="' + _VALUE + rb'")*\]'
_MESSAGE = re.compile(
    rb"<(?P<pri>[1-9]?[0-9]|1[0-8][0-9]|19[01])>1 "
    rb"(?P<time>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{1,6}Z) "
    rb"(?P<host>[!-~]{1,255}) (?P<app>[!-~]{1,48}) (?P<proc>[!-~]{1,128}) (?P<msgid>[!-~]{1,32}) "
    rb"(?P<sd>(?:" + _ELEMENT + rb")+)(?: (?P<msg>.*))?",
    re.DOTALL,
)
_BOM = b"\xef\xbb\xbf"


def line(data: bytes, stream: str = "stdout", **more: int) -> LogLine:
    return LogLine(stream, 1_764_191_135_123_456, 42, data, **more)


def parse(message: bytes) -> dict[str, bytes]:
    match = _MESSAGE.fullmatch(message)
    assert match is not None, message
    return match.groupdict()


def parameters(sd: bytes) -> dict[bytes, bytes]:
    found = re.findall(rb' ([!#-<>-\\^-~]{1,32})="(' + _VALUE + rb')"', sd)
    return {name: re.sub(rb'\\(["\\\]])', rb"\1", value) for name, value in found}


def test_a_message_reads_as_documented() -> None:
    assert SyslogWriter("s3cret").write(ORIGIN, line(b"applied 3 migrations")) == (
        b"<14>1 2025-11-26T21:05:35.123456Z shop-production-web migrate run-0000000000000000000a stdout "
        b'[oneoff@32473 run="run-0000000000000000000a" service="shop/production/web" job="migrate" attempt="2" '
        b'position="42" stream="stdout" token="s3cret"] applied 3 migrations'
    )


@given(st.binary(max_size=400), st.integers(400, 3_000), st.sampled_from([0, 7]))
def test_whatever_a_command_writes_the_message_is_well_formed_and_within_its_length(
    data: bytes, most: int, cut: int
) -> None:
    message = SyslogWriter(None, most).write(ORIGIN, line(data, cut_bytes=cut))
    assert len(message) <= most
    msg = parse(message)["msg"]
    assert not re.search(rb"[\x00-\x08\x0a-\x1f\x7f]", msg)
    if msg.startswith(_BOM):
        msg.decode()
    if msg.isascii():
        assert not msg.startswith(_BOM)


@given(st.text(st.characters(min_codepoint=32, exclude_categories=["Cc", "Cs"]), max_size=300))
def test_text_comes_whole_with_a_byte_order_mark_only_beyond_ascii(text: str) -> None:
    msg = parse(SyslogWriter(None).write(ORIGIN, line(text.encode())))["msg"]
    assert msg == text.encode() if text.isascii() else msg == _BOM + text.encode()


@given(st.text(min_size=20, max_size=40).map(lambda text: text * 20), st.integers(330, 420))
def test_what_is_cut_is_counted_and_no_character_is_halved(text: str, most: int) -> None:
    msg = parse(SyslogWriter(None, most).write(ORIGIN, line(text.encode())))["msg"]
    shown = msg.removeprefix(_BOM).decode()
    match = re.fullmatch(r"(.*) \[(\d+) bytes more\]", shown, re.DOTALL)
    assert match is not None
    kept = re.sub(r"#(\d{3})", lambda found: chr(int(found[1], 8)), match[1])
    if "#" not in text:
        assert len(kept.encode()) + int(match[2]) == len(text.encode())
        assert text.startswith(kept)


def test_bytes_that_are_no_utf_8_go_as_they_came() -> None:
    assert parse(SyslogWriter(None).write(ORIGIN, line(b"caf\xe9")))["msg"] == b"caf\xe9"
    # These would say that they are UTF-8.
    assert parse(SyslogWriter(None).write(ORIGIN, line(_BOM + b"\xe9")))["msg"] == _BOM + (_BOM + b"\xef\xbf\xbd")


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=60))
def test_a_token_stays_within_its_parameter(token: str) -> None:
    found = parse(SyslogWriter(token).write(ORIGIN, line(b"x")))
    if not is_token_element(token):
        assert parameters(found["sd"])[b"token"] == token.encode()
    assert found["msg"] == b"x"


def test_a_token_that_is_an_element_stands_beside_ours() -> None:
    sd = parse(SyslogWriter('[logtail@11993 source_token="abc"]').write(ORIGIN, line(b"x")))["sd"]
    assert sd.endswith(b'stream="stdout"][logtail@11993 source_token="abc"]')
    assert b" token=" not in sd


@pytest.mark.parametrize("token", ['[a b="c"', '[a b="]"]', "[a b=c]", '[a b="c"] [d e="f"]', "[]", '[a b="c"]x'])
def test_what_is_no_whole_element_is_a_plain_token(token: str) -> None:
    assert not is_token_element(token)


def test_names_are_printable_and_cut_to_their_length() -> None:
    origin = LogOrigin("run-" + "x" * 200, "srv-1", "a b/ü/" + "y" * 300, "j" * 60, 1, "n")
    found = parse(SyslogWriter(None).write(origin, line(b"x")))
    assert (len(found["host"]), len(found["app"]), len(found["proc"])) == (255, 48, 128)
    assert found["host"].startswith(b"a?b-?-y")


def test_an_ad_hoc_run_and_dropped_lines_have_their_own_words() -> None:
    origin = LogOrigin("run-1", "srv-1", "shop/production/web", None, 1, "n")
    found = parse(SyslogWriter(None).write(origin, line(b"12 lines dropped", dropped=12)))
    assert (found["pri"], found["app"], found["msgid"]) == (b"12", b"run", b"notice")
    assert parameters(found["sd"])[b"dropped"] == b"12"


@given(st.binary(max_size=50))
def test_frames_can_be_told_apart(data: bytes) -> None:
    message = SyslogWriter(None).write(ORIGIN, line(data))
    length, _, rest = frame_by_octets(message).partition(b" ")
    assert (int(length), rest) == (len(message), message)
    assert frame_by_newline(message).count(b"\n") == 1
