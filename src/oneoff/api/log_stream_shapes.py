"""The body that sets a log stream, and what the API answers."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from oneoff.api.bodies import Body
from oneoff.api.shapes import Shape, Time
from oneoff.core.log_stream import Framing, LogStreamKind, LogStreamProtocol, LogStreamSetting

Endpoint = Annotated[str, StringConstraints(min_length=1, max_length=2_000)]
Token = Annotated[str, StringConstraints(min_length=1, max_length=4_000)]
Pem = Annotated[str, StringConstraints(min_length=1, max_length=200_000)]


class PutLogStream(Body):
    setting: LogStreamSetting = Field(
        LogStreamSetting.SEND, description="`drop` is for services: their lines go nowhere."
    )
    kind: LogStreamKind = LogStreamKind.SYSLOG
    endpoint: Endpoint | None = Field(
        None, description="HOST:PORT for syslog, a URL for OTLP; without a path, /v1/logs is meant."
    )
    protocol: LogStreamProtocol | None = Field(None, description="Of syslog: `tls` (the default), `tcp` or `udp`.")
    framing: Framing | None = Field(
        None, description="Of syslog over TLS and TCP: `octets` (the default), or `newline` for receivers without it."
    )
    token: Token | None = Field(
        None,
        description="Goes into the structured data of each line, or into the header Authorization. Sealed, and never "
        "shown. Without this field the present one is kept, if the receiver is the same; null is none.",
    )
    ca_pem: Pem | None = Field(None, description="Certificates in PEM form that are trusted instead of the system's.")


class LogStreamStateShape(Shape):
    status: Literal["idle", "connected", "failing"] = Field(description="`idle`: nothing was to be sent yet.")
    connected_since: Time | None
    failing_since: Time | None
    last_error: str | None = Field(description="Stays when all is well again.")
    last_error_at: Time | None
    lines_sent: int
    lines_dropped: int
    lag_bytes: int = Field(description="Stored output that was not sent yet, about.")
    lag_seconds: float = Field(description="Age of the oldest line that could not be sent yet.")


class LogStreamShape(Shape):
    """Null where the setting is `drop`."""

    id: str
    scope: Literal["workspace", "service"]
    service_id: str | None
    service: str | None = Field(description="The service's path.")
    setting: LogStreamSetting
    kind: LogStreamKind | None
    endpoint: str | None
    protocol: LogStreamProtocol | None
    framing: Framing | None
    has_token: bool
    ca_pem: str | None
    created_at: Time = Field(description="Runs made before are not sent.")
    updated_at: Time
    state: LogStreamStateShape


class LogStreams(Shape):
    items: list[LogStreamShape]
    next_cursor: None
