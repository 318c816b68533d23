"""Where logs can be sent: kinds of receivers, their addresses and what is allowed in them. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol, TypeVar
from urllib.parse import urlsplit

from oneoff.errors import InvalidLogStream

OTLP_PATH = "/v1/logs"
_MOST_ENDPOINT = 2_000
_HOST_PORT = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<host>[A-Za-z0-9._-]{1,253})):(?P<port>[0-9]{1,5})")
_TOKEN = re.compile(r"[ -~]{1,4000}")
_HEADER = re.compile(r"(?P<name>[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}): *(?P<value>[!-~][ -~]*)")
# Headers that say how a request is to be read, and not who sends it.
_OF_HTTP: tuple[str, ...] = ("connection", "content-encoding", "content-length", "content-type", "expect", "host", "te")
_OF_HTTP += ("trailer", "transfer-encoding", "upgrade")


class LogStreamSetting(StrEnum):
    SEND = "send"
    DROP = "drop"


class LogStreamKind(StrEnum):
    SYSLOG = "syslog"
    OTLP = "otlp"


class LogStreamProtocol(StrEnum):
    TLS = "tls"
    TCP = "tcp"
    UDP = "udp"


class Framing(StrEnum):
    OCTETS = "octets"
    NEWLINE = "newline"


@dataclass(frozen=True, slots=True)
class Receiver:
    """`protocol` and `framing` are None for OTLP, `framing` for UDP, where a datagram is a frame."""

    kind: LogStreamKind
    endpoint: str
    protocol: LogStreamProtocol | None = None
    framing: Framing | None = None

    @property
    def is_encrypted(self) -> bool:
        return self.protocol is LogStreamProtocol.TLS or self.endpoint.startswith("https:")

    @property
    def shown_endpoint(self) -> str:
        """Without the values of a URL's query: some receivers have their key there."""
        address, question, query = self.endpoint.partition("?")
        return address + question + "&".join(f"{part.partition('=')[0]}=…" for part in query.split("&") if part)


class _Stream(Protocol):
    @property
    def scope_id(self) -> str: ...
    @property
    def created_at(self) -> datetime: ...


S = TypeVar("S", bound=_Stream)


def make_receiver(
    kind: LogStreamKind, endpoint: str, protocol: LogStreamProtocol | None, framing: Framing | None
) -> Receiver:
    """Raises InvalidLogStream."""
    if len(endpoint) > _MOST_ENDPOINT:
        raise InvalidLogStream(f"it is longer than {_MOST_ENDPOINT} characters", "endpoint")
    if kind is LogStreamKind.OTLP:
        for name, value in (("protocol", protocol), ("framing", framing)):
            if value is not None:
                raise InvalidLogStream(f"{name} is for syslog: the address says http or https", name)
        return Receiver(kind, _check_url(endpoint))
    split_endpoint(endpoint)
    protocol = protocol or LogStreamProtocol.TLS
    if protocol is LogStreamProtocol.UDP:
        if framing is not None:
            raise InvalidLogStream("UDP has no framing: each line is a datagram", "framing")
        return Receiver(kind, endpoint, protocol)
    return Receiver(kind, endpoint, protocol, framing or Framing.OCTETS)


def split_endpoint(endpoint: str) -> tuple[str, int]:
    """Host and port of HOST:PORT. Raises InvalidLogStream."""
    match = _HOST_PORT.fullmatch(endpoint)
    if match is None or not 1 <= int(match["port"]) <= 65_535:
        raise InvalidLogStream(
            f"{endpoint!r} is no address: write HOST:PORT, for example logs.example.com:6514", "endpoint"
        )
    return match["v6"] or match["host"], int(match["port"])


def check_token(kind: LogStreamKind, token: str) -> str:
    """Raises InvalidLogStream, without the token in its words."""
    if not _TOKEN.fullmatch(token):
        raise InvalidLogStream("it is 1 to 4000 printable ASCII characters", "token")
    if token != token.strip():  # would be refused as a header later, with the token in the refusal
        raise InvalidLogStream("it begins or ends with a space", "token")
    if kind is LogStreamKind.OTLP and header_of(token)[0].lower() in _OF_HTTP:
        raise InvalidLogStream("its header is one that HTTP itself needs: name the receiver's own", "token")
    if kind is LogStreamKind.SYSLOG and len(token) > 1_000:
        raise InvalidLogStream("with syslog it goes into every line, so it is at most 1000 characters", "token")
    return token


def header_of(token: str) -> tuple[str, str]:
    """The HTTP header that a token becomes: itself when it is `Name: value`, else a bearer's."""
    match = _HEADER.fullmatch(token)
    return (match["name"], match["value"]) if match is not None else ("Authorization", f"Bearer {token}")


def stream_of(streams: Iterable[S], service_id: str, made_at: datetime) -> S | None:
    """The stream of a run, as it was when the run was made: its service's, else its workspace's. `streams` are those of
    one workspace; whoever has none of his own service's is the workspace's. None: nobody asked for its log then."""
    general = None
    for stream in streams:
        if stream.created_at > made_at:
            continue
        if stream.scope_id == service_id:
            return stream
        if stream.scope_id.startswith("tea-"):
            general = stream
    return general


def _check_url(endpoint: str) -> str:
    """With the path of the specification where there is none."""
    try:
        parts = urlsplit(endpoint)
        port_is_right = parts.port is None or parts.port > 0
    except ValueError:
        raise _no_url(endpoint) from None
    if parts.scheme not in ("http", "https") or not parts.hostname or not port_is_right or not endpoint.isascii():
        raise _no_url(endpoint)
    if any(char <= " " for char in endpoint) or parts.fragment:
        raise _no_url(endpoint)
    if parts.username is not None or parts.password is not None:
        raise InvalidLogStream("it holds a password: give that as the token, `Authorization: Basic …`", "endpoint")
    return parts._replace(path=OTLP_PATH).geturl() if parts.path in ("", "/") else endpoint


def _no_url(endpoint: str) -> InvalidLogStream:
    return InvalidLogStream(
        f"{endpoint!r} is no address of OTLP/HTTP: write for example https://otel.example.com:4318", "endpoint"
    )
