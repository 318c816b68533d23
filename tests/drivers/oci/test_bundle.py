"""ContainerSpec -> config.json, by value. Pure."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from oneoff.core.image import ImageConfig
from oneoff.drivers.driver import ContainerSpec, PreparedImage, Resources
from oneoff.drivers.oci.bundle import (
    MASKED_PATHS,
    READONLY_PATHS,
    Surroundings,
    to_config,
    to_confinement,
    to_sandbox_config,
    to_variables,
)
from oneoff.drivers.oci.filters import Filter
from oneoff.drivers.oci.rootfs import User

IMAGE = PreparedImage(
    "sha256:" + "a" * 64, "x", ImageConfig(variables={"PATH": "/bin", "A": "image"}, working_dir="/app")
)
SPEC = ContainerSpec(
    run_id="run-1",
    name="oneoff-run-1",
    image=IMAGE,
    argv=("echo", "hi"),
    variables={"A": "run"},
    resources=Resources(memory_bytes=512 << 20, cpus=0.5, pids=100),
    networks=(),
    network_scope="srv-1",
    hostname="runner",
    log_dir=Path("logs"),
    log_cap_bytes=1,
    grace_seconds=1,
    deadline=None,
)
AROUND = Surroundings(
    bundle="/b",
    init="/usr/bin/tini-static",
    cgroup="oneoff.i.e",
    cgroup_v2=True,
    network="/run/netns/n",
    user=User(1000, 1001, (7,), "/home/app"),
    seccomp=Filter({"defaultAction": "SCMP_ACT_ERRNO"}),
    open_files=4096,
)


def test_the_process_is_hardened_and_runs_under_the_init() -> None:
    assert to_config(SPEC, AROUND)["process"] == {
        "terminal": False,
        "user": {"uid": 1000, "gid": 1001, "additionalGids": [7]},
        "args": ["/dev/init", "--", "echo", "hi"],
        "env": ["PATH=/bin", "HOSTNAME=runner", "A=run", "HOME=/home/app"],
        "cwd": "/app",
        "noNewPrivileges": True,
        "capabilities": {"bounding": [], "effective": [], "permitted": [], "inheritable": [], "ambient": []},
        "rlimits": [
            {"type": "RLIMIT_NOFILE", "soft": 4096, "hard": 4096},
            {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
        ],
    }


def test_the_linux_part_isolates_and_limits() -> None:
    assert to_config(SPEC, AROUND)["linux"] == {
        "cgroupsPath": "/oneoff.i.e",
        "namespaces": [
            *({"type": kind} for kind in ("pid", "ipc", "uts", "mount", "cgroup")),
            {"type": "network", "path": "/run/netns/n"},
        ],
        "resources": {
            "devices": [{"allow": False, "access": "rwm"}],
            "memory": {"limit": 512 << 20, "swap": 512 << 20},
            "cpu": {"quota": 50_000, "period": 100_000},
            "pids": {"limit": 100},
        },
        "seccomp": {"defaultAction": "SCMP_ACT_ERRNO"},
        "maskedPaths": list(MASKED_PATHS),
        "readonlyPaths": list(READONLY_PATHS),
        "rootfsPropagation": "private",
    }


def test_allowed_capabilities_are_neither_inheritable_nor_ambient() -> None:
    config = to_config(replace(SPEC, capabilities=("CHOWN",)), AROUND)
    allowed = ["CAP_CHOWN"]
    assert config["process"]["capabilities"] == {
        **dict.fromkeys(("bounding", "effective", "permitted"), allowed),
        "inheritable": [],
        "ambient": [],
    }


def test_networks_are_joined_made_or_the_hosts() -> None:
    def network(path: str | None) -> list[dict[str, str]]:
        namespaces = to_config(SPEC, replace(AROUND, network=path))["linux"]["namespaces"]
        return [entry for entry in namespaces if entry["type"] == "network"]

    assert network("/run/netns/n") == [{"type": "network", "path": "/run/netns/n"}]
    assert network(None) == [{"type": "network"}]
    assert network("") == []


def test_nothing_of_the_host_is_mounted_writable_but_the_three_files() -> None:
    binds = [m for m in to_config(SPEC, AROUND)["mounts"] if "bind" in m["options"]]
    assert {m["source"] for m in binds} == {"/usr/bin/tini-static", "/b/hosts", "/b/hostname", "/b/resolv.conf"}
    assert all("ro" in m["options"] for m in binds if m["source"].startswith("/usr"))
    mounts = {m["destination"]: m["options"] for m in to_config(SPEC, AROUND)["mounts"]}
    assert "ro" in mounts["/sys"]
    assert "ro" in mounts["/sys/fs/cgroup"]


def test_root_can_be_read_only() -> None:
    assert to_config(replace(SPEC, read_only_root=True), AROUND)["root"] == {"path": "rootfs", "readonly": True}


def test_variables_of_the_run_win_and_home_follows_the_user_unless_it_is_set() -> None:
    user = User(0, 0, (), "/root")
    spec = replace(SPEC, variables={"HOME": "/mine", "HOSTNAME": "other"})
    assert to_variables(spec, user) == ["PATH=/bin", "HOSTNAME=other", "A=image", "HOME=/mine"]
    bare = replace(SPEC, image=replace(IMAGE, config=ImageConfig()), variables={})
    assert to_variables(bare, user)[-1] == "HOME=/root"


def test_a_sandbox_gets_no_host_filters_but_is_confined_as_a_whole() -> None:
    config: dict[str, Any] = to_sandbox_config(to_config(SPEC, AROUND))
    assert not {"seccomp", "cgroupsPath", "resources"} & set(config["linux"])
    assert to_confinement(SPEC)["memory.limit_in_bytes"] == str((512 + 64) << 20)
    assert to_confinement(SPEC)["cpu.max"] == "50000 100000"
