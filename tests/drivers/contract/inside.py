"""What a run sees and may do, looked at from inside the container."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from oneoff.drivers.driver import Resources
from oneoff.errors import NetworkUnavailable, StartFailed
from tests.drivers import commands
from tests.drivers.bench import Bench

_STATUS = "grep -E '^(Cap|NoNewPrivs|Seccomp)' /proc/self/status"


async def test_a_run_has_no_capabilities_no_new_privileges_and_a_seccomp_filter(bench: Bench) -> None:
    status = dict(line.split(":\t") for line in (await bench.sh(_STATUS)).lines)
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[name], 16) == 0
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")


async def test_capabilities_an_operator_allows_are_there_and_no_others(bench: Bench) -> None:
    status = dict(line.split(":\t") for line in (await bench.sh(_STATUS, capabilities=("CHOWN", "SETUID"))).lines)
    assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 1 << 0 | 1 << 7


async def test_dangerous_system_calls_are_refused(bench: Bench) -> None:
    result = await bench.sh(
        "mount -t tmpfs none /tmp && echo mounted; unshare -r true && echo unshared; mknod /tmp/d b 8 0"
    )
    assert result.stdout == b""
    assert result.exit.code != 0


async def test_no_socket_of_an_engine_and_no_folder_of_the_host_is_visible(bench: Bench) -> None:
    result = await bench.sh("ls /var/run/docker.sock /run/docker.sock /run/podman; awk '{print $2, $3}' /proc/mounts")
    mounts = dict(line.split() for line in result.lines)
    allowed = {"/etc/resolv.conf", "/etc/hostname", "/etc/hosts", "/run/.containerenv"}
    inits = {point for point in mounts if re.search(r"(docker|podman)?-?init$|tini", point)}
    real = {point for point, kind in mounts.items() if kind in {"ext4", "xfs", "btrfs", "9p", "virtiofs", "fuse"}}
    assert not real - allowed - inits - {"/"}


async def test_memory_pids_and_cpu_limits_are_those_of_the_spec(bench: Bench) -> None:
    bench.needs("limits")
    script = """
    first() { for file; do [ -r $file ] && cat $file && return; done; }
    first /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max
    first /sys/fs/cgroup/memory/memory.memsw.limit_in_bytes /sys/fs/cgroup/memory.swap.max
    first /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max
    [ -r /sys/fs/cgroup/cpu/cpu.cfs_quota_us ] &&
        cd /sys/fs/cgroup/cpu && echo $(cat cpu.cfs_quota_us cpu.cfs_period_us) || cat /sys/fs/cgroup/cpu.max
    """
    lines = (await bench.sh(script, resources=Resources(48 << 20, 0.25, 33))).lines
    assert lines[0] == str(48 << 20)
    assert lines[1] in {str(48 << 20), "0"}
    assert lines[2] == "33"
    quota, period = (int(word) for word in lines[3].split())
    assert quota / period == pytest.approx(0.25)


async def test_the_pids_limit_really_stops_a_fork_bomb(bench: Bench) -> None:
    bench.needs("limits")
    script = "i=0; while [ $i -lt 60 ]; do sleep 5 & i=$((i+1)); done 2>/dev/null; echo all"
    result = await bench.sh(script, resources=Resources(64 << 20, 1.0, 20))
    assert result.exit.code != 0
    assert b"all" not in result.stdout


async def test_the_root_is_writable_private_and_vanishes(bench: Bench) -> None:
    assert (await bench.sh("echo mine > /srv/new; cat /srv/new")).stdout == b"mine\n"
    assert (await bench.sh("cat /srv/new")).exit.code == 1


async def test_the_root_can_be_read_only(bench: Bench) -> None:
    result = await bench.sh("touch /srv/new || echo refused; echo x > /etc/passwd || echo refused", read_only_root=True)
    assert result.lines == ["refused", "refused"]


async def test_volumes_of_the_image_hold_nothing_over(bench: Bench) -> None:
    image = await bench.image("volume")
    assert (await bench.sh("cat /data/seeded; echo x > /data/new", image=image)).stdout == b"by the image\n"
    assert (await bench.sh("ls /data", image=image)).lines == ["seeded"]


async def test_the_user_of_the_image_and_its_home_are_followed(bench: Bench) -> None:
    image = await bench.image("user")
    assert (await bench.sh("id -u; id -g; echo $HOME", image=image)).lines == ["1000", "1000", "/home/app"]


async def test_a_user_by_name_or_number_replaces_that_of_the_image(bench: Bench) -> None:
    assert (await bench.sh("id -un; echo $HOME", user="app")).lines == ["app", "/home/app"]
    assert (await bench.sh("id -u; id -g", user="1234:5678")).lines == ["1234", "5678"]
    assert (await bench.sh("id -u; echo $HOME", user="0", image=await bench.image("user"))).lines == ["0", "/root"]


async def test_a_user_nobody_knows_fails_the_start_with_the_engines_words(bench: Bench) -> None:
    bench.needs("inside")
    with pytest.raises(StartFailed) as failed:
        await bench.start(("true",), user="nobody-knows-me")
    assert failed.value.exit_code is None
    assert "nobody-knows-me" in str(failed.value)


async def test_the_working_directory_is_made_if_it_is_missing(bench: Bench) -> None:
    assert (await bench.sh("pwd; ls -a /work | wc -l")).lines == ["/work", "2"]


async def test_variables_arrive_exactly_and_nothing_else_does(bench: Bench) -> None:
    variables = {
        "NEWLINES": "one\ntwo\n",
        "QUOTES": "'single' \"double\" `back` $HOME \\",
        "EQUALS": "a=b=c",
        "NON_ASCII": "grüße 你好 \U0001f680",
        "EMPTY": "",
        "BLANKS": "  two  ",
        "IMAGE_SAYS": "replaced",
    }
    bench.needs("inside")
    stdout = (await bench.run(("cat", "/proc/self/environ"), variables=variables)).stdout
    found = dict(item.split("=", 1) for item in stdout.decode().rstrip("\0").split("\0"))
    engines_own = {"HOME": "/root", "HOSTNAME": "runner"}
    path = "/bin:/sbin:/usr/bin:/usr/sbin:/usr/local/bin:/usr/local/sbin"
    for name in {"container", "TERM"} & set(found) if "environment" in bench.driver.capabilities().notes else set():
        del found[name]
    assert found == {"PATH": path, **engines_own, **variables}


async def test_a_variable_of_128_kb_and_1_mb_in_all_fit(bench: Bench) -> None:
    variables = {f"V{number}": "x" * 100_000 for number in range(10)} | {"LARGE": "y" * (131_071 - len("LARGE="))}
    result = await bench.sh("echo ${#V0} ${#V9} ${#LARGE}", variables=variables)
    assert result.lines == ["100000 100000 131065"]


async def test_arguments_arrive_exactly(bench: Bench) -> None:
    bench.needs("inside")
    argv = ("printf", "[%s]", "a b", "", "'\"$x", "grüße\n", "--", "-n")
    assert (await bench.run(argv)).stdout.decode() == "[a b][]['\"$x][grüße\n][--][-n]"


async def test_an_entrypoint_wraps_the_command(bench: Bench) -> None:
    bench.needs("inside")
    image = await bench.image("wrapper")
    argv = (*image.config.entrypoint, "sh", "-c", "echo wrapped: $WRAPPED")
    assert (await bench.run(argv, image=image)).stdout == b"wrapped: 1\n"
    assert (await bench.run(("sh", "-c", "echo wrapped: $WRAPPED"), image=image)).stdout == b"wrapped:\n"


async def test_the_hostname_is_that_of_the_spec(bench: Bench) -> None:
    assert (await bench.sh("hostname")).lines == ["runner"]


async def test_network_none_has_only_loopback_and_host_has_the_hosts(bench: Bench) -> None:
    count = "awk 'NR > 2 {print $1}' /proc/net/dev"
    loopback_and_tunnels = (await bench.sh(count, networks=("none",))).lines
    assert "lo:" in loopback_and_tunnels
    assert not [name for name in loopback_and_tunnels if name.startswith(("eth", "en", "veth", "docker"))]
    on_host = {line.split()[0] for line in Path("/proc/net/dev").read_text().splitlines()[2:]}
    assert set((await bench.sh(count, networks=("host",))).lines) & on_host - {"lo:"}


async def test_the_default_network_has_an_own_address(bench: Bench) -> None:
    result = await bench.sh("ip -4 -o addr | grep -v ' lo ' | wc -l; ip route | grep -c default", networks=())
    assert int(result.lines[0]) >= 1


async def test_a_run_joins_the_networks_it_names(bench: Bench) -> None:
    bench.needs("inside")
    bench.needs("named_networks")
    assert bench.rig.make_network is not None
    for name in ("oneoff-contract-a", "oneoff-contract-b"):
        bench.rig.make_network(name)
    script = "ip -4 -o addr | grep -v ' lo ' | wc -l"
    assert (await bench.sh(script, networks=("oneoff-contract-a",))).lines == ["1"]
    if bench.rig.name != "oci":
        assert (await bench.sh(script, networks=("oneoff-contract-a", "oneoff-contract-b"))).lines == ["2"]


async def test_a_network_that_is_not_there_is_told_with_what_makes_it(bench: Bench) -> None:
    bench.needs("named_networks")
    assert bench.rig.make_network is not None
    bench.rig.make_network("oneoff-contract-a")
    for names in ((), ("none",), ("host",), ("oneoff-contract-a",)):
        await bench.driver.check_networks(names)
    with pytest.raises(NetworkUnavailable, match=r"'no-such-network': .*(network create|netns add|add it to)"):
        await bench.driver.check_networks(("no-such-network",))
    with pytest.raises(NetworkUnavailable, match="'no-such-network'"):
        await bench.start(commands.TRUE, networks=("no-such-network",))


async def test_zombies_are_reaped_by_an_init(bench: Bench) -> None:
    script = "cat /proc/1/comm; (sleep 0.1 & exec true) ; sleep 0.4; grep -l '(zombie)' /proc/[0-9]*/status | wc -l"
    lines = (await bench.sh(script)).lines
    assert lines[0] not in {"sh", "busybox"}
    assert lines[-1] == "0"


async def test_the_sandbox_runs_a_command(bench: Bench) -> None:
    bench.needs("sandboxes")
    result = await bench.sh("dmesg | head -1; exit 7", sandbox="runsc", capabilities=("CHOWN",))
    assert result.exit.code == 7
    assert b"gVisor" in result.stdout
