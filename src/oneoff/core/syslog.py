"""Log lines as RFC 5424 has them, in the frames of RFC 5425 and RFC 6587. Pure; `senders.syslog` sends them.

    <14>1 2026-11-26T21:05:35.123456Z shop-production-web migrate run-… stdout [oneoff@32473 run="run-…" …] text

32473 is the enterprise number that RFC 5612 sets aside for examples: Oneoff has none of its own.
"""

from __future__ import annotations

import re
from functools import lru_cache

from oneoff.core.clock import from_us
from oneoff.core.log_level import Level, level_of
from oneoff.core.log_lines import LogLine
from oneoff.core.log_origin import LogOrigin

SD_ID = "oneoff@32473"
MOST_MESSAGE_BYTES = 8_192  # of which rsyslog keeps all by default
MOST_DATAGRAM_BYTES = 2_048  # what RFC 5426 says that receivers should take
_FACILITY = 1  # user-level messages
_BOM = b"\xef\xbb\xbf"
_NIL = "-"
_MARK_BYTES = 40  # for " [123 bytes more]"
_HOSTNAME, _APP_NAME, _PROCID, _MSGID = 255, 48, 128, 32  # the longest of each
_NOT_PRINTABLE = re.compile(r"[^!-~]")
# "The syslog application SHOULD avoid octet values below 32": as rsyslog writes those that it receives.
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_TOKEN_ELEMENT = re.compile(r'\[[!#-<>-\\^-~]{1,32}( [!#-<>-\\^-~]{1,32}="([^"\\\]]|\\["\\\]])*")*\]')


class SyslogWriter:
    """Writes the messages of one stream. A token is told in the structured data: as the parameter `token`, or, when it
    is a whole element itself (`[name@12345 key="…"]`), as that element."""

    def __init__(self, token: str | None, most_bytes: int = MOST_MESSAGE_BYTES) -> None:
        self._token = _token_of(token)
        self._most = most_bytes

    def write(self, origin: LogOrigin, line: LogLine) -> bytes:
        """One message, `most_bytes` at most."""
        level = Level.WARNING if line.is_notice else level_of(line.data, line.stream)
        seconds, microseconds = divmod(line.time_us, 1_000_000)
        names, known = _head_of(origin, "notice" if line.is_notice else line.stream)
        changing = f' position="{line.position}"{_notice_of(line)} stream="{line.stream}"'
        head = f"<{_FACILITY * 8 + level}>1 {_second(seconds)}.{microseconds:06d}Z {names} [{SD_ID}{known}{changing}"
        start = head.encode() + self._token
        return start + to_msg(line, max(0, self._most - len(start)))


def is_token_element(token: str) -> bool:
    """Whether it is a structured data element, complete and well-formed."""
    return _TOKEN_ELEMENT.fullmatch(token) is not None


def to_msg(line: LogLine, most_bytes: int) -> bytes:
    """The text in `most_bytes`, with a mark where some of it is missing. UTF-8 beyond ASCII begins with a byte order
    mark (section 6.4); what is not UTF-8 goes as it came."""
    data, is_text = line.data, _is_utf8(line.data)
    if line.cut_bytes and not is_text:
        whole = whole_characters(data)
        is_text = _is_utf8(whole)
    if not is_text and data.startswith(_BOM):  # would say that it is UTF-8
        data, is_text = data.decode(errors="replace").encode(), True
    bom = _BOM if is_text and not data.isascii() else b""
    escaped = _without_control(data)
    if len(bom) + len(escaped) <= most_bytes and not line.cut_bytes:
        return bom + escaped
    room = most_bytes - len(bom) - _MARK_BYTES
    if room <= 0:
        return escaped[:most_bytes] if not is_text else whole_characters(escaped[:most_bytes])
    kept = _fitting(data, room)
    if is_text:
        kept = whole_characters(kept)
    return bom + _without_control(kept) + b" [%d bytes more]" % (len(data) - len(kept) + line.cut_bytes)


def whole_characters(data: bytes) -> bytes:
    """Without the beginning of a character at the end."""
    for back in range(1, min(4, len(data)) + 1):
        byte = data[-back]
        if byte < 0x80:
            return data
        if byte >= 0xC0:
            needed = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return data[:-back] if needed > back else data
    return data


def frame_by_octets(message: bytes) -> bytes:
    """RFC 5425, section 4.3, and RFC 6587, section 3.4.1."""
    return b"%d " % len(message) + message


def frame_by_newline(message: bytes) -> bytes:
    """RFC 6587, section 3.4.2: messages hold no newline, as control characters are escaped."""
    return message + b"\n"


def _without_control(data: bytes) -> bytes:
    return _CONTROL.sub(lambda match: b"#%03o" % match[0][0], data)


def _fitting(data: bytes, room: int) -> bytes:
    """As much of its beginning as is within `room` bytes when it is escaped."""
    kept = data[:room]
    while (over := len(_without_control(kept)) - room) > 0:
        kept = kept[: -max(1, over // 4)]
    return kept


@lru_cache(maxsize=1_024)
def _head_of(origin: LogOrigin, msgid: str) -> tuple[str, str]:
    """What is the same in all messages of a run: the names, and the parameters before the position. Run and position
    together are unique, and the same when a line is sent again."""
    names = (
        _name(origin.service.replace("/", "-"), _HOSTNAME),
        _name(origin.job or "run", _APP_NAME),
        _name(origin.run_id, _PROCID),
        _name(msgid, _MSGID),
    )
    told = {"run": origin.run_id, "service": origin.service, "job": origin.job, "attempt": str(origin.attempt)}
    return " ".join(names), "".join(f' {name}="{_escape(v)}"' for name, v in told.items() if v is not None)


def _notice_of(line: LogLine) -> str:
    dropped = f' dropped="{line.dropped}"' if line.dropped else ""
    return dropped + (f' missing_bytes="{line.missing_bytes}"' if line.missing_bytes else "")


def _token_of(token: str | None) -> bytes:
    """The end of the structured data."""
    if token is None:
        return b"] "
    return f"]{token} ".encode() if is_token_element(token) else f' token="{_escape(token)}"] '.encode()


@lru_cache(maxsize=64)
def _second(seconds: int) -> str:
    return from_us(seconds * 1_000_000).strftime("%Y-%m-%dT%H:%M:%S")


def _name(text: str, most: int) -> str:
    return _NOT_PRINTABLE.sub("?", text)[:most] or _NIL


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("]", "\\]")


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
