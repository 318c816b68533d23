"""What `oneoff doctor` finds out about container drivers: the programs they lean on, and what they say themselves."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from oneoff.cli.findings import Finding, ok, problem, warning
from oneoff.core.limits import format_bytes
from oneoff.drivers.driver import NodeFacts
from oneoff.errors import DriverError
from oneoff.settings import Settings

_SECCOMP = Path("/usr/share/containers/seccomp.json")
# What the oci driver takes: any one program of a row will do. The package is Debian's.
_NEEDED = (
    (("crun", "runc"), "crun"),
    (("skopeo",), "skopeo"),
    (("tini-static", "docker-init", "catatonit"), "tini"),
    (("iptables", "nft"), "iptables"),
    (("ip",), "iproute2"),
)


def check_programs() -> Finding:
    """Programs and files of the oci driver, with their versions."""
    found, missing = [], []
    for names, package in _NEEDED:
        here = [name for name in names if shutil.which(name)]
        found += [_with_version(name) for name in here]
        if not here:
            missing.append(package)
    if not _SECCOMP.exists():
        missing.append("golang-github-containers-common")
    if missing:
        return warning(
            "programs",
            f"the oci driver lacks some; here are {', '.join(found) or 'none'}",
            f"apt-get install {' '.join(missing)} (not needed with Docker)",
        )
    return ok("programs", ", ".join([*found, str(_SECCOMP)]))


async def check_drivers(settings: Settings) -> list[Finding]:
    """One of the drivers that may be taken must work. The others are told, but are no problem then."""
    names = ("docker", "oci") if settings.driver == "auto" else (settings.driver,)
    facts: dict[str, NodeFacts] = {}
    refused: dict[str, str] = {}
    for name in names:
        try:
            facts[name] = await _ask(name, settings)
        except DriverError as refusal:
            refused[name] = str(refusal)
    findings = [each for name, one in facts.items() for each in _of_facts(name, one)]
    for name, why in refused.items():
        if facts:
            findings.append(ok(f"driver {name}", f"not here, and not needed: {why}"))
        else:
            says, _, mend = why.partition(": ")
            findings.append(problem(f"driver {name}", says, mend))
    return findings


def _of_facts(name: str, facts: NodeFacts) -> Iterator[Finding]:
    memory = format_bytes(facts.memory_bytes)
    engine = f"{facts.engine} ({facts.why})" if facts.why else facts.engine
    yield ok(f"driver {name}", f"works: {engine}, {facts.cpus} CPU, {memory} of memory")
    for hole in facts.known_holes:
        says, _, mend = hole.partition(": ")
        yield warning(f"driver {name}", says, mend)


async def _ask(name: str, settings: Settings) -> NodeFacts:
    """In a folder of its own: a server that runs here with the same driver is not touched."""
    from oneoff.drivers.registry import DriverChoice, make_driver

    with tempfile.TemporaryDirectory(prefix="oneoff-doctor-") as scratch:
        choice = DriverChoice(name, "doctor", Path(scratch), settings.docker_host, settings.oci_runtime)
        driver = make_driver(name, choice)
        try:
            return await driver.check()
        finally:
            await driver.close()


def _with_version(name: str) -> str:
    for option in ("--version", "-V"):
        try:
            done = subprocess.run([name, option], capture_output=True, text=True, timeout=5, check=False)
        except (OSError, subprocess.SubprocessError):
            continue
        if found := re.search(r"\d+\.\d+[0-9A-Za-z.+~-]*", done.stdout + done.stderr):
            return f"{name} {found[0].rstrip('.,')}"
    return name
