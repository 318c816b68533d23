"""A real HTTP server with the shapes of the API and a scripted run, for what a true server cannot be made to do."""

from __future__ import annotations

import base64
import json
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

RUN_ID = "run-0000000000000000000a"
SERVICE_ID = "srv-0000000000000000000b"


def a_run(**changes: Any) -> dict[str, Any]:
    run: dict[str, Any] = {
        "id": RUN_ID, "status": "running", "reason": None, "exit_code": None, "signal": None, "oom_seen": False,
        "service_id": SERVICE_ID, "service": "shop/production/web", "job_id": None, "cron_id": None, "batch_id": None,
        "attempt": 1, "retry_of": None, "rerun_of": None, "trigger": "manual", "actor": "admin", "command": ["true"],
        "shell": None, "entrypoint": "keep", "image": "registry.test/shop/web:42", "digest": "sha256:" + "0" * 64,
        "instance_type": "plan-srv-006", "timeout_seconds": 3600, "node": "node-1", "queue_position": None,
        "waiting_for": None, "created_at": "2026-01-01T00:00:00Z", "started_at": "2026-01-01T00:00:00Z",
        "finished_at": None, "duration_seconds": None, "cost_usd": "0.000000", "message": None,
        "log": {"stdout_bytes": 0, "stderr_bytes": 0, "missing_bytes": 0},
    }  # fmt: skip
    return run | changes


def an_ended_run(status: str, reason: str, code: int | None = None, signal: int | None = None) -> dict[str, Any]:
    return a_run(
        status=status,
        reason=reason,
        exit_code=code,
        signal=signal,
        finished_at="2026-01-01T00:00:03Z",
        duration_seconds=3.2,
    )


@dataclass
class Script:
    """What the one run does. `records` are (stream, bytes), or None as stream for bytes that were not kept."""

    records: list[tuple[str | None, bytes]] = field(default_factory=list)
    end: dict[str, Any] = field(default_factory=lambda: an_ended_run("succeeded", "completed", 0))
    ended: threading.Event = field(default_factory=threading.Event)
    may_cancel: bool = True
    answers_wait_for: threading.Event | None = None
    lose_answers: int = 0  # so many POSTs are carried out and their connection closed without an answer
    lose_gets: int = 0
    refuse_pages: int = 0  # so many pages of the log but the first are refused, to be asked for again at once
    fail_with: tuple[int, str, str] | None = None  # status, code, detail of every POST of a run
    deploy: list[dict[str, Any]] = field(default_factory=list)  # the states a deploy goes through


class FakeApi:
    """`requests` lists (method, path, query, headers, body) as they came; `made` the runs by their key."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.requests: list[tuple[str, str, dict[str, str], dict[str, str], Any]] = []
        self.made: dict[str, Any] = {}
        self.variables: dict[str, Any] = {}
        self.url = ""

    def sent(self, method: str, suffix: str) -> list[Any]:
        """The bodies of requests of this kind."""
        return [r[4] for r in self.requests if r[0] == method and r[1].endswith(suffix)]

    @property
    def events(self) -> Iterator[tuple[int, dict[str, Any]]]:
        position = 0
        for stream, data in self.script.records:
            position += len(data)
            if stream is None:
                continue
            record: dict[str, Any] = {"position": position, "stream": stream, "time": "2026-01-01T00:00:00Z"}
            try:
                record["text"] = data.decode()
            except UnicodeDecodeError:
                record["base64"] = base64.b64encode(data).decode()
            yield position, record


@contextmanager
def fake_api(script: Script | None = None) -> Iterator[FakeApi]:
    api = FakeApi(script or Script())

    class Handler(_Handler):
        pass

    Handler.api = api
    server = _Server(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    api.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield api
    finally:
        api.script.ended.set()
        server.shutdown()
        thread.join()
        server.server_close()


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # many a client here is killed
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    api: FakeApi
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        path, query, _ = self._take()
        if self.api.script.lose_gets:
            self.api.script.lose_gets -= 1
            self.close_connection = True
        elif path.endswith("/logs/stream"):
            self._stream()
        elif path.startswith("/runs/"):
            self._run_state(path, query)
        elif path == "/services":
            self._services(query)
        elif path == "/environments":
            self._answer(200, {"items": [{"id": "evm-1", "path": "shop/production"}], "next_cursor": None})
        elif path.endswith("/variables"):
            self._answer(200, self.api.variables)
        elif path.startswith("/deploys/"):
            states = self.api.script.deploy
            self._answer(200, states.pop(0) if len(states) > 1 else states[0])
        elif self.headers.get("Authorization") != "Bearer good":
            self._problem(401, "not_authenticated", "the token is not known")
        else:
            self._answer(200, {"items": [], "next_cursor": None})

    def do_POST(self) -> None:
        path, _, body = self._take()
        script = self.api.script
        if path.endswith("/cancel"):
            if script.may_cancel:
                script.end = an_ended_run("canceled", "canceled", 143)
                script.ended.set()
            self._answer(200, a_run())
        elif path.endswith("/deploys"):
            self._answer(201, script.deploy[0])
        elif script.fail_with:
            self._problem(*script.fail_with)
        else:
            self.api.made.setdefault(self.headers["Idempotency-Key"], body)
            if script.answers_wait_for:
                script.answers_wait_for.wait(30)
            if script.lose_answers:
                script.lose_answers -= 1
                self.close_connection = True
                return
            self._answer(201, a_run(status="queued", waiting_for="a slot", queue_position=1, node=None))

    def do_PATCH(self) -> None:
        _, _, body = self._take()
        self.api.variables.update(body)
        self._answer(200, self.api.variables)

    def _take(self) -> tuple[str, dict[str, str], Any]:
        length = int(self.headers.get("Content-Length", 0))
        body = json.loads(self.rfile.read(length)) if length else None
        parts = urlsplit(self.path)
        path = parts.path.removeprefix("/api/v1")
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        self.api.requests.append((self.command, path, query, dict(self.headers), body))
        return path, query, body

    def _services(self, query: dict[str, str]) -> None:
        known = query.get("path", "").startswith("shop/production")
        service = {"id": SERVICE_ID, "path": "shop/production/web", "image": "registry.test/shop/web:41"}
        self._answer(200, {"items": [service] if known else [], "next_cursor": None})

    def _run_state(self, path: str, query: dict[str, str]) -> None:
        if RUN_ID not in path:
            self._problem(404, "not_found", f"there is no run {path.removeprefix('/runs/')!r}")
        elif path.endswith("/logs"):
            after = int(query["after"])
            if after and self.api.script.refuse_pages:
                self.api.script.refuse_pages -= 1
                self._problem(429, "too_many_requests", "go on in 0 s", {"Retry-After": "0"})
                return
            items = [record for position, record in self.api.events if position > after][:2]
            self._answer(200, {"items": items, "next_cursor": None})
        else:
            self._answer(200, self.api.script.end if self.api.script.ended.is_set() else a_run())

    def _stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        after = int(self.headers.get("Last-Event-ID", 0))
        try:
            self._event("status", a_run(), after)
            for position, record in self.api.events:
                if position > after:
                    self._event("log", record, position)
            while not self.api.script.ended.wait(0.2):
                self._chunk(b": quiet\n\n")
            self._event("end", self.api.script.end, after)
            self._chunk(b"")
        except OSError:
            self.close_connection = True

    def _event(self, name: str, value: Any, position: int) -> None:
        self._chunk(f"event: {name}\nid: {position}\ndata: {json.dumps(value)}\n\n".encode())

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    def _answer(
        self, status: int, value: Any, kind: str = "application/json", headers: Mapping[str, str] | None = None
    ) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        for name, text in (headers or {}).items():
            self.send_header(name, text)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _problem(self, status: int, code: str, detail: str, headers: Mapping[str, str] | None = None) -> None:
        problem = {"type": f"urn:oneoff:{code}", "title": code, "status": status, "code": code, "detail": detail}
        self._answer(status, problem, "application/problem+json", headers)
