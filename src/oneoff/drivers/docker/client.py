"""The HTTP side of the Docker Engine API, over a Unix socket or TCP; the only file of this driver that talks to it.

Callers hand over a `Call` (a plain value) and get JSON or a byte stream back. What the engine refuses becomes the error
the call names for that status; what it does not answer becomes EngineUnavailable. Nothing is ever sent twice.
"""

from __future__ import annotations

import asyncio
import json
import os
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from oneoff.errors import DriverError, DriverUnavailable, EngineUnavailable

DEFAULT_HOST = "unix:///var/run/docker.sock"
# Docker Engine 29 refuses what is below 1.44 and Debian 12's engine knows nothing above 1.41: both are inside.
OLDEST_API, NEWEST_API = (1, 41), (1, 47)
OTHERWISE = 0

Refusals = Mapping[int, Callable[[str], DriverError]]


@dataclass(frozen=True, slots=True)
class Call:
    """One request. `refusals` says what an HTTP status means here; OTHERWISE stands for all statuses not named."""

    method: str
    path: str
    params: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    refusals: Refusals = field(default_factory=dict)
    read_seconds: float | None = 120.0
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
        self._http = _open(self.host)
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
        async with self.stream(call) as response:
            await response.aread()
            return response.json() if response.content.strip() else None

    async def act(self, call: Call) -> None:
        """For calls whose answer says nothing: Podman answers some of them with a word that is not JSON."""
        async with self.stream(call) as response:
            await response.aread()

    @asynccontextmanager
    async def stream(self, call: Call) -> AsyncIterator[httpx2.Response]:
        """The answer with its body unread. A body cut short raises EngineUnavailable inside the block."""
        try:
            async with self._http.stream(**await self._request(call)) as response:
                if response.status_code >= 400:
                    await response.aread()
                    raise self._refusal(call, response)
                yield response
        except (httpx2.TransportError, json.JSONDecodeError, UnicodeDecodeError) as error:
            raise EngineUnavailable(
                f"the engine at {self.host} did not answer {call.method} {call.path}", _words_of(error)
            ) from error

    async def open_socket(self, limit: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A bare connection, for `connection`. Raises OSError."""
        scheme, _, address = self.host.partition("://")
        if scheme == "unix":
            return await asyncio.open_unix_connection(address, limit=limit)
        url = httpx2.URL(f"//{address}")
        context = _tls_context() if scheme != "http" else None
        return await asyncio.open_connection(url.host, url.port or 2375, ssl=context, limit=limit)

    async def close(self) -> None:
        await self._http.aclose()

    async def _request(self, call: Call) -> dict[str, Any]:
        prefix = f"/v{(await self.version()).api}" if call.versioned else ""
        request: dict[str, Any] = {
            "method": call.method,
            "url": prefix + call.path,
            "params": call.params,
            "headers": dict(call.headers),
            "timeout": httpx2.Timeout(120.0, connect=10.0, read=call.read_seconds, pool=None),
        }
        if isinstance(call.body, AsyncIterator):
            request["content"] = call.body
        elif call.body is not None:
            request["json"] = call.body
        return request

    def _refusal(self, call: Call, response: httpx2.Response) -> DriverError:
        words = _message(response)
        if response.status_code == 400 and "client version" in words:
            # "client version 1.47 is too new. Maximum supported API version is 1.41": replaced under our feet.
            self.forget_version()
            return EngineUnavailable("the engine changed its version", words)
        meaning = call.refusals.get(response.status_code) or call.refusals.get(OTHERWISE)
        if meaning is None or response.status_code == 503:
            return EngineUnavailable(f"the engine refused {call.method} {call.path} ({response.status_code})", words)
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


def _open(host: str) -> httpx2.AsyncClient:
    scheme, found, address = host.partition("://")
    if found and scheme == "unix":
        # No TLS on a Unix socket: the certificates of the system would be read for nothing, 3 MB.
        transport = httpx2.AsyncHTTPTransport(uds=address, limits=_LIMITS, verify=False)
        return httpx2.AsyncClient(transport=transport, base_url="http://engine", headers=_HEADERS, trust_env=False)
    if found and scheme in {"tcp", "http", "https"}:
        context = _tls_context()
        base = f"{'https' if context or scheme == 'https' else 'http'}://{address}"
        return httpx2.AsyncClient(
            verify=context or True, base_url=base, headers=_HEADERS, limits=_LIMITS, trust_env=False
        )
    raise DriverUnavailable(f"DOCKER_HOST {host!r} cannot be used: write unix:///path/to/socket or tcp://host:port")


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


# Docker compresses what it sends from /archive when it may, and the beginning of that cannot be read.
_HEADERS = {"Accept-Encoding": "identity"}
# Each going run holds two connections (its wait and its log), so their number is not limited here.
_LIMITS = httpx2.Limits(max_connections=None, max_keepalive_connections=32, keepalive_expiry=60.0)


def _message(response: httpx2.Response) -> str:
    """The engine's own words: Docker says `message`, Podman sometimes `cause` as well."""
    try:
        answer = json.loads(response.content)
    except ValueError:
        return response.content[:500].decode("utf-8", "replace").strip()
    return str(answer.get("message") or answer.get("cause") or answer) if isinstance(answer, dict) else str(answer)


def _words_of(error: Exception) -> str:
    return str(error) or type(error).__name__


def _api(text: str) -> tuple[int, int]:
    major, _, minor = text.partition(".")
    return int(major), int(minor or 0)


def _text(api: tuple[int, int]) -> str:
    return f"{api[0]}.{api[1]}"
