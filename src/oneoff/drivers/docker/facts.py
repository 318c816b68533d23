"""What the engine is and what it cannot do, from its own words. Pure; called by `driver`."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

from oneoff.drivers.docker.client import EngineVersion
from oneoff.drivers.driver import Capabilities, NodeFacts

# First fixed release of each line, from runc's own security advisories; the last one closes several at once.
_RUNC_CVES = (
    # Debian 12 mended the first one in 1.1.5+ds1-1+deb12u1.
    ("CVE-2024-21626 (a container can reach the host's files)", {(1, 1): 12}, (1, 2)),
    ("CVE-2025-31133, CVE-2025-52565 and CVE-2025-52881 (container escape)", {(1, 2): 8, (1, 3): 3}, (1, 4)),
)
_DEADLINE = "Docker has nothing that ends a container at an instant; the server does it when it is back"
_LAST_NEWLINE = (
    "Docker's log does not keep whether a last line of more than 16 KiB had a newline: a server that was away when it "
    "was written assumes one"
)
_KEEPS_LOG = "the engine keeps the log until the container is removed; the server reads it from there"


def to_node_facts(version: EngineVersion, info: Mapping[str, Any], machine_id: str) -> NodeFacts:
    """From the JSON of GET /version and GET /info."""
    # Podman makes a new ID for every answer; where it keeps its containers tells engines apart.
    engine_id = info.get("DockerRootDir") if version.is_podman else info.get("ID")
    node = hashlib.sha256(f"{machine_id}\n{engine_id}\n{info.get('Name')}".encode()).hexdigest()[:20]
    return NodeFacts(
        node=node,
        cpus=int(info["NCPU"]),
        memory_bytes=int(info["MemTotal"]),
        engine=version.product,
        known_holes=to_known_holes(version, info),
    )


def to_known_holes(version: EngineVersion, info: Mapping[str, Any]) -> tuple[str, ...]:
    """Sentences for `doctor`."""
    holes = []
    runc = version.components.get("runc") or ""
    for cve, fixed, safe_from in _RUNC_CVES:
        if _is_older(runc, fixed, safe_from):
            hint = "Debian and Ubuntu mend old versions without a new number: see the package's changelog"
            holes.append(f"runc {runc} may have {cve}: upgrade runc. {hint}")
    options = [str(option) for option in info.get("SecurityOptions") or []]
    if not any("seccomp" in option for option in options):
        holes.append("the engine has no seccomp: system calls are not filtered. Use a kernel and engine that have it")
    if any("seccomp" in option and "unconfined" in option for option in options):
        holes.append("the engine's seccomp profile is switched off: remove seccomp-profile from its daemon.json")
    for limit, name in (("MemoryLimit", "memory"), ("PidsLimit", "pids"), ("CpuCfsQuota", "CPU")):
        if info.get(limit) is False:
            holes.append(f"the engine cannot limit {name}: enable the {name} cgroup of the kernel")
    if info.get("MemoryLimit") and info.get("SwapLimit") is False:
        holes.append("the engine cannot limit swap: start the kernel with swapaccount=1, or run without swap")
    return tuple(holes)


def to_capabilities(sandboxes: tuple[str, ...], *, is_podman: bool, cgroup_version: str = "") -> Capabilities:
    notes = {"keeps_log": _KEEPS_LOG, "enforces_deadline": _DEADLINE}
    if not is_podman:
        notes["last_newline"] = _LAST_NEWLINE
    if "runsc" not in sandboxes:
        notes["sandboxes"] = "the engine does not know the runtime runsc: add it under `runtimes` in its daemon.json"
    if is_podman:
        notes["sandboxes"] = "Podman's compatible API ignores the runtime it is asked for (seen with 4.3.1)"
        notes["file_owners"] = "Podman does not tell who owns a file of the image, so only its x bits are looked at"
        notes["environment"] = "Podman adds container=podman to the environment, and TERM"
        notes["live_log"] = "Podman's log follower loses lines, so a running log is read again and again"
        notes["resolve"] = "Podman cannot ask a registry for a digest, so resolve() pulls"
    oom_evidence = not (is_podman and cgroup_version == "1")
    if not oom_evidence:
        notes["oom_evidence"] = "Podman's conmon tells of an out-of-memory kill only on cgroup v2"
    return Capabilities(oom_evidence=oom_evidence, sandboxes=sandboxes, notes=notes)


def _is_older(text: str, fixed: Mapping[tuple[int, int], int], safe_from: tuple[int, int]) -> bool:
    match = re.match(r"v?(\d+)\.(\d+)\.(\d+)", text)
    if match is None:
        return False
    major, minor, patch = (int(part) for part in match.groups())
    line = (major, minor)
    mended = line == (1, 1) and safe_from == (1, 2) and "+deb12u" in text
    return line < safe_from and not mended and patch < fixed.get(line, 1 << 30)
