"""HTTP to receivers outside, in plain values: no other module of the senders knows the library."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass

import httpx2


class NoAnswer(Exception):
    """Nobody answered, or not in time. `str` says why, for people."""


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """`headers` by lower-case names; of `body` no more than was asked for."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class HttpClient:
    """Connections to receivers, kept and used again. Redirects are answers: nobody is led elsewhere."""

    def __init__(self, tls: ssl.SSLContext, timeout_seconds: float) -> None:
        self._http = httpx2.AsyncClient(
            verify=tls, timeout=timeout_seconds, follow_redirects=False, trust_env=False, http1=True
        )

    async def post(self, url: str, headers: Mapping[str, str], body: bytes, most_bytes: int = 65_536) -> HttpAnswer:
        """Raises NoAnswer."""
        try:
            async with self._http.stream("POST", url, headers=dict(headers), content=body) as response:
                kept = bytearray()
                async for piece in response.aiter_bytes():
                    kept += piece
                    if len(kept) >= most_bytes:
                        break
                names = {name.lower(): value for name, value in response.headers.items()}
                return HttpAnswer(response.status_code, names, bytes(kept[:most_bytes]))
        except httpx2.TimeoutException as problem:
            raise NoAnswer(f"no answer in time ({type(problem).__name__})") from problem
        except httpx2.LocalProtocolError as problem:  # its own words repeat the header that holds the token
            raise NoAnswer("one of the headers is none: look at the token") from problem
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as problem:
            raise NoAnswer(_words(problem)) from problem

    async def close(self) -> None:
        await self._http.aclose()


def _words(problem: BaseException) -> str:
    cause: BaseException | None = problem
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted: {cause.verify_message}"
        cause = cause.__cause__ or cause.__context__
    words = str(problem).strip().partition("] ")[2] or str(problem).strip() or type(problem).__name__
    return words[:1].lower() + words[1:]
