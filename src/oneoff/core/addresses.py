"""Which addresses Oneoff may call for a user: none that lie within the operator's own network, unless the operator
allows it. Pure; asked when an address is saved, and again for what its name resolves to before each connection.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Network = IPv4Network | IPv6Network
_EVERYTHING = ("0.0.0.0/0", "::/0")
_NAT64 = IPv6Network("64:ff9b::/96")
_LOCAL_NAT64 = IPv6Network("64:ff9b:1::/48")
_COMPATIBLE = IPv6Network("::/96")
_4_BYTES = 0xFFFFFFFF


def parse_networks(text: str) -> tuple[Network, ...]:
    """`10.0.0.0/8, fd00::/8, 192.168.1.7`, or `all`. Raises ValueError."""
    words = [word.strip() for word in text.split(",") if word.strip()]
    if words == ["all"]:
        words = list(_EVERYTHING)
    return tuple(ip_network(word) for word in words)


def is_allowed(address: str, allowed: Sequence[Network]) -> bool:
    """`address` as the resolver gives it, also `fe80::1%eth0`. Whatever IPv4 address it wraps is looked at, too."""
    if is_within(address, allowed):
        return True
    found = ip_address(address)
    return _is_public(_wrapped(found) or found)


def is_within(address: str, networks: Sequence[Network]) -> bool:
    found = ip_address(address)
    meant = _wrapped(found) or found
    return any(meant.version == network.version and meant in network for network in networks)


def _is_public(address: IPv4Address | IPv6Address) -> bool:
    """`is_global` alone lets multicast pass, and CGNAT depends on Python's version."""
    return (
        address.is_global
        and not address.is_multicast
        and not address.is_reserved
        and not address.is_private
        and not address.is_loopback
        and not address.is_link_local
        and not address.is_unspecified
        and not (isinstance(address, IPv6Address) and address.is_site_local)
        and address not in _LOCAL_NAT64
    )


def _wrapped(address: IPv4Address | IPv6Address) -> IPv4Address | None:
    """::ffff:127.0.0.1, 64:ff9b::7f00:1, 2002:7f00:1:: and others that lead to an IPv4 address in the end."""
    if isinstance(address, IPv4Address):
        return None
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    if address in _NAT64 or (address in _COMPATIBLE and int(address) > 1):
        return IPv4Address(int(address) & _4_BYTES)
    return None
