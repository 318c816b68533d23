"""Log streams are set, shown and tested, and their tokens stay where they are; on both databases."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from oneoff.core.command import Command
from oneoff.core.log_origin import LogOrigin
from oneoff.core.log_stream import LogStreamKind, LogStreamProtocol, LogStreamSetting
from oneoff.core.run import Trigger
from oneoff.errors import InvalidLogStream, LogStreamUnreachable, NotFound
from oneoff.operations import log_streams
from oneoff.operations.log_streams import NewLogStream
from oneoff.operations.runs import Origin, RunRequest, accept_run
from oneoff.operations.services import delete_service
from oneoff.senders.syslog import SyslogStream
from oneoff.store import log_positions
from oneoff.store.log_positions import LogRun, Progress
from tests.engine.receivers import SyslogReceiver
from tests.engine.world import eventually
from tests.operations.home import Home
from tests.rig.rsyslog import make_certificate

pytestmark = pytest.mark.anyio
TCP = LogStreamProtocol.TCP


@pytest.fixture
async def receiver() -> AsyncIterator[SyslogReceiver]:
    made = await SyslogReceiver().start()
    yield made
    await made.stop()


@pytest.fixture
def udp() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.bind(("127.0.0.1", 0))
        made.settimeout(5)
        yield made


async def test_a_stream_is_saved_when_its_receiver_answers_and_tested_with_a_line(
    home: Home, receiver: SyslogReceiver
) -> None:
    context, service = home.context, await home.add_service()
    new = NewLogStream(endpoint=f"127.0.0.1:{receiver.port}", protocol=TCP, token="s3cret")
    made = await log_streams.set_log_stream(context, context.workspace_id, new)
    assert made.stream.token_sealed is not None
    assert b"s3cret" not in made.stream.token_sealed
    await log_streams.set_log_stream(context, service.id, NewLogStream(LogStreamSetting.DROP))
    assert [each.service for each in await log_streams.list_log_streams(context)] == [None, service.path]
    await log_streams.send_test_line(context, context.workspace_id)
    await eventually(lambda: receiver.messages)
    assert receiver.messages[-1]["token"] == "s3cret"
    with pytest.raises(InvalidLogStream, match="nothing to test"):
        await log_streams.send_test_line(context, service.id)
    await receiver.stop()
    with pytest.raises(LogStreamUnreachable, match=r"connection refused.*--no-check"):
        await log_streams.send_test_line(context, context.workspace_id)


async def test_an_unreachable_receiver_is_refused_unless_nobody_looks(home: Home) -> None:
    context = home.context
    new = NewLogStream(endpoint="127.0.0.1:1", protocol=TCP)
    with pytest.raises(LogStreamUnreachable, match="connection refused"):
        await log_streams.set_log_stream(context, context.workspace_id, new)
    with pytest.raises(NotFound):
        await log_streams.get_log_stream(context, context.workspace_id)
    await log_streams.set_log_stream(context, context.workspace_id, new, check=False)
    assert (await log_streams.get_log_stream(context, context.workspace_id)).stream.receiver is not None


async def test_a_token_is_kept_for_its_receiver_alone(home: Home) -> None:
    context, scope = home.context, home.context.workspace_id
    first = NewLogStream(endpoint="a.example.com:1", token="s3cret")
    await log_streams.set_log_stream(context, scope, first, check=False)
    same = replace(first, token=None, keeps_token=True)
    assert (await log_streams.set_log_stream(context, scope, same, check=False)).stream.token_sealed is not None
    with pytest.raises(InvalidLogStream, match="give its token again"):
        await log_streams.set_log_stream(context, scope, replace(same, endpoint="b.example.com:1"), check=False)
    none = replace(same, keeps_token=False)
    assert (await log_streams.set_log_stream(context, scope, none, check=False)).stream.token_sealed is None


async def test_what_cannot_be_is_refused(home: Home) -> None:
    context, scope = home.context, home.context.workspace_id
    for new, says in (
        (NewLogStream(LogStreamSetting.DROP), "only a service"),
        (NewLogStream(), "is missing"),
        (NewLogStream(endpoint="a.example.com:1", ca_pem="no PEM"), "no certificate"),
        (NewLogStream(endpoint="a.example.com:1", protocol=TCP, ca_pem="x"), "a CA is for TLS"),
        (NewLogStream(kind=LogStreamKind.OTLP, endpoint="http://a.example.com", protocol=TCP), "is for syslog"),
    ):
        with pytest.raises(InvalidLogStream, match=says):
            await log_streams.set_log_stream(context, scope, new, check=False)
    with pytest.raises(NotFound):
        await log_streams.set_log_stream(context, "srv-" + "0" * 20, NewLogStream(endpoint="a:1"), check=False)
    with pytest.raises(NotFound):
        await log_streams.delete_log_stream(context, scope)


async def test_tls_trusts_the_ca_it_was_given_and_no_other_and_takes_large_batches(home: Home, tmp_path: Path) -> None:
    folder = tmp_path / "tls"
    folder.mkdir()
    make_certificate(folder)
    receiver = SyslogReceiver()
    receiver.use_tls(folder)
    await receiver.start()
    context, scope = home.context, home.context.workspace_id
    new = NewLogStream(endpoint=f"127.0.0.1:{receiver.port}")
    with pytest.raises(LogStreamUnreachable, match="certificate is not trusted"):
        await log_streams.set_log_stream(context, scope, new)
    pem = (folder / "cert.pem").read_text()
    made = await log_streams.set_log_stream(context, scope, replace(new, ca_pem=pem))
    sender = SyslogStream(made.stream.receiver, None, pem, context.clock)  # type: ignore[arg-type]
    origin = LogOrigin("run-1", "srv-1", "shop/production/web", None, 1, "n")
    lines = [(origin, log_streams.LogLine("stdout", 1, n, b"x" * 500)) for n in range(3_000)]
    for _ in range(2):
        sent = await sender.send(lines)
    await eventually(lambda: len(receiver.messages) == 6_000)
    await eventually(lambda: sender.arrived() == sent)
    await sender.close()
    await receiver.stop()


async def test_over_udp_each_line_is_a_datagram_of_limited_size(home: Home, udp: socket.socket) -> None:
    context, scope = home.context, home.context.workspace_id
    new = NewLogStream(endpoint=f"127.0.0.1:{udp.getsockname()[1]}", protocol=LogStreamProtocol.UDP)
    view = await log_streams.set_log_stream(context, scope, new)
    await log_streams.send_test_line(context, scope)
    assert udp.recv(10_000).endswith(b"a test line of Oneoff's log stream")
    sender = await log_streams._sender_of(context, view.stream.receiver, None, None)  # type: ignore[arg-type]
    origin = LogOrigin("run-1", "srv-1", "shop/production/web", None, 1, "n")
    await sender.send([(origin, log_streams.LogLine("stdout", 1, 1, b"x" * 5_000))])
    datagram = udp.recv(10_000)
    assert len(datagram) <= 2_048
    assert datagram.endswith(b"bytes more]")
    await sender.close()


async def test_positions_are_those_of_runs_in_work(home: Home) -> None:
    """The queries of the forwarder, on both databases."""
    context, service = home.context, await home.add_service()
    node = context.facts.node
    request, origin = RunRequest(Command(("true",), None)), Origin("tester", Trigger.API)
    made = [(await accept_run(context, service.id, request, origin)).id for _ in range(4)]
    for run_id in made[:3]:
        await home.start(run_id)
    await home.finish(made[0])
    run = context.database.run
    first, second, third, queued = made
    missed = await run(lambda c: log_positions.find_missed(c, node, first))
    assert [each.origin.run_id for each in missed] == [second, third, first] or len(missed) == 3
    taken: list[tuple[str, LogRun]] = [("lgs-1", each) for each in missed]
    await run(lambda c: log_positions.save_new(c, taken))
    await run(lambda c: log_positions.save_new(c, taken))
    assert await run(lambda c: log_positions.find_missed(c, node, first)) == []
    found = await run(lambda c: log_positions.list_unsent(c, "lgs-1", node, 10))
    assert [(each.origin.run_id, each.is_final) for each in found] == [(first, True), (second, False), (third, False)]
    await run(lambda c: log_positions.save_progress(c, node, {first: Progress(9, 9, is_complete=True)}))
    await run(lambda c: log_positions.drop(c, {first: 5, second: 7}))
    found = await run(lambda c: log_positions.list_unsent(c, "lgs-1", node, 10))
    assert [(each.origin.run_id, each.dropped_lines) for each in found] == [(second, 7), (third, 0)]
    assert set(await run(lambda c: log_positions.find_unsent(c, made))) == {second, third}
    waiting = await run(lambda c: log_positions.find_unmarked(c, "run-" + "z" * 20))
    assert [each.origin.run_id for each in waiting] == [queued]
    await run(lambda c: log_positions.save_new(c, [("lgs-1", each) for each in waiting]))
    await run(lambda c: log_positions.move_mark(c, node, third))
    assert await run(lambda c: log_positions.find_mark(c, node)) == third
    await run(lambda c: log_positions.move_mark(c, node, second))
    assert await run(lambda c: log_positions.find_mark(c, node)) == third
    assert [each.progress for each in await run(lambda c: log_positions.find_runs(c, node, [first]))] == [Progress()]
    assert await run(lambda c: log_positions.sum_unsent_bytes(c, "lgs-1", node)) == 0


async def test_streams_go_with_their_service(home: Home) -> None:
    context, service = home.context, await home.add_service()
    new = NewLogStream(endpoint="a.example.com:1")
    view = await log_streams.set_log_stream(context, service.id, new, check=False)
    assert view.stream.created_at >= context.clock.now() - timedelta(minutes=1)
    await delete_service(context, service.id)
    assert await log_streams.list_log_streams(context) == []
