"""ContainerSpec and facts of the machine -> config.json of the OCI runtime specification. Pure; used by the driver."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from oneoff.drivers.driver import ContainerSpec
from oneoff.drivers.oci import cgroup
from oneoff.drivers.oci.filters import Filter
from oneoff.drivers.oci.rootfs import User

INIT = "/dev/init"
_CPU_PERIOD_US = 100_000
_SANDBOX_BYTES = 64 * 1024 * 1024
_SANDBOX_THREADS = 256
_SHM_BYTES = 64 * 1024 * 1024
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# Docker's lists (moby, oci/defaults.go), and what later advisories added.
MASKED_PATHS = (
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
)
READONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the conversion needs to know and cannot look up itself."""

    bundle: str  # the folder of config.json; hosts, hostname and resolv.conf lie in it
    init: str  # static tini on the host
    cgroup: str
    cgroup_v2: bool
    network: str | None  # path of a network namespace; "" = the host's; None = a new, empty one
    user: User
    seccomp: Filter
    open_files: int  # nobody can raise the limit above the server's own


def to_variables(spec: ContainerSpec, user: User) -> list[str]:
    """The image's, then the run's, `KEY=value`; PATH, HOSTNAME and HOME where nobody says otherwise, as Docker does."""
    merged = {"PATH": DEFAULT_PATH, "HOSTNAME": spec.hostname, **spec.image.config.variables, **spec.variables}
    if not merged.get("HOME"):
        merged["HOME"] = user.home
    # It would make the init write into the run's log.
    merged.pop("TINI_VERBOSITY", None)
    return [f"{key}={value}" for key, value in merged.items()]


def to_config(spec: ContainerSpec, around: Surroundings) -> dict[str, Any]:
    return {
        "ociVersion": "1.0.2",
        "hostname": spec.hostname,
        "root": {"path": "rootfs", "readonly": spec.read_only_root},
        "process": _to_process(spec, around),
        "mounts": _to_mounts(around),
        "linux": _to_linux(spec, around),
        # For crun alone; who does not know it compiles the profile of `linux`.
        "annotations": {"run.oci.seccomp_bpf_data": around.seccomp.program} if around.seccomp.program else {},
    }


def _to_process(spec: ContainerSpec, around: Surroundings) -> dict[str, Any]:
    user = around.user
    capabilities = [f"CAP_{name}" for name in spec.capabilities]
    return {
        "terminal": False,
        "user": {"uid": user.uid, "gid": user.gid, "additionalGids": list(user.additional_gids)},
        # `--` keeps a command that begins with '-' from being read by the init.
        "args": [INIT, "--", *spec.argv],
        "env": to_variables(spec, user),
        "cwd": spec.image.config.working_dir or "/",
        "noNewPrivileges": True,
        # Ambient stays empty: with it, a non-root user would hold what only a root entrypoint needs. Inheritable
        # stays empty, too (CVE-2022-24769).
        "capabilities": {
            "bounding": capabilities,
            "effective": capabilities,
            "permitted": capabilities,
            "inheritable": [],
            "ambient": [],
        },
        "rlimits": [
            {"type": "RLIMIT_NOFILE", "soft": around.open_files, "hard": around.open_files},
            {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
        ],
    }


def _to_mounts(around: Surroundings) -> list[dict[str, Any]]:
    quiet = ["nosuid", "noexec", "nodev"]
    mounts = [
        _mount("/proc", "proc", "proc", quiet),
        _mount("/dev", "tmpfs", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
        _mount(
            "/dev/pts", "devpts", "devpts", ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]
        ),
        _mount("/dev/shm", "tmpfs", "shm", [*quiet, "mode=1777", f"size={_SHM_BYTES}"]),  # noqa: S108
        _mount("/dev/mqueue", "mqueue", "mqueue", quiet),
        # sysfs of a fresh mount needs the network namespace to be ours; with the host's it is bound.
        _mount("/sys", "sysfs", "sysfs", [*quiet, "ro"])
        if around.network != ""
        else _mount("/sys", "none", "/sys", ["rbind", *quiet, "ro"]),
        _mount("/sys/fs/cgroup", "cgroup", "cgroup", [*quiet, "relatime", "ro"]),
        _mount(INIT, "bind", around.init, ["bind", "ro", "nosuid", "nodev"]),
    ]
    for name in ("hosts", "hostname", "resolv.conf"):
        mounts.append(_mount(f"/etc/{name}", "bind", f"{around.bundle}/{name}", ["bind", "rprivate", *quiet]))
    return mounts


def _mount(destination: str, kind: str, source: str, options: list[str]) -> dict[str, Any]:
    return {"destination": destination, "type": kind, "source": source, "options": options}


def _to_linux(spec: ContainerSpec, around: Surroundings) -> dict[str, Any]:
    namespaces: list[dict[str, str]] = [{"type": kind} for kind in ("pid", "ipc", "uts", "mount")]
    if around.cgroup_v2:
        namespaces.append({"type": "cgroup"})
    if around.network is None:
        namespaces.append({"type": "network"})
    elif around.network:
        namespaces.append({"type": "network", "path": around.network})
    return {
        "cgroupsPath": f"/{around.cgroup}",
        "namespaces": namespaces,
        "resources": _to_resources(spec),
        "seccomp": around.seccomp.profile,
        "maskedPaths": list(MASKED_PATHS),
        "readonlyPaths": list(READONLY_PATHS),
        "rootfsPropagation": "private",
    }


def _to_resources(spec: ContainerSpec) -> dict[str, Any]:
    limits = spec.resources
    return {
        "devices": [{"allow": False, "access": "rwm"}],  # the runtime adds /dev/null and its like by itself
        # Memory and swap together: equal means no swap.
        "memory": {"limit": limits.memory_bytes, "swap": limits.memory_bytes},
        "cpu": {"quota": max(1000, round(limits.cpus * _CPU_PERIOD_US)), "period": _CPU_PERIOD_US},
        "pids": {"limit": limits.pids},
    }


def to_confinement(spec: ContainerSpec) -> dict[str, str]:
    """What the sandbox's own processes may take on the host: its kernel lives in there beside the command."""
    limits = spec.resources
    quota = max(1000, round(limits.cpus * _CPU_PERIOD_US))
    memory = limits.memory_bytes + _SANDBOX_BYTES
    return cgroup.to_settings(memory, quota, _CPU_PERIOD_US, limits.pids + _SANDBOX_THREADS)


def to_sandbox_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The same for gVisor's runsc: it has its own kernel, so the host's cgroups, filters and namespaces say nothing."""
    linux = {key: value for key, value in config["linux"].items() if key not in {"seccomp", "cgroupsPath", "resources"}}
    linux["namespaces"] = [entry for entry in linux["namespaces"] if entry["type"] != "cgroup"]
    mounts = [mount for mount in config["mounts"] if mount["type"] not in {"cgroup", "mqueue"}]
    return {**config, "linux": linux, "mounts": mounts, "annotations": {}}
