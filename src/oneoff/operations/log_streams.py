"""Log streams of the workspace and of services: set, shown, tested, deleted. Used by the API and the Render faces."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from oneoff.core.clock import to_us
from oneoff.core.log_lines import LogLine
from oneoff.core.log_origin import LogOrigin
from oneoff.core.log_stream import (
    Framing,
    LogStreamKind,
    LogStreamProtocol,
    LogStreamSetting,
    Receiver,
    check_token,
    make_receiver,
)
from oneoff.engine.forwarder import token_place
from oneoff.errors import InvalidLogStream, LogStreamUnreachable, NotFound
from oneoff.operations.context import Context
from oneoff.operations.ids import check_id
from oneoff.senders.registry import make_sender
from oneoff.senders.sender import Sender, SendFailed
from oneoff.store import log_streams, services
from oneoff.store.dialect import Connection
from oneoff.store.log_streams import LogStream, LogStreamState

_MOST_PEM = 200_000
_TEST_RUN = "run-00000000000000000000"
_NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class NewLogStream:
    """What a caller says. `token` may be kept as it is, for the same receiver only: else whoever may set streams, but
    has no token, could have it sent anywhere."""

    setting: LogStreamSetting = LogStreamSetting.SEND
    kind: LogStreamKind = LogStreamKind.SYSLOG
    endpoint: str | None = None
    protocol: LogStreamProtocol | None = None
    framing: Framing | None = None
    token: str | None = field(default=None, repr=False)
    keeps_token: bool = False
    ca_pem: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class LogStreamView:
    """`service` is the path of the service whose stream it is, None for the workspace's; `lag_seconds` the age of the
    oldest line that was read and could not be sent."""

    stream: LogStream
    service: str | None
    state: LogStreamState
    lag_seconds: float


async def list_log_streams(context: Context) -> list[LogStreamView]:
    """The workspace's first."""

    def work(connection: Connection) -> list[LogStreamView]:
        found = log_streams.list_streams(connection, context.workspace_id)
        states = log_streams.fetch_states(connection)
        return [_view(context, connection, stream, states.get(stream.id, [])) for stream in found]

    return await context.database.read(work)


async def get_log_stream(context: Context, scope_id: str) -> LogStreamView:
    """Of a workspace or a service. Raises NotFound."""

    def work(connection: Connection) -> LogStreamView:
        _check_scope(context, connection, scope_id)
        stream = _get(connection, scope_id)
        return _view(context, connection, stream, log_streams.fetch_states(connection).get(stream.id, []))

    return await context.database.read(work)


async def set_log_stream(context: Context, scope_id: str, new: NewLogStream, *, check: bool = True) -> LogStreamView:
    """Afterwards the scope has exactly this one. It holds for runs made from now on; those on their way to the present
    one go on to the new receiver. With `check` it is saved only when the receiver takes a connection.

    Raises NotFound, InvalidLogStream, LogStreamUnreachable.
    """
    present = await context.database.read(lambda c: _find(context, c, scope_id))
    stream, token = _make(context, scope_id, new, present)
    if check and stream.receiver is not None:
        sender = await _sender_of(context, stream.receiver, token, stream.ca_pem)
        await _try(stream.receiver, sender, None)

    def work(connection: Connection) -> LogStreamView:
        _check_scope(context, connection, scope_id)
        now = log_streams.find_stream(connection, scope_id)
        # Somebody else was faster: theirs is replaced, but keeps its id.
        saved = stream if now is None or now.id == stream.id else _resealed(context, stream, token, now)
        log_streams.save_stream(connection, saved)
        return _view(context, connection, saved, log_streams.fetch_states(connection).get(saved.id, []))

    view = await context.database.run(work)
    context.signals.log_streams_changed()
    return view


async def delete_log_stream(context: Context, scope_id: str) -> None:
    """What was not sent yet is not sent any more. Raises NotFound."""

    def work(connection: Connection) -> None:
        _check_scope(context, connection, scope_id)
        if not log_streams.delete_stream(connection, scope_id):
            raise _none(scope_id)

    await context.database.run(work)
    context.signals.log_streams_changed()


async def send_test_line(context: Context, scope_id: str) -> LogStreamView:
    """One line of its own, over a connection of its own. Raises NotFound, InvalidLogStream, LogStreamUnreachable."""
    view = await get_log_stream(context, scope_id)
    receiver = view.stream.receiver
    if receiver is None:
        raise InvalidLogStream("this one drops all lines: there is nothing to test", "setting")
    service = view.service or "oneoff/test"
    origin = LogOrigin(_TEST_RUN, scope_id, service, "oneoff-test", 1, context.facts.node)
    line = LogLine("stdout", to_us(context.clock.now()), 0, b"a test line of Oneoff's log stream")
    sender = await _sender_of(context, receiver, _open_token(context, view.stream), view.stream.ca_pem)
    await _try(receiver, sender, [(origin, line)])
    return view


def _make(
    context: Context, scope_id: str, new: NewLogStream, present: LogStream | None
) -> tuple[LogStream, str | None]:
    now = context.clock.now()
    stream_id = context.new_id("log_stream") if present is None else present.id
    receiver, token, ca_pem = None, None, None
    if new.setting is LogStreamSetting.SEND:
        if new.endpoint is None:
            raise InvalidLogStream("it is missing: say where the lines go, HOST:PORT or a URL", "endpoint")
        receiver = make_receiver(new.kind, new.endpoint, new.protocol, new.framing)
        token = _choose_token(context, new, receiver, present)
        ca_pem = _check_ca(receiver, new.ca_pem)
    elif scope_id == context.workspace_id:
        raise InvalidLogStream("only a service's stream can be `drop`: delete the workspace's instead", "setting")
    sealed = None if token is None else context.sealer.seal(token.encode(), token_place(stream_id))
    # A service that drops its lines, or takes them up again, begins anew.
    is_same = present is not None and present.setting is new.setting
    created_at = present.created_at if present is not None and is_same else now
    stream = LogStream(
        id=stream_id,
        workspace_id=context.workspace_id,
        scope_id=scope_id,
        setting=new.setting,
        receiver=receiver,
        token_sealed=sealed,
        ca_pem=ca_pem,
        created_at=created_at,
        updated_at=now,
    )
    return stream, token


def _choose_token(context: Context, new: NewLogStream, receiver: Receiver, present: LogStream | None) -> str | None:
    if new.token is not None:
        return check_token(receiver.kind, new.token)
    if not new.keeps_token or present is None or present.token_sealed is None:
        return None
    if present.receiver != receiver:
        raise InvalidLogStream("the receiver is another one now: give its token again, or null for none", "token")
    return _open_token(context, present)


def _check_ca(receiver: Receiver, ca_pem: str | None) -> str | None:
    if ca_pem is None:
        return None
    if not receiver.is_encrypted:
        raise InvalidLogStream("a CA is for TLS, and this connection has none", "ca_pem")
    from oneoff.senders.tls import make_tls

    try:
        make_tls(ca_pem if len(ca_pem) <= _MOST_PEM else "")
    except ValueError as problem:
        raise InvalidLogStream(str(problem), "ca_pem") from problem
    return ca_pem


def _resealed(context: Context, stream: LogStream, token: str | None, now: LogStream) -> LogStream:
    sealed = None if token is None else context.sealer.seal(token.encode(), token_place(now.id))
    return replace(stream, id=now.id, token_sealed=sealed)


def _open_token(context: Context, stream: LogStream) -> str | None:
    if stream.token_sealed is None:
        return None
    return context.sealer.open(stream.token_sealed, token_place(stream.id)).decode()


async def _sender_of(context: Context, receiver: Receiver, token: str | None, ca_pem: str | None) -> Sender:
    """In a thread: the system's certificates are read slowly."""
    return await asyncio.to_thread(make_sender, receiver, token, ca_pem, context.clock)


async def _try(receiver: Receiver, sender: Sender, lines: Sequence[tuple[LogOrigin, LogLine]] | None) -> None:
    try:
        await (sender.check() if lines is None else sender.send(lines))
    except SendFailed as problem:
        raise LogStreamUnreachable(receiver.endpoint, str(problem)) from problem
    finally:
        await sender.close()


def _view(context: Context, connection: Connection, stream: LogStream, states: list[LogStreamState]) -> LogStreamView:
    service = None
    if stream.scope_id != context.workspace_id:
        service = services.get_service(connection, stream.scope_id).path
    state = _together(states)
    age = 0.0
    if state.oldest_unsent_at is not None:
        age = max(0.0, (context.clock.now() - state.oldest_unsent_at).total_seconds())
    return LogStreamView(stream, service, state, age)


def _together(states: list[LogStreamState]) -> LogStreamState:
    """What all servers saw: counts added, the longest connection, the longest failure with its words."""
    if len(states) < 2:
        return states[0] if states else LogStreamState()
    failing = sorted((s for s in states if s.failing_since is not None), key=lambda s: s.failing_since or _NEVER)
    worst = failing[0] if failing else max(states, key=lambda s: s.last_error_at or _NEVER)
    return replace(
        worst,
        connected_since=min((s.connected_since for s in states if s.connected_since is not None), default=None),
        lines_sent=sum(s.lines_sent for s in states),
        lines_dropped=sum(s.lines_dropped for s in states),
        lag_bytes=sum(s.lag_bytes for s in states),
        oldest_unsent_at=min((s.oldest_unsent_at for s in states if s.oldest_unsent_at is not None), default=None),
    )


def _check_scope(context: Context, connection: Connection, scope_id: str) -> None:
    if scope_id != context.workspace_id:
        services.get_service(connection, check_id("service", scope_id))


def _find(context: Context, connection: Connection, scope_id: str) -> LogStream | None:
    _check_scope(context, connection, scope_id)
    return log_streams.find_stream(connection, scope_id)


def _get(connection: Connection, scope_id: str) -> LogStream:
    if (stream := log_streams.find_stream(connection, scope_id)) is None:
        raise _none(scope_id)
    return stream


def _none(scope_id: str) -> NotFound:
    return NotFound("log stream of", scope_id, "`oneoff log-stream list` shows those there are")
