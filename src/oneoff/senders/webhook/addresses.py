"""What the name in a receiver's address leads to, and whether Oneoff may go there. Used before each connection, and by
the operations when an address is saved."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from ipaddress import ip_address
from urllib.parse import SplitResult

from oneoff.core.addresses import Network, is_allowed, is_within
from oneoff.errors import AddressNotAllowed

_PORTS = {"https": 443, "http": 80}


class Unresolved(Exception):
    """The name leads nowhere, at least now. `str` says so in words."""


async def find_addresses(url: SplitResult, networks: Sequence[Network]) -> list[str]:
    """Where to connect: the addresses that were checked, not the name, which may lead elsewhere a moment later.
    `networks` are the private ones that the operator allows. Raises AddressNotAllowed if only one of them is refused;
    Unresolved."""
    host = url.hostname or ""
    found = await _resolve(host, port_of(url))
    for address in found:
        if not is_allowed(address, networks):
            raise AddressNotAllowed(host, address)
        if url.scheme == "http" and not is_within(address, networks):
            raise AddressNotAllowed(host, address, "without TLS only the operator's own networks can be reached")
    return found


def port_of(url: SplitResult) -> int:
    return url.port or _PORTS[url.scheme]


async def _resolve(host: str, port: int) -> list[str]:
    try:
        return [str(ip_address(host))]
    except ValueError:
        pass
    try:
        async with asyncio.timeout(10):
            rows = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError, TimeoutError) as problem:
        raise Unresolved(f"the name {host} does not resolve") from problem
    return list(dict.fromkeys(str(row[4][0]) for row in rows))
