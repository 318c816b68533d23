"""The only file of the CLI that talks HTTP: requests to the server's API and its event streams.

Made by `session` when a command first calls, because importing the HTTP library takes longer than all the rest.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import httpx2

from oneoff import __version__
from oneoff.cli.problems import ApiRefused, CliError, ServerUnreachable
from oneoff.cli.sse import Event, parse_events
from oneoff.cli.target import Target, find_local_server

_API = "/api/v1"
_LONGEST_ANSWER_SECONDS = 900  # a deploy or a first image may be copied before the answer comes
_COME_BACK_SECONDS = 60
# The server sends a comment at least every 15 s; a stream that is quiet for longer hangs on a dead connection.
_LONGEST_QUIET_SECONDS = 45


@dataclass(frozen=True, slots=True)
class Answer:
    """A successful answer: `text` is the body as it came, for --json; `value` the same parsed, None when empty."""

    text: str
    value: Any
    headers: Mapping[str, str]
    status: int = 200


class Client:
    """Bound to one server. Safe to use from a second thread, which is how `run` cancels while it follows."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._http = self._open(target)

    @property
    def url(self) -> str:
        return self._target.url

    def get(self, path: str, /, **query: Any) -> Answer:
        """Asked again for a minute when the connection was lost under it, as `create` is."""
        return self._patiently(partial(self.call, "GET", path, query=query))

    def items(self, path: str, /, **query: Any) -> Iterator[dict[str, Any]]:
        """All items of a list, page by page."""
        cursor = None
        while True:
            page = self.get(path, limit=200, cursor=cursor, **query).value
            yield from page["items"]
            cursor = page["next_cursor"]
            if cursor is None:
                return

    def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """One request below /api/v1. Raises ServerUnreachable or ApiRefused."""
        options: dict[str, Any] = {"params": {k: v for k, v in (query or {}).items() if v is not None}}
        extra = dict(headers or {})
        if body is not None:
            options["content"] = _encode(body)
            extra["Content-Type"] = "application/json"
        with self._translated_errors():
            response = self._http.request(method, _API + path, headers=extra, **options)
            self._raise_for_error(response)
        is_table = response.headers.get("content-type", "").startswith("text/csv")
        try:
            value = response.json() if response.content and not is_table else None
        except ValueError:
            raise CliError(self._not_ours(response)) from None
        return Answer(response.text, value, response.headers, response.status_code)

    def create(self, path: str, body: Any, **query: Any) -> Answer:
        """A POST that may be sent again: after a lost connection the same Idempotency-Key finds what was made."""
        headers = {"Idempotency-Key": f"cli-{random.SystemRandom().getrandbits(128):032x}"}
        return self._patiently(partial(self.call, "POST", path, query=query, body=body, headers=headers))

    def events(self, path: str, last_event_id: int) -> Iterator[Event]:
        """Events of a stream from a position on. Ends quietly when the server ended it or it went silent; raises
        ServerUnreachable when the connection broke, ApiRefused as `call` does."""
        timeout = httpx2.Timeout(10, read=_LONGEST_QUIET_SECONDS)
        headers = {"Accept": "text/event-stream", "Last-Event-ID": str(last_event_id)}
        with (
            self._translated_errors(),
            self._http.stream("GET", _API + path, headers=headers, timeout=timeout) as response,
        ):
            if response.status_code >= 400:
                response.read()
            self._raise_for_error(response)
            try:
                yield from parse_events(response.iter_raw())
            except httpx2.ReadTimeout:
                return

    def look_again(self) -> None:
        """A local server that was restarted may listen elsewhere now: follow its state file there."""
        if not self._target.is_local:
            return
        local = find_local_server()
        if local and local.url != self._target.url:
            self._target = Target(local.url, self._target.token, self._target.source, is_local=True)
            self._http = self._open(self._target)

    def outside(self, path: str) -> Answer:
        """GET /healthz or /readyz, which need no token; every status is an answer, and the body is not parsed."""
        with self._translated_errors():
            response = self._http.get(path, timeout=5)
        return Answer(response.text, None, response.headers, response.status_code)

    def _patiently(self, send: Callable[[], Answer]) -> Answer:
        """A server that cannot be reached at all is an error at once; one that went away under the request is given
        a minute to come back."""
        deadline, was_sent = time.monotonic() + _COME_BACK_SECONDS, False
        for delay in backoff():
            try:
                return send()
            except ServerUnreachable as problem:
                was_sent = was_sent or problem.sent
                if not was_sent or time.monotonic() > deadline:
                    raise
            except ApiRefused as problem:
                # A proxy in front of a server that restarts answers for it.
                if not was_sent or problem.status not in (502, 503, 504) or time.monotonic() > deadline:
                    raise
            time.sleep(delay)
            self.look_again()
        raise AssertionError("the delays never end")

    def _open(self, target: Target) -> httpx2.Client:
        headers = {"User-Agent": f"oneoff/{__version__}", "Oneoff-Client": "cli", "Accept-Encoding": "identity"}
        if target.token:
            headers["Authorization"] = f"Bearer {target.token}"
        return httpx2.Client(
            base_url=target.url,
            headers=headers,
            timeout=httpx2.Timeout(_LONGEST_ANSWER_SECONDS, connect=10),
            # A proxy of the environment never leads to a server on this machine.
            trust_env=not target.is_loopback,
        )

    def _raise_for_error(self, response: httpx2.Response) -> None:
        if response.status_code < 400:
            return
        try:
            problem = response.json()
            code, detail = str(problem.get("code", "")), str(problem["detail"])
            several = problem.get("errors", ())
        except (ValueError, KeyError, TypeError, AttributeError):
            several = ()
            code, detail = "", self._not_ours(response)
        wait = response.headers.get("Retry-After", "")
        raise ApiRefused(response.status_code, code, detail, float(wait) if wait.isdigit() else None, several)

    def _not_ours(self, response: httpx2.Response) -> str:
        """Of an answer that no Oneoff gives: another program listens there, or a proxy answers for it."""
        said = f"{response.status_code} {response.reason_phrase}".rstrip()
        return (
            f"{self._target.url} answered {said}, which is no answer of a Oneoff server: does another program listen "
            f"there, or is it behind a proxy? Name the server with ONEOFF_URL (this is {self._target.source})"
        )

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        url, source = self._target.url, self._target.source
        try:
            yield
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as problem:
            raise ServerUnreachable(url, source, _words(problem)) from problem
        except httpx2.TransportError as problem:
            raise ServerUnreachable(url, source, _words(problem), sent=True) from problem
        except httpx2.InvalidURL as problem:
            raise CliError(f"{url!r} is no address of a server: {problem}") from problem


def backoff() -> Iterator[float]:
    """Delays in seconds, 0.1 doubling up to 5, each with jitter so that many clients do not come back in step."""
    delay = 0.1
    while True:
        yield delay * random.uniform(0.5, 1.0)  # noqa: S311 - not a secret
        delay = min(5.0, delay * 2)


def _encode(body: Any) -> bytes:
    try:
        return json.dumps(body, ensure_ascii=False).encode()
    except UnicodeEncodeError as problem:
        raise CliError("an argument or a value holds bytes that are not UTF-8: Oneoff takes text only") from problem


def _words(problem: Exception) -> str:
    words = str(problem).strip()
    if "WRONG_VERSION_NUMBER" in words:  # as OpenSSL says of an answer in plain HTTP
        return "it speaks no TLS: write http://"
    return words.partition("] ")[2].lower() or words or type(problem).__name__
