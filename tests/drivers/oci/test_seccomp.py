"""The profile of containers-common resolved for one processor and one set of capabilities."""

from __future__ import annotations

from typing import Any

from oneoff.drivers.oci.runtime import read_seccomp_profile
from oneoff.drivers.oci.seccomp import to_oci_seccomp

PROFILE: dict[str, Any] = {
    "defaultAction": "SCMP_ACT_ERRNO",
    "defaultErrnoRet": 38,
    "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]}],
    "syscalls": [
        {"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [], "includes": {}, "excludes": {}},
        {"names": ["setns", "bpf"], "action": "SCMP_ACT_ALLOW", "args": [], "includes": {"caps": ["CAP_SYS_ADMIN"]}},
        {
            "names": ["bpf"],
            "action": "SCMP_ACT_ERRNO",
            "errnoRet": 1,
            "errno": "EPERM",
            "args": None,
            "excludes": {"caps": ["CAP_SYS_ADMIN"]},
        },
        {"names": ["arch_prctl"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["amd64", "x32"]}},
        {"names": ["cacheflush"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["arm"]}},
        {
            "names": ["personality"],
            "action": "SCMP_ACT_ALLOW",
            "args": [{"index": 0, "value": 8, "valueTwo": 0, "op": "SCMP_CMP_EQ"}],
        },
    ],
}


def test_rules_for_other_processors_and_capabilities_are_left_out() -> None:
    resolved = to_oci_seccomp(PROFILE, "x86_64", [])
    assert resolved["defaultErrnoRet"] == 38
    assert resolved["architectures"] == ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]
    assert resolved["syscalls"][:-6] == [
        {"names": ["read"], "action": "SCMP_ACT_ALLOW"},
        {"names": ["bpf"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1},
        {"names": ["arch_prctl"], "action": "SCMP_ACT_ALLOW"},
        {
            "names": ["personality"],
            "action": "SCMP_ACT_ALLOW",
            "args": [{"index": 0, "value": 8, "valueTwo": 0, "op": "SCMP_CMP_EQ"}],
        },
    ]


def test_new_namespaces_stay_closed_whatever_the_profile_says() -> None:
    rules = to_oci_seccomp(PROFILE, "x86_64", ["CAP_SYS_ADMIN"])["syscalls"]
    assert {"names": ["bpf"], "action": "SCMP_ACT_ALLOW"} in rules
    closed, *_, clone, clone3 = rules[-6:]
    assert {"mount", "unshare", "setns", "keyctl"} <= set(closed["names"])
    assert (closed["action"], closed["errnoRet"]) == ("SCMP_ACT_ERRNO", 1)
    assert clone["args"] == [{"index": 0, "value": 0x7E020000, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}]
    assert (clone3["action"], clone3["errnoRet"]) == ("SCMP_ACT_ERRNO", 38)


def test_the_installed_profile_refuses_what_leads_out() -> None:
    rules = to_oci_seccomp(read_seccomp_profile(), "x86_64", [])["syscalls"]
    allowed = {name for rule in rules if rule["action"] == "SCMP_ACT_ALLOW" for name in rule["names"]}
    assert {"read", "execve", "clone", "openat2"} <= allowed
    assert not {"mount", "bpf", "unshare", "setns", "init_module", "kexec_load", "add_key", "perf_event_open"} & allowed
