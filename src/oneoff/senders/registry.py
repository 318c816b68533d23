"""Which sender speaks to which receiver. Used by the forwarder, and by the operations that check an address."""

from __future__ import annotations

from oneoff.core.clock import Clock
from oneoff.core.log_stream import LogStreamKind, LogStreamProtocol, Receiver
from oneoff.senders.sender import Sender


def make_sender(receiver: Receiver, token: str | None, ca_pem: str | None, clock: Clock) -> Sender:
    """Not connected yet. Imported late: an HTTP client costs memory that only OTLP needs."""
    if receiver.kind is LogStreamKind.OTLP:
        from oneoff.senders.otlp import OtlpSender

        return OtlpSender(receiver, token, ca_pem, clock)
    from oneoff.senders.syslog import SyslogDatagrams, SyslogStream

    if receiver.protocol is LogStreamProtocol.UDP:
        return SyslogDatagrams(receiver, token)
    return SyslogStream(receiver, token, ca_pem, clock)
