"""Which network a container joins, and the three files in /etc that go with it. Used by the driver."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from oneoff.drivers.driver import ContainerSpec
from oneoff.drivers.oci.container import Network
from oneoff.drivers.oci.network import NETNS, NetworkPool
from oneoff.errors import NetworkUnavailable, StartFailed

_HOST_NAME = "host.oneoff.internal"
_LOOPBACK = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"


async def join(spec: ContainerSpec, pool: NetworkPool) -> Network:
    """() = a namespace of the pool; ("host",), ("none",), or the name of one below /run/netns. Raises StartFailed."""
    if not spec.networks:
        lease = await pool.lend(spec.network_scope)
        hosts = f"{_LOOPBACK}{lease.address}\t{spec.hostname}\n{lease.gateway}\t{_HOST_NAME}\n"
        resolv = "".join(f"nameserver {address}\n" for address in pool.resolvers(lease.gateway))
        return Network(lease.path, hosts, resolv + _search(), lease)
    name, path = spec.networks[0], find_namespace(spec.networks)
    own_name = f"127.0.1.1\t{spec.hostname}\n"
    if name == "host":
        return Network("", f"{_read('/etc/hosts')}\n{own_name}127.0.0.1\t{_HOST_NAME}\n", _read("/etc/resolv.conf"))
    if name == "none":
        return Network(None, _LOOPBACK + own_name, "")
    return Network(
        str(path), _LOOPBACK + own_name, _read(f"/etc/netns/{name}/resolv.conf") or _read("/etc/resolv.conf")
    )


def find_namespace(networks: Sequence[str]) -> Path | None:
    """The file below /run/netns that these networks mean; None for a namespace of our own making, or the machine's.
    Raises StartFailed, NetworkUnavailable."""
    if len(networks) > 1:
        raise StartFailed(f"the oci driver joins one network, not {len(networks)}: name one of them")
    name = networks[0] if networks else "none"
    if name in ("host", "none"):
        return None
    path = NETNS / name
    if "/" in name or name.startswith(".") or not path.exists():
        names = sorted(each.name for each in NETNS.iterdir()) if NETNS.is_dir() else []
        there = [each for each in names if not each.startswith("oneoff-")]
        mend = f"`ip netns add {name}` makes one, and --network host is the machine's own"
        raise NetworkUnavailable(f"network namespace {name!r}", mend, there)
    return path


def _search() -> str:
    """Search domains and options of the host hold inside, too."""
    lines = [line for line in _read("/etc/resolv.conf").splitlines() if line.split()[:1] in (["search"], ["options"])]
    return "".join(f"{line}\n" for line in lines)


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
