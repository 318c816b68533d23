"""The profile of containers-common, resolved to the form of the OCI runtime specification. Pure; used by `bundle`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

# `uname -m` -> the profile's (Go's) name, and libseccomp's.
_MACHINES = {
    "x86_64": ("amd64", "SCMP_ARCH_X86_64"),
    "aarch64": ("arm64", "SCMP_ARCH_AARCH64"),
    "armv7l": ("arm", "SCMP_ARCH_ARM"),
    "ppc64le": ("ppc64le", "SCMP_ARCH_PPC64LE"),
    "s390x": ("s390x", "SCMP_ARCH_S390X"),
    "riscv64": ("riscv64", "SCMP_ARCH_RISCV64"),
}

# Podman's profile allows these to everybody, for containers within containers; Docker's does not. A new user namespace
# would give a run all capabilities inside it, and with them the kernel code most holes were found in.
_CLOSED = frozenset(
    [
        "add_key",
        "fsconfig",
        "fsmount",
        "fsopen",
        "fspick",
        "keyctl",
        "mount",
        "mount_setattr",
        "move_mount",
        "open_tree",
        "pivot_root",
        "reboot",
        "request_key",
        "setns",
        "syslog",
        "umount",
        "umount2",
        "unshare",
    ]
)
_EPERM, _ENOSYS = 1, 38
_X32 = "SCMP_ARCH_X32"
_NAMESPACE_FLAGS = 0x7E020000
_CLONE: dict[str, Any] = {
    "names": ["clone"],
    "action": "SCMP_ACT_ALLOW",
    # Masked: none of the flags that make a namespace.
    "args": [{"index": 0, "value": _NAMESPACE_FLAGS, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}],
}
# Its flags lie in memory, where a filter cannot look; libc goes on to clone.
_CLONE3 = {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": _ENOSYS}
# All sockets but AF_VSOCK's, which lead from a virtual machine to its host (Docker refuses them since 23.0), and those
# of the kernel's audit. Rules must not overlap: the second one is for protocol 9 where that is not the audit.
_VSOCK, _NETLINK, _AUDIT = 40, 16, 9
_SOCKETS: list[dict[str, Any]] = [
    {
        "names": ["socket"],
        "action": "SCMP_ACT_ALLOW",
        "args": [
            {"index": 0, "value": _VSOCK, "valueTwo": 0, "op": "SCMP_CMP_NE"},
            {"index": 2, "value": _AUDIT, "valueTwo": 0, "op": "SCMP_CMP_NE"},
        ],
    },
    {
        "names": ["socket"],
        "action": "SCMP_ACT_ALLOW",
        "args": [{"index": 0, "value": _NETLINK, "valueTwo": 0, "op": "SCMP_CMP_LT"}],
    },
    {
        "names": ["socket"],
        "action": "SCMP_ACT_ERRNO",
        "errnoRet": _EPERM,
        "args": [{"index": 0, "value": _VSOCK, "valueTwo": 0, "op": "SCMP_CMP_EQ"}],
    },
]
_REPLACED = _CLOSED | {"clone", "clone3", "socket"}


def to_oci_seccomp(profile: Mapping[str, Any], machine: str, capabilities: Collection[str]) -> dict[str, Any]:
    """`capabilities` with their CAP_ prefix. Raises KeyError for a machine the profile knows nothing of."""
    arch, libseccomp_arch = _MACHINES[machine]
    rules = [_to_rule(rule) for rule in profile["syscalls"] if _applies(rule, arch, capabilities)]
    closed = {"names": sorted(_CLOSED), "action": "SCMP_ACT_ERRNO", "errnoRet": _EPERM}
    clone = _CLONE if arch != "s390x" else {**_CLONE, "args": [{**_CLONE["args"][0], "index": 1}]}
    resolved: dict[str, Any] = {
        "defaultAction": profile["defaultAction"],
        "architectures": _architectures(profile, libseccomp_arch),
        "syscalls": [*(rule for rule in rules if rule["names"]), closed, *_SOCKETS, clone, _CLONE3],
    }
    if profile.get("defaultErrnoRet") is not None:
        resolved["defaultErrnoRet"] = profile["defaultErrnoRet"]
    return resolved


def _architectures(profile: Mapping[str, Any], libseccomp_arch: str) -> list[str]:
    """x32, which few kernels still have, is left out: it opens every call a second time, and the runtime spends a fifth
    of a run's start on compiling its rules."""
    for entry in profile.get("archMap") or ():
        if entry["architecture"] == libseccomp_arch:
            return [libseccomp_arch, *(name for name in entry.get("subArchitectures") or () if name != _X32)]
    return [libseccomp_arch]


def _applies(rule: Mapping[str, Any], arch: str, capabilities: Collection[str]) -> bool:
    includes, excludes = rule.get("includes") or {}, rule.get("excludes") or {}
    if includes.get("arches") and arch not in includes["arches"]:
        return False
    if includes.get("caps") and not all(name in capabilities for name in includes["caps"]):
        return False
    if arch in (excludes.get("arches") or ()):
        return False
    return not any(name in capabilities for name in excludes.get("caps") or ())


def _to_rule(rule: Mapping[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {
        "names": [name for name in rule["names"] if name not in _REPLACED],
        "action": rule["action"],
    }
    if rule.get("errnoRet") is not None:
        made["errnoRet"] = rule["errnoRet"]
    if rule.get("args"):
        made["args"] = [
            {"index": arg["index"], "value": arg["value"], "valueTwo": arg.get("valueTwo", 0), "op": arg["op"]}
            for arg in rule["args"]
        ]
    return made
