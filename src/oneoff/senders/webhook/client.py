"""One POST to a receiver over HTTP, whoever it is: connected to the address that was checked, redirections not
followed, and over within its time. Used by the engine's deliveries."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping, Sequence
from functools import lru_cache
from urllib.parse import urlsplit

import httpx2

from oneoff import __version__
from oneoff.core.addresses import Network
from oneoff.core.webhook import Answer, judge
from oneoff.errors import AddressNotAllowed
from oneoff.senders.webhook.addresses import Unresolved, find_addresses

LIMIT_SECONDS = 15.0
_MOST_READ = 64 << 10
_MOST_KEPT = 1 << 10
_MOST_ADDRESSES = 3


async def post(
    address: str, headers: Mapping[str, str], body: bytes, networks: Sequence[Network], limit: float = LIMIT_SECONDS
) -> Answer:
    """What came of it; never raises for what the receiver does. `limit` is for the whole exchange, with the resolving
    of the name."""
    if address.startswith("https:"):
        await asyncio.to_thread(_trust)  # made once, and slowly
    try:
        async with asyncio.timeout(limit):
            return await _post(address, headers, body, networks)
    except TimeoutError:
        return Answer(error=f"no whole answer within {limit:g} s")
    except (Unresolved, AddressNotAllowed) as problem:
        return Answer(error=str(problem))


async def _post(address: str, headers: Mapping[str, str], body: bytes, networks: Sequence[Network]) -> Answer:
    parts = urlsplit(address)
    answer = Answer(error="its name leads nowhere")
    addresses = await find_addresses(parts, networks)
    for number, found in enumerate(addresses[:_MOST_ADDRESSES], 1):
        try:
            return await _post_to(found, address, headers, body)
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as problem:  # nothing was sent: the next one may do
            answer = Answer(error=_words(problem))
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError) as problem:
            return Answer(error=_words(problem))
        if number == len(addresses):
            break
    return answer


async def _post_to(found: str, address: str, headers: Mapping[str, str], body: bytes) -> Answer:
    url = httpx2.URL(address)
    sent = {"User-Agent": f"oneoff/{__version__}", "Accept-Encoding": "identity", **headers}
    sent["Host"] = url.netloc.decode()
    async with (
        httpx2.AsyncClient(
            verify=url.scheme == "https" and _trust(), timeout=None, trust_env=False, follow_redirects=False
        ) as client,
        client.stream(
            "POST",
            url.copy_with(host=found),
            headers=sent,
            content=body,
            # The certificate is that of the name, whatever address it is reached by.
            extensions={"sni_hostname": url.host},
        ) as response,
    ):
        return judge(response.status_code, await _read(response))


async def _read(response: httpx2.Response) -> str | None:
    """How the answer begins; the rest of it, up to a bound, is read and dropped."""
    kept, size = b"", 0
    async for piece in response.aiter_raw():
        kept += piece[: _MOST_KEPT - len(kept)]
        size += len(piece)
        if size >= _MOST_READ:
            break
    return kept.decode(errors="replace").replace("\0", "\ufffd") or None


@lru_cache(maxsize=1)
def _trust() -> ssl.SSLContext:
    return httpx2.create_ssl_context()


def _words(problem: BaseException) -> str:
    """Without the address, which may hold a password."""
    cause: BaseException | None = problem
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted: {cause.verify_message}"
        if isinstance(cause, ConnectionRefusedError):
            return "the connection was refused"
        cause = cause.__cause__ or cause.__context__
    words = {
        httpx2.ConnectError: "no connection",
        httpx2.RemoteProtocolError: "it broke off, or answered with something that is not HTTP",
        httpx2.ReadError: "the connection was lost before the answer",
        httpx2.WriteError: "the connection was lost while sending",
    }
    return next((text for kind, text in words.items() if isinstance(problem, kind)), type(problem).__name__)
