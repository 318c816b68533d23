"""Spans of requests and runs, as a receiver on loopback gets them; and nothing at all when they are off."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from oneoff import tracing
from oneoff.drivers.fake_engine import Script
from oneoff.errors import SettingsInvalid
from oneoff.otel import ids_of
from tests.cli.live import live_server
from tests.operations.home import IMAGE

SECRET = "correct horse battery staple"
PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class Receiver:
    """OTLP over HTTP: keeps every span it is sent."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.resource: dict[str, str] = {}
        self.raw = b""
        spans = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                spans.take(body)
                answer = ExportTraceServiceResponse().SerializeToString()
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}/v1/traces"
        self._thread = threading.Thread(target=self._http.serve_forever)
        self._thread.start()

    def take(self, body: bytes) -> None:
        self.raw += body
        told = ExportTraceServiceRequest.FromString(body)
        for of_resource in told.resource_spans:
            self.resource = {each.key: each.value.string_value for each in of_resource.resource.attributes}
            for of_scope in of_resource.scope_spans:
                self.spans.extend(of_scope.spans)

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def of(self, name: str) -> Span:
        (found,) = [span for span in self.spans if span.name == name]
        return found


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


def attributes(span: Span) -> dict[str, Any]:
    return {each.key: each.value.string_value or each.value.int_value for each in span.attributes}


def do_a_run(folder: Path, **headers: str) -> dict[str, Any]:
    """On a whole server with the fake driver; returns the run after its end."""
    with live_server(folder) as server:
        server.home.engine.default_script = Script(code=3)
        headers["Authorization"] = f"Bearer {server.home.admin_token}"
        with httpx2.Client(base_url=f"{server.url}/api/v1", headers=headers) as client:
            service = client.post("/services", json={"path": "shop/production", "image": IMAGE})
            body = {"command": ["echo", SECRET], "variables": {"PASSWORD": SECRET}}
            run: dict[str, Any] = client.post(f"/services/{service.json()['id']}/runs", json=body).json()
            deadline = time.monotonic() + 20
            assert client.get(f"{server.url}/metrics").status_code == 200
            while not run["finished_at"]:
                assert time.monotonic() < deadline, run
                run = client.get(f"/runs/{run['id']}").json()
    return run


def test_a_request_and_its_run_are_told_as_spans(receiver: Receiver, tmp_path: Path) -> None:
    tracing.begin(receiver.url, "this-server")
    try:
        run = do_a_run(tmp_path, traceparent=PARENT)
    finally:
        tracing.end()
    assert receiver.resource["service.name"] == "oneoff"
    assert receiver.resource["service.instance.id"] == "this-server"

    request, accept = receiver.of("POST /api/v1/services/{service_id}/runs"), receiver.of("accept")
    assert (request.trace_id.hex(), request.parent_span_id.hex()) == (PARENT[3:35], PARENT[36:52])
    assert attributes(request)["http.response.status_code"] == 201
    assert accept.parent_span_id == request.span_id
    assert attributes(accept)["oneoff.run"] == run["id"]

    trace_id, span_id = ids_of(run["id"])
    whole = receiver.of("run")
    assert (int.from_bytes(whole.trace_id), int.from_bytes(whole.span_id)) == (trace_id, span_id)
    assert not whole.parent_span_id
    told = attributes(whole)
    assert (told["oneoff.run"], told["oneoff.service"], told["oneoff.trigger"]) == (
        run["id"],
        "shop/production/web",
        "api",
    )
    assert (told["oneoff.status"], told["oneoff.reason"]) == ("failed", "nonzero_exit")
    assert whole.status.code == 2
    assert [link.span_id for link in whole.links] == [accept.span_id]
    assert [link.span_id for link in accept.links] == [whole.span_id]

    for name in ("wait", "prepare", "create", "start", "command", "end"):
        step = receiver.of(name)
        assert (step.trace_id, step.parent_span_id) == (whole.trace_id, whole.span_id), name
        assert attributes(step)["oneoff.run"] == run["id"]
        assert whole.start_time_unix_nano <= step.start_time_unix_nano <= step.end_time_unix_nano
    assert [span.name for span in receiver.spans if "metrics" in span.name] == []
    assert SECRET.encode() not in receiver.raw
    assert b"PASSWORD" not in receiver.raw


def test_a_sampler_of_opentelemetry_takes_all_spans_of_a_run_or_none(
    receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_always_off")
    tracing.begin(receiver.url, "this-server")
    try:
        do_a_run(tmp_path)
    finally:
        tracing.end()
    assert receiver.spans == []


def test_a_receiver_that_is_away_harms_nothing_and_is_told_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    tracing.begin("http://127.0.0.1:1/v1/traces", "this-server")
    try:
        assert do_a_run(tmp_path)["reason"] == "nonzero_exit"
    finally:
        began = time.monotonic()
        tracing.end()
    assert time.monotonic() - began < 5
    assert "level=warning event=traces" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("url", "environment", "wanted"),
    [
        (None, {}, False),
        ("http://127.0.0.1:4318/v1/traces", {}, True),
        (None, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}, True),
        (None, {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:4318/v1/traces"}, True),
        (None, {"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, False),
        ("http://127.0.0.1:4318/v1/traces", {"OTEL_SDK_DISABLED": "true"}, False),
        ("http://127.0.0.1:4318/v1/traces", {"OTEL_TRACES_EXPORTER": "none"}, False),
    ],
)
def test_traces_are_wanted_by_the_setting_or_by_the_standard_variables(
    url: str | None, environment: dict[str, str], wanted: bool
) -> None:
    assert tracing.is_wanted(url, environment) is wanted


def test_a_missing_library_is_told_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "oneoff.otel", None)
    with pytest.raises(SettingsInvalid, match=r"install 'oneoff\[otel\]'"):
        tracing.begin("http://127.0.0.1:4318/v1/traces", "this-server")


def test_off_nothing_is_loaded_and_nothing_is_made() -> None:
    assert tracing.step("create", None) is tracing.request("GET", ()) is tracing.accepting()  # type: ignore[arg-type]
    look = "import sys, oneoff.server; print({'oneoff.otel', 'opentelemetry.sdk'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
