"""The pool of network namespaces: what a run reaches, what reaches it, and that nothing stays. Real namespaces."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Callable
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest

from oneoff.drivers.driver import Handle, LogPosition
from oneoff.drivers.oci import netrules
from oneoff.drivers.oci.driver import OciDriver
from oneoff.errors import StartFailed
from tests.drivers.oci.conftest import Workbench
from tests.rig import process

pytestmark = pytest.mark.anyio


def test_a_subnet_overlaps_with_nothing_that_is_routed() -> None:
    free = netrules.choose_subnet("00000000", [])
    assert free == IPv4Network("10.192.0.0/21")
    assert netrules.choose_subnet("00000000", [free]) == IPv4Network("10.192.8.0/21")
    assert netrules.choose_subnet("ffffffff", [IPv4Network("10.0.0.0/8")]).subnet_of(IPv4Network("172.16.0.0/12"))


def test_two_instances_begin_their_search_at_different_places() -> None:
    one, two = (netrules.choose_subnet(netrules.to_tag(name), []) for name in ("one", "two"))
    assert one != two


def test_a_machine_without_a_free_subnet_is_told_what_helps() -> None:
    with pytest.raises(StartFailed, match="--network host"):
        netrules.choose_subnet("00000000", [IPv4Network("0.0.0.0/0")])


def test_resolvers_of_the_hosts_loopback_are_not_copied() -> None:
    text = "nameserver 127.0.0.53\nnameserver 9.9.9.9\nnameserver ::1\nnameserver fe80::1%eth0\n# nameserver 8.8.8.8\n"
    assert netrules.to_resolvers(text) == ["9.9.9.9"]


def test_names_of_links_fit_the_kernels_limit() -> None:
    plan = netrules.Plan(netrules.to_tag("i"), IPv4Network("10.192.0.0/21"))
    assert len(netrules._veth(plan.tag, plan.last)) <= 15
    assert f"oneoff-{plan.tag}-5" in netrules.to_link_batch(plan, f"oneoff-{plan.tag}-5", 5)[0]


async def test_a_run_reaches_the_host_by_name_and_the_host_cannot_reach_the_run(oci: Workbench) -> None:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello from the host\n")
        writer.close()

    server = await asyncio.start_server(answer, "0.0.0.0", 0)
    port = server.sockets[0].getsockname()[1]
    script = f"nc host.oneoff.internal {port} </dev/null; hostname -i; nc -l -p 5000 -e echo reached"
    handle = await oci.start("sh", "-c", script, networks=())
    out = await _lines(oci, handle, 2)
    assert out[0] == "hello from the host"
    for _ in range(2):
        with pytest.raises(OSError):
            await asyncio.wait_for(asyncio.open_connection(out[1].split()[0], 5000), 2)
        await asyncio.sleep(0.1)
    server.close()
    await server.wait_closed()
    await oci.driver.remove(handle)


async def test_runs_do_not_reach_each_other(oci: Workbench) -> None:
    listener = await oci.start("sh", "-c", "hostname -i; nc -l -p 5000 -e echo reached", networks=())
    address = (await _lines(oci, listener, 1))[0].split()[0]
    ended, out, _ = await oci.run("nc", "-w", "2", address, "5000", networks=())
    assert (ended.code, out) == (1, "")
    await oci.driver.remove(listener)


async def test_the_outside_is_reached_through_nat(oci: Workbench, wait_until: Callable[..., Any]) -> None:
    """A namespace beside the host plays the outside; it has no route back to the runs' subnet."""
    name = f"outside{os.getpid()}"
    veth = f"oot{os.getpid()}"
    inner = f"ip link set lo up; ip addr add 198.51.100.2/24 dev {veth}p; ip link set {veth}p up"
    _sh(f"ip netns add {name}; ip link add {veth} type veth peer name {veth}p netns {name}")
    try:
        _sh(f"ip addr add 198.51.100.1/24 dev {veth}; ip link set {veth} up; ip netns exec {name} sh -c '{inner}'")
        with subprocess.Popen(
            ["ip", "netns", "exec", name, "busybox", "nc", "-ll", "-p", "7000", "-e", "echo", "outside"]
        ) as listener:
            await wait_until(lambda: f":{7000:04X} " in _sh(f"ip netns exec {name} cat /proc/net/tcp /proc/net/tcp6"))
            ended, out, err = await oci.run("nc", "198.51.100.2", "7000", networks=())
            listener.kill()
        assert (ended.code, out) == (0, "outside\n"), err
    finally:
        _sh(f"ip link del {veth}; ip netns del {name}")


async def test_the_bridge_keeps_its_address_when_namespaces_come_and_go(oci: Workbench) -> None:
    """By itself it takes the lowest address of its ports, and runs that knew the old one reach nothing for a while."""
    handle = await oci.driver.create(oci.spec("true", networks=()))
    bridge = netrules.to_bridge(netrules.to_tag(oci.instance))
    address = Path(f"/sys/class/net/{bridge}/address")
    before = address.read_text()
    port = f"oop{os.getpid()}"
    _sh(f"ip link add {port} address 02:00:00:00:00:01 type veth peer name {port}p; ip link set {port} master {bridge}")
    try:
        assert address.read_text() == before
    finally:
        _sh(f"ip link del {port}")
    await oci.driver.remove(handle)


async def test_ipv6_is_off_and_resolvers_are_written(oci: Workbench) -> None:
    out = await oci.shell(
        "ip -6 addr | wc -l; grep -c nameserver /etc/resolv.conf; grep -c 127 /etc/resolv.conf || true", networks=()
    )
    assert out.split() == ["0", out.split()[1], "0"]
    assert int(out.split()[1]) >= 1


async def test_a_namespace_is_lent_to_one_run_at_a_time_and_again_to_the_same_service(oci: Workbench) -> None:
    def lent(handle: Handle) -> str:
        return str(oci.driver._known(handle)["network"])

    first, second = [await oci.driver.create(oci.spec("true", networks=())) for _ in range(2)]
    assert lent(first) != lent(second)
    name = lent(first)
    await oci.driver.remove(first)
    other = await oci.driver.create(oci.spec("true", networks=(), network_scope="srv-2"))
    again = await oci.driver.create(oci.spec("true", networks=()))
    assert (lent(other) != name, lent(again)) == (True, name)


async def test_a_namespace_somebody_is_still_in_is_not_lent_again(
    oci: Workbench, wait_until: Callable[..., Any]
) -> None:
    handle = await oci.driver.create(oci.spec("true", networks=()))
    name = str(oci.driver._known(handle)["network"])
    with subprocess.Popen(["ip", "netns", "exec", name, "sleep", "100"]) as squatter:
        await wait_until(lambda: Path(f"/proc/{squatter.pid}/ns/net").samefile(Path("/run/netns") / name))
        await oci.driver._networks.give_back(name, "srv-1", empty=False)
        assert name not in oci.driver._networks._idle["srv-1"]
        squatter.kill()
    await oci.driver.remove(handle)


async def test_a_killed_servers_namespaces_are_removed_but_not_those_in_use(
    oci: Workbench, wait_until: Callable[..., Any]
) -> None:
    handle = await oci.start("sleep", "100", networks=())
    used = str(oci.driver._known(handle)["network"])
    tag = netrules.to_tag(oci.instance)
    # What a killed server leaves: its lock is free, everything else is still there.
    old = oci.driver
    os.close(old._owner._fd)
    old._owner._fd = -1
    oci.driver = OciDriver(oci.data_dir, oci.instance)
    before = {path.name for path in Path("/run/netns").glob(f"*{tag}*")}
    await oci.driver.check()
    await wait_until(lambda: not (before - {used}) & {path.name for path in Path("/run/netns").glob(f"*{tag}*")})
    assert (Path("/run/netns") / used).exists()
    old._site = None
    await old.close()


async def test_close_leaves_what_running_containers_use(oci: Workbench) -> None:
    handle = await oci.start("sh", "-c", "sleep 1; ip route | grep -c default", networks=())
    await oci.driver.close()
    oci.driver = OciDriver(oci.data_dir, oci.instance)
    assert (await oci.driver.wait(handle)).code == 0
    assert await oci.output(handle) == ("1\n", "")


async def test_a_named_namespace_is_joined_and_a_missing_one_refused(oci: Workbench) -> None:
    name = f"named{os.getpid()}"
    _sh(f"ip netns add {name}; ip -n {name} link add wire type veth peer name other")
    try:
        assert "wire" in await oci.shell("ip link", networks=(name,))
    finally:
        _sh(f"ip netns del {name}")
    for missing in (name, "../../proc/1/ns/net"):
        with pytest.raises(StartFailed, match="no network namespace"):
            await oci.driver.create(oci.spec("true", networks=(missing,)))


async def test_the_hosts_network_reaches_the_hosts_loopback(oci: Workbench) -> None:
    port = process.free_port()
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", port)
    ended, _, err = await oci.run("nc", "host.oneoff.internal", str(port), networks=("host",))
    assert ended.code == 0, err
    server.close()
    await server.wait_closed()


async def test_a_killed_supervisor_gives_its_namespace_back(oci: Workbench) -> None:
    handle = await oci.start("sleep", "100", networks=())
    os.kill(oci.supervisor_pid(handle), signal.SIGKILL)
    await oci.driver.remove(handle)
    assert len(oci.driver._networks._idle["srv-1"]) == 1


def _sh(script: str) -> str:
    return subprocess.run(["sh", "-ec", script], check=True, stdout=subprocess.PIPE, text=True).stdout


async def _lines(oci: Workbench, handle: Handle, count: int) -> list[str]:
    kept = b""
    async for chunk in oci.driver.logs(handle, LogPosition()):
        kept += chunk.data
        if kept.count(b"\n") >= count:
            break
    return kept.decode().splitlines()
