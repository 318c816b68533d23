"""The host's side of the network pool: subnet, bridge, NAT, namespaces. Text for `ip`, `nft` and `iptables` is made by
pure functions; everything carries the instance's tag, so that it can be found and removed after a crash."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import ipaddress
import json
import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from oneoff.errors import StartFailed

_PREFIX = 21  # 2,045 runs at once
_RESOLV_FILES = (Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf"))
_LINK_LOCAL = "169.254.0.0/16"  # the metadata service of clouds hands out credentials of the machine


@dataclass(frozen=True, slots=True)
class Plan:
    """Which bridge and which addresses this instance uses."""

    tag: str
    subnet: ipaddress.IPv4Network
    mtu: int = 1500

    @property
    def bridge(self) -> str:
        return to_bridge(self.tag)

    @property
    def gateway(self) -> str:
        return str(self.subnet[1])

    @property
    def first(self) -> int:
        return 2

    @property
    def last(self) -> int:
        return self.subnet.num_addresses - 2

    def address(self, index: int) -> str:
        return str(self.subnet[index])


class HostLock:
    """Instances choose subnets one after another."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1

    async def __aenter__(self) -> None:
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        await asyncio.to_thread(fcntl.flock, self._fd, fcntl.LOCK_EX)

    async def __aexit__(self, *_: object) -> None:
        os.close(self._fd)


def to_tag(instance: str) -> str:
    return hashlib.sha256(instance.encode()).hexdigest()[:8]


def to_bridge(tag: str) -> str:
    return f"oo{tag}"


def bridge_exists(tag: str) -> bool:
    return _is_link(to_bridge(tag))


def choose_subnet(tag: str, taken: Iterable[ipaddress.IPv4Network]) -> ipaddress.IPv4Network:
    """A private subnet that overlaps with nothing in `taken`; where the search begins depends on the instance."""
    busy = list(taken)
    pools = [ipaddress.IPv4Network(text) for text in ("10.192.0.0/10", "172.16.0.0/12", "10.0.0.0/8", "192.168.0.0/16")]
    for pool in pools:
        count = 1 << (_PREFIX - pool.prefixlen)
        begin = int(tag, 16) % count
        for step in range(count):
            number = int(pool.network_address) + ((begin + step) % count << (32 - _PREFIX))
            candidate = ipaddress.IPv4Network((number, _PREFIX))
            if not any(candidate.overlaps(other) for other in busy):
                return candidate
    raise StartFailed("every private subnet is routed somewhere on this machine: use --network host, or free a /21")


async def set_up(tag: str) -> Plan:
    """Bridge and rules, made or completed. Raises StartFailed with the words of the program that refused."""
    bridge = to_bridge(tag)
    present = await _subnet_of(bridge)
    subnet = present or choose_subnet(tag, await _routed())
    plan = Plan(tag, subnet, await _outer_mtu())
    if not bridge_exists(tag):
        await _batch(
            [f"link add {bridge} type bridge forward_delay 0 stp_state 0", f"link set {bridge} addrgenmode none"]
        )
    if present is None:
        await _batch([f"addr add {plan.gateway}/{_PREFIX} dev {bridge}"])
    # An address of its own: else it has the lowest of its ports, and as those come and go, runs that have asked for
    # it before send to nobody for most of a minute.
    await _batch([f"link set {bridge} address {_mac(plan.gateway)}", f"link set {bridge} up"])
    _turn_on("/proc/sys/net/ipv4/ip_forward")
    await _call(host_rules_program(), stdin=to_host_rules(plan))
    return plan


async def tear_down(tag: str) -> None:
    await _try("ip", "link", "del", to_bridge(tag))
    if shutil.which("iptables"):
        for table, hook, chain in _jumps(tag):
            while await _try("iptables", "-w", "-t", table, "-D", hook, "-j", chain):
                pass
            await _try("iptables", "-w", "-t", table, "-F", chain)
            await _try("iptables", "-w", "-t", table, "-X", chain)
    else:
        await _try("nft", "delete", "table", "ip", f"oneoff_{tag}")


async def make_namespace(plan: Plan, name: str, index: int) -> None:
    """A namespace with a working, closed network in it. Raises StartFailed."""
    await _batch(to_link_batch(plan, name, index))
    await _call(["ip", "netns", "exec", name, "sh", "-e"], stdin=to_inner_script(plan, index))


async def delete_namespace(name: str, tag: str) -> None:
    """With its link: deletion of a namespace frees the host's end only later."""
    await _try("ip", "link", "del", _veth(tag, int(name.rpartition("-")[2])))
    if os.path.exists(f"/run/netns/{name}"):  # noqa: PTH110, ASYNC240
        await _try("ip", "netns", "del", name)


def to_link_batch(plan: Plan, name: str, index: int) -> list[str]:
    veth = _veth(plan.tag, index)
    return [
        f"netns add {name}",
        f"link add {veth} mtu {plan.mtu} type veth peer name eth0 mtu {plan.mtu} "
        f"address {_mac(plan.address(index))} netns {name}",
        f"link set {veth} addrgenmode none master {plan.bridge}",
        f"link set {veth} type bridge_slave isolated on",
        f"link set {veth} up",
    ]


def to_inner_script(plan: Plan, index: int) -> str:
    """Runs inside the namespace. IPv6 is off: nothing filters or translates it outside."""
    lines = [
        "for f in /proc/sys/net/ipv6/conf/*/disable_ipv6; do [ ! -e $f ] || echo 1 > $f; done",
        # Ping and low ports without capabilities, as Docker gives them.
        "echo '0 2147483647' > /proc/sys/net/ipv4/ping_group_range",
        "echo 0 > /proc/sys/net/ipv4/ip_unprivileged_port_start",
        "ip link set lo up",
        f"ip addr add {plan.address(index)}/{_PREFIX} dev eth0",
        "ip link set eth0 up",
        f"ip route add default via {plan.gateway}",
    ]
    return "\n".join([*lines, _inner_rules()]) + "\n"


def _inner_rules() -> str:
    if shutil.which("nft"):
        rules = (
            "table inet oneoff { chain input { type filter hook input priority 0; policy drop; iif lo accept; "
            "ct state established,related accept; meta l4proto tcp reject with tcp reset; "
            "meta nfproto ipv4 reject; }; }"
        )
        return f"nft '{rules}'"
    return "\n".join(
        [
            "iptables -P INPUT DROP",
            "iptables -A INPUT -i lo -j ACCEPT",
            "iptables -A INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT",
            "iptables -A INPUT -j REJECT",
        ]
    )


def host_rules_program() -> list[str]:
    """iptables first: where Docker's firewall drops what is forwarded, only its own tables can let us through."""
    if shutil.which("iptables"):
        return ["sh", "-e"]
    if shutil.which("nft"):
        return ["nft", "-f", "-"]
    raise StartFailed("there is neither iptables nor nft: apt-get install nftables, or use --network host")


def to_host_rules(plan: Plan) -> str:
    """May be applied again and again."""
    bridge = plan.bridge
    if not shutil.which("iptables"):
        return _to_nft_rules(plan)
    forward, nat = (chain for _, _, chain in _jumps(plan.tag))
    lines = []
    for table, hook, chain in _jumps(plan.tag):
        use = f"iptables -w -t {table}"
        lines.append(f"{use} -N {chain} 2>/dev/null || {use} -F {chain}")
        lines.append(f"{use} -C {hook} -j {chain} 2>/dev/null || {use} -I {hook} -j {chain}")
    use = f"iptables -w -A {forward}"
    lines += [
        f"{use} -i {bridge} -d {_LINK_LOCAL} -p {kind} --dport 53 -j ACCEPT" for kind in ("udp", "tcp")
    ]  # some clouds have their resolver there
    lines += [
        f"{use} -i {bridge} -d {_LINK_LOCAL} -j REJECT",
        f"{use} -i {bridge} ! -o {bridge} -j ACCEPT",
        f"{use} -o {bridge} -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT",
        f"{use} -o {bridge} -j REJECT",
        f"iptables -w -t nat -A {nat} -s {plan.subnet} ! -o {bridge} -j MASQUERADE",
    ]
    return "\n".join(lines) + "\n"


def _to_nft_rules(plan: Plan) -> str:
    bridge = plan.bridge
    return (
        f"table ip oneoff_{plan.tag} {{}}\ndelete table ip oneoff_{plan.tag}\n"
        f"table ip oneoff_{plan.tag} {{\n"
        "  chain forward { type filter hook forward priority 0; policy accept;\n"
        f"    iifname {bridge} ip daddr {_LINK_LOCAL} meta l4proto {{ tcp, udp }} th dport 53 accept\n"
        f"    iifname {bridge} ip daddr {_LINK_LOCAL} reject\n"
        f"    oifname {bridge} ct state established,related accept\n"
        f"    oifname {bridge} reject\n"
        "  }\n"
        "  chain nat { type nat hook postrouting priority 100;\n"
        f"    ip saddr {plan.subnet} oifname != {bridge} masquerade\n"
        "  }\n}\n"
    )


def _jumps(tag: str) -> list[tuple[str, str, str]]:
    return [("filter", "FORWARD", f"ONEOFF-{tag}-F"), ("nat", "POSTROUTING", f"ONEOFF-{tag}-N")]


def resolvers(gateway: str) -> list[str]:
    """Name servers a run can reach: the host's, unless they listen on its loopback; then those behind them."""
    for path in _RESOLV_FILES:
        with contextlib.suppress(OSError):
            if found := to_resolvers(path.read_text()):
                return found
    # Only a resolver of the host's own is left; it may listen on the bridge as well.
    return [gateway]


def to_resolvers(text: str) -> list[str]:
    found = []
    for line in text.splitlines():
        words = line.split()
        if len(words) > 1 and words[0] == "nameserver":
            with contextlib.suppress(ValueError):
                address = ipaddress.ip_address(words[1].partition("%")[0])
                if address.version == 4 and not address.is_loopback and not address.is_unspecified:
                    found.append(str(address))
    return found


def _veth(tag: str, index: int) -> str:
    return f"oo{tag}.{index}"


def _mac(address: str) -> str:
    """From the address: one that is used again keeps its neighbour entry true."""
    return "02:42:" + ":".join(f"{part:02x}" for part in ipaddress.IPv4Address(address).packed)


async def _routed() -> list[ipaddress.IPv4Network]:
    routes = json.loads(await _call(["ip", "-j", "-4", "route", "show", "table", "all"]) or "[]")
    found = []
    for route in routes:
        with contextlib.suppress(ValueError):
            if route.get("dst") != "default":
                found.append(ipaddress.IPv4Network(route["dst"], strict=False))
    return [network for network in found if network.prefixlen]


async def _outer_mtu() -> int:
    """Of the way out: larger packets of a run would vanish where nobody answers that they are too large."""
    for route in json.loads(await _call(["ip", "-j", "-4", "route", "show", "default"]) or "[]"):
        with contextlib.suppress(OSError, ValueError):
            return _mtu_of(route["dev"])
    return 1500


async def _subnet_of(bridge: str) -> ipaddress.IPv4Network | None:
    if not _is_link(bridge):
        return None
    for link in json.loads(await _call(["ip", "-j", "-4", "addr", "show", "dev", bridge]) or "[]"):
        for entry in link.get("addr_info", ()):
            return ipaddress.IPv4Network(f"{entry['local']}/{entry['prefixlen']}", strict=False)
    return None


def _is_link(name: str) -> bool:
    return Path(f"/sys/class/net/{name}").exists()


def _mtu_of(link: str) -> int:
    return int(Path(f"/sys/class/net/{link}/mtu").read_text())


def _turn_on(path: str) -> None:
    file = Path(path)
    if file.read_text().strip() != "1":
        file.write_text("1\n")


async def _batch(lines: Sequence[str]) -> None:
    await _call(["ip", "-batch", "-"], stdin="\n".join(lines) + "\n")


async def _call(argv: Sequence[str], stdin: str = "") -> str:
    status, output, words = await _run(argv, stdin)
    if status:
        raise StartFailed("the run's network cannot be made (--network host does without)", words)
    return output


async def _try(*argv: str) -> bool:
    return (await _run(argv, ""))[0] == 0


async def _run(argv: Sequence[str], stdin: str) -> tuple[int, str, str]:
    pipe = asyncio.subprocess.PIPE
    # A pipe that the program never reads is closed under uvloop's feet when it ends: "the handler is closed".
    source = pipe if stdin else asyncio.subprocess.DEVNULL
    try:
        process = await asyncio.create_subprocess_exec(*argv, stdin=source, stdout=pipe, stderr=pipe)
    except OSError as problem:
        return 127, "", f"{argv[0]}: {problem.strerror}"
    output, words = await process.communicate(stdin.encode() or None)
    return process.returncode or 0, output.decode(errors="replace"), words.decode(errors="replace").strip()
