"""What is sent reads as the published messages of opentelemetry-proto, by Google's own reader of their JSON."""

from __future__ import annotations

import pytest
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from oneoff.core.log_lines import LogLine, dropped_notice, missing_notice
from oneoff.core.log_origin import LogOrigin
from oneoff.core.log_stream import LogStreamKind, check_token, header_of, make_receiver
from oneoff.core.otlp import NOTHING, write_request
from oneoff.errors import InvalidLogStream

WEB = LogOrigin("run-a", "srv-a", "shop/production/web", "migrate", 2, "n1")
WORKER = LogOrigin("run-b", "srv-b", "shop/production/worker", None, 1, "n1")


def read(body: bytes) -> ExportLogsServiceRequest:
    return json_format.Parse(body, ExportLogsServiceRequest(), ignore_unknown_fields=False)


def attributes(of: object) -> dict[str, object]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in of.attributes}  # type: ignore[attr-defined]


def test_lines_are_grouped_by_service_and_say_where_they_come_from() -> None:
    lines = [
        (WEB, LogLine("stdout", 1_000_000, 5, b'{"level": "warn"}')),
        (WORKER, LogLine("stderr", 2_000_000, 7, b"oh no")),
        (WEB, LogLine("stdout", 3_000_000, 9, b"cut", cut_bytes=4)),
    ]
    request = read(write_request(lines, 9_000_000))
    web, worker = request.resource_logs
    assert attributes(web.resource) == {
        "service.name": "web",
        "service.namespace": "shop",
        "deployment.environment.name": "production",
        "oneoff.service": "shop/production/web",
        "host.name": "n1",
    }
    first, second = web.scope_logs[0].log_records
    assert (first.time_unix_nano, first.observed_time_unix_nano) == (1_000_000_000, 9_000_000_000)
    assert (first.severity_number, first.severity_text) == (13, "WARN")
    assert attributes(first) == {
        "oneoff.run.id": "run-a",
        "oneoff.log.position": 5,
        "log.iostream": "stdout",
        "oneoff.attempt": 2,
        "oneoff.job": "migrate",
    }
    assert second.body.string_value == "cut [4 bytes more]"
    [record] = worker.scope_logs[0].log_records
    assert (record.severity_number, record.body.string_value) == (17, "oh no")
    assert "oneoff.job" not in attributes(record)


@given(st.lists(st.tuples(st.binary(max_size=60), st.sampled_from(["stdout", "stderr"])), max_size=5))
def test_whatever_a_command_writes_can_be_read(written: list[tuple[bytes, str]]) -> None:
    lines = [(WEB, LogLine(stream, 1, n, data)) for n, (data, stream) in enumerate(written)]
    request = read(write_request(lines, 2))
    records = [each for of in request.resource_logs for each in of.scope_logs[0].log_records]
    assert [each.body.string_value for each in records] == [data.decode(errors="replace") for data, _ in written]


def test_notices_and_nothing_can_be_read() -> None:
    lines = [(WEB, dropped_notice(1, 5, 3)), (WEB, missing_notice(1, 9, 4))]
    told = [attributes(each) for each in read(write_request(lines, 2)).resource_logs[0].scope_logs[0].log_records]
    assert (told[0]["oneoff.log.dropped"], told[1]["oneoff.log.missing_bytes"]) == (3, 4)
    assert not read(NOTHING).resource_logs


@pytest.mark.parametrize(
    ("token", "header"),
    [
        ("abc", ("Authorization", "Bearer abc")),
        ("Authorization: Basic dTpw", ("Authorization", "Basic dTpw")),
        ("DD-API-KEY: abc", ("DD-API-KEY", "abc")),
        ("abc: ", ("Authorization", "Bearer abc: ")),
    ],
)
def test_a_token_becomes_a_header(token: str, header: tuple[str, str]) -> None:
    assert header_of(token) == header


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("https://otel.example.com", "https://otel.example.com/v1/logs"),
        ("http://127.0.0.1:4318/", "http://127.0.0.1:4318/v1/logs"),
        ("https://o.example.com/api/x?y=1", "https://o.example.com/api/x?y=1"),
    ],
)
def test_an_address_without_a_path_means_the_path_of_the_specification(endpoint: str, url: str) -> None:
    assert make_receiver(LogStreamKind.OTLP, endpoint, None, None).endpoint == url


@pytest.mark.parametrize(
    ("kind", "endpoint", "says"),
    [
        ("otlp", "otel.example.com:4318", "is no address of OTLP/HTTP"),
        ("otlp", "https://user:pass@o.example.com", "give that as the token"),
        ("otlp", "https://o.example.com:99999", "is no address of OTLP/HTTP"),
        ("otlp", "https://o.example.com/ x", "is no address of OTLP/HTTP"),
        ("syslog", "logs.example.com", "write HOST:PORT"),
        ("syslog", "logs.example.com:0", "write HOST:PORT"),
        ("syslog", "tls://logs.example.com:6514", "write HOST:PORT"),
        ("syslog", "x" * 3_000 + ":1", "longer than"),
    ],
)
def test_a_wrong_address_is_refused_with_what_to_write(kind: str, endpoint: str, says: str) -> None:
    with pytest.raises(InvalidLogStream, match=says):
        make_receiver(LogStreamKind(kind), endpoint, None, None)


@pytest.mark.parametrize("token", ["", "a\nb", "ü", "x" * 1_001])
def test_a_token_that_cannot_be_sent_is_refused_without_being_told(token: str) -> None:
    with pytest.raises(InvalidLogStream) as refused:
        check_token(LogStreamKind.SYSLOG, token)
    assert not token or token not in str(refused.value)
