"""The HTTP side of the Docker Engine API, over a Unix socket or TCP; the only file of this driver that talks to it.

Callers hand over a `Call` (a plain value) and get JSON or a byte stream back. What the engine refuses becomes the error
the call names for that status; what it does not answer becomes EngineUnavailable. Nothing is ever sent twice.
"""

from __future__ import annotations

import json
import os
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from oneoff.drivers.docker.connection import Answer, BrokenExchange, Connections, Request
from oneoff.errors import DriverError, DriverUnavailable, EngineUnavailable

DEFAULT_HOST = "unix:///var/run/docker.sock"
# Docker Engine 29 refuses what is below 1.44 and Debian 12's engine knows nothing above 1.41: both are inside.
OLDEST_API, NEWEST_API = (1, 41), (1, 47)
OTHERWISE = 0

Refusals = Mapping[int, Callable[[str], DriverError]]


@dataclass(frozen=True, slots=True)
class Call:
    """One request. `refusals` says what an HTTP status means here; OTHERWISE stands for all statuses not named.

    A body that is an iterator of bytes needs its Content-Length among `headers`. `read_seconds` without a byte of the
    answer are too many, None waits for ever; once a live answer has begun, it may pause for as long as it likes."""

    method: str
    path: str
    params: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    refusals: Refusals = field(default_factory=dict)
    read_seconds: float | None = 120.0
    is_live: bool = False
    versioned: bool = True


@dataclass(frozen=True, slots=True)
class EngineVersion:
    """What /version says."""

    api: str
    is_podman: bool
    product: str  # for people: "docker 20.10.24"
    components: Mapping[str, str]  # component name -> the most exact version text there is


class Engine:
    """Connections to one engine. Safe for concurrent use; nothing is opened before the first call."""

    def __init__(self, host: str | None = None) -> None:
        self.host = host or os.environ.get("DOCKER_HOST") or DEFAULT_HOST
        self._connections, self._authority = _open(self.host)
        self._version: EngineVersion | None = None

    @property
    def is_local(self) -> bool:
        """Does it run on this machine, as far as its address tells?"""
        return self.host.startswith("unix://")

    async def version(self) -> EngineVersion:
        """Asked once; again after `forget_version`. Raises DriverUnavailable when no API version suits both."""
        if self._version is None:
            self._version = to_version(await self.send(Call("GET", "/version", versioned=False, read_seconds=20)))
        return self._version

    def forget_version(self) -> None:
        """The engine may have been replaced by another version."""
        self._version = None

    async def send(self, call: Call) -> Any:
        """The JSON of the answer, None when it has none."""
        async with self.stream(call) as answer:
            content = await answer.read()
        try:
            return json.loads(content) if content.strip() else None
        except ValueError as error:
            raise self._no_answer(call, error) from error

    async def act(self, call: Call) -> None:
        """For calls whose answer says nothing: Podman answers some of them with a word that is not JSON."""
        async with self.stream(call) as answer:
            await answer.read()

    @asynccontextmanager
    async def stream(self, call: Call) -> AsyncIterator[Answer]:
        """The answer with its body unread. A body cut short raises EngineUnavailable inside the block."""
        prefix = f"/v{(await self.version()).api}" if call.versioned else ""
        try:
            async with self._connections.exchange(to_request(call, prefix, self._authority)) as answer:
                if answer.status >= 400:
                    raise self._refusal(call, answer.status, await answer.read())
                yield answer
        except BrokenExchange as error:
            raise self._no_answer(call, error) from error

    async def close(self) -> None:
        await self._connections.close()

    def _no_answer(self, call: Call, error: Exception) -> EngineUnavailable:
        return EngineUnavailable(f"the engine at {self.host} did not answer {call.method} {call.path}", str(error))

    def _refusal(self, call: Call, status: int, content: bytes) -> DriverError:
        words = _message(content)
        if status == 400 and "client version" in words:
            # "client version 1.47 is too new. Maximum supported API version is 1.41": replaced under our feet.
            self.forget_version()
            return EngineUnavailable("the engine changed its version", words)
        meaning = call.refusals.get(status) or call.refusals.get(OTHERWISE)
        if meaning is None or status == 503:
            return EngineUnavailable(f"the engine refused {call.method} {call.path} ({status})", words)
        return meaning(words)


def to_version(answer: Mapping[str, Any]) -> EngineVersion:
    """The newest API version both sides know. Raises DriverUnavailable."""
    newest, oldest = _api(answer["ApiVersion"]), _api(answer.get("MinAPIVersion") or "1.0")
    chosen = min(newest, NEWEST_API)
    if chosen < OLDEST_API or chosen < oldest:
        raise DriverUnavailable(
            f"the engine speaks API {answer.get('MinAPIVersion')} to {answer['ApiVersion']} and Oneoff needs "
            f"{_text(OLDEST_API)} to {_text(NEWEST_API)}: install Docker Engine 20.10 or newer, or a newer Oneoff"
        )
    listed = answer.get("Components") or []
    components = {c["Name"]: (c.get("Details") or {}).get("GitCommit") or c.get("Version", "") for c in listed}
    is_podman = any(c["Name"].startswith("Podman") for c in listed)
    product = f"{'podman' if is_podman else 'docker'} {answer.get('Version', '?')}"
    return EngineVersion(_text(chosen), is_podman, product, components)


def to_request(call: Call, prefix: str, authority: str) -> Request:
    """The bytes to send. A proxy before several engines may choose by `authority`. Docker compresses what it sends from
    /archive when it may, and the beginning of that cannot be read: so it may not."""
    query = f"?{urlencode(call.params)}" if call.params else ""
    headers = {"Host": authority, "Accept-Encoding": "identity", **call.headers}
    body: bytes | AsyncIterator[bytes] = b""
    if isinstance(call.body, AsyncIterator):
        body = call.body
    elif call.body is not None:
        body = json.dumps(call.body).encode()
        headers["Content-Type"] = "application/json"
    lines = [f"{call.method} {prefix}{quote(call.path, safe=_SAFE)}{query} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return Request("\r\n".join([*lines, ""]).encode("latin-1"), body, call.read_seconds, call.is_live)


def _open(host: str) -> tuple[Connections, str]:
    """And what its engine is called there."""
    scheme, found, address = host.partition("://")
    if found and scheme == "unix":
        return Connections(host), "engine"
    if found and scheme in {"tcp", "http", "https"} and (authority := _to_authority(address)) is not None:
        context = _tls_context()
        if scheme == "https" and context is None:
            context = ssl.create_default_context()
        return Connections(f"tcp://{address}", context), authority
    raise DriverUnavailable(f"DOCKER_HOST {host!r} cannot be used: write unix:///path/to/socket or tcp://host:port")


def _to_authority(address: str) -> str | None:
    """`host:port`, either of which may be left out; None when it is something else."""
    try:
        url = urlsplit(f"//{address}")
        is_alone = url.path in ("", "/") and url.port != 0
        return url.netloc.encode("idna").decode() if is_alone else None
    except ValueError:  # "Port could not be cast to integer value", "Invalid IPv6 URL", "label too long"
        return None


def _tls_context() -> ssl.SSLContext | None:
    """Docker's own variables: DOCKER_TLS_VERIFY and DOCKER_CERT_PATH with ca.pem, cert.pem and key.pem."""
    if not os.environ.get("DOCKER_TLS_VERIFY"):
        return None
    folder = Path(os.environ.get("DOCKER_CERT_PATH") or Path.home() / ".docker")
    try:
        context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
        context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    except OSError as error:
        raise DriverUnavailable(
            f"DOCKER_TLS_VERIFY is set, and the certificates in {folder} cannot be read", str(error)
        ) from error
    return context


# What may stand in a path as it is: RFC 3986, 3.3.
_SAFE = "/:@!$&'()*+,;=-._~"


def _message(content: bytes) -> str:
    """The engine's own words: Docker says `message`, Podman sometimes `cause` as well."""
    try:
        answer = json.loads(content)
    except ValueError:
        return content[:500].decode("utf-8", "replace").strip()
    return str(answer.get("message") or answer.get("cause") or answer) if isinstance(answer, dict) else str(answer)


def _api(text: str) -> tuple[int, int]:
    major, _, minor = text.partition(".")
    return int(major), int(minor or 0)


def _text(api: tuple[int, int]) -> str:
    return f"{api[0]}.{api[1]}"
