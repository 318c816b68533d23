"""Log lines as RFC 5424 has them, in the frames of RFC 5425 and RFC 6587. Pure; `senders.syslog` sends them.

    <14>1 2026-11-26T21:05:35.123456Z shop-production-web migrate run-… stdout [oneoff@32473 run="run-…" …] text

32473 is the enterprise number that RFC 5612 sets aside for examples: Oneoff has none of its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

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
        is_element = token is not None and is_token_element(token)
        self._element = token.encode() if token is not None and is_element else b""
        self._token = {} if token is None or is_element else {"token": token}
        self._most = most_bytes

    def write(self, origin: LogOrigin, line: LogLine) -> bytes:
        """One message, `most_bytes` at most."""
        level = Level.WARNING if line.is_notice else level_of(line.data, line.stream)
        moment = from_us(line.time_us).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        names = (
            _name(origin.service.replace("/", "-"), _HOSTNAME),
            _name(origin.job or "run", _APP_NAME),
            _name(origin.run_id, _PROCID),
            _name("notice" if line.is_notice else line.stream, _MSGID),
        )
        head = f"<{_FACILITY * 8 + level}>1 {moment} {' '.join(names)} ".encode()
        head += write_element(SD_ID, parameters_of(origin, line) | self._token) + self._element + b" "
        return head + to_msg(line, max(0, self._most - len(head)))


def is_token_element(token: str) -> bool:
    """Whether it is a structured data element, complete and well-formed."""
    return _TOKEN_ELEMENT.fullmatch(token) is not None


def parameters_of(origin: LogOrigin, line: LogLine) -> dict[str, str]:
    """Run and position together are unique, and the same when a line is sent again."""
    told = {"run": origin.run_id, "position": str(line.position), "service": origin.service}
    if origin.job is not None:
        told["job"] = origin.job
    told |= {"stream": line.stream, "attempt": str(origin.attempt)}
    if line.dropped:
        told["dropped"] = str(line.dropped)
    if line.missing_bytes:
        told["missing_bytes"] = str(line.missing_bytes)
    return told


def write_element(sd_id: str, parameters: Mapping[str, str]) -> bytes:
    told = "".join(f' {name}="{_escape(value)}"' for name, value in parameters.items())
    return f"[{sd_id}{told}]".encode()


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
