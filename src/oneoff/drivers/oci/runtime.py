"""The programs of the host the oci driver leans on: which runtime, which version, what is missing, how to mend it."""

from __future__ import annotations

import asyncio
import json
import os
import platform
import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from oneoff.errors import DriverUnavailable

SECCOMP_PROFILE = Path("/usr/share/containers/seccomp.json")
_INITS = ("tini-static", "docker-init", "catatonit")
_PACKAGES = {"skopeo": "skopeo", "ip": "iproute2"}
# Beginning with the quickest. Older releases of crun were never tried.
_PREFERRED = ("crun", "runc")
_OLDEST_CRUN = (1, 8)
_TMPFS_CANDIDATES = (Path("/run"), Path("/dev/shm"))  # noqa: S108 - below it, a folder of our own, 0700


@dataclass(frozen=True, slots=True)
class Runtime:
    """`kind` is runc or crun; `why` says to people why this one is taken."""

    kind: str
    path: str
    version: str
    holes: tuple[str, ...]
    why: str

    def __str__(self) -> str:
        return f"{self.kind} {self.version}"


@dataclass(frozen=True, slots=True)
class Programs:
    """Everything found; made once per driver. `others` may take the runtime's place where it cannot work."""

    runtime: Runtime
    others: tuple[Runtime, ...]
    init: str
    sandbox: str | None  # runsc


async def find_programs(wanted: str | None) -> Programs:
    """Raises DriverUnavailable with the reason and the mend."""
    if os.geteuid() != 0:
        raise DriverUnavailable(
            "the oci driver needs root: start the server with sudo, or use --driver docker with a rootless engine"
        )
    if missing := [package for name, package in _PACKAGES.items() if shutil.which(name) is None]:
        raise DriverUnavailable(f"programs are missing: apt-get install {' '.join(missing)}")
    init = next((path for name in _INITS if (path := shutil.which(name))), None)
    if init is None:
        raise DriverUnavailable("there is no static init for containers: apt-get install tini")
    if not os.path.exists(SECCOMP_PROFILE):  # noqa: PTH110, ASYNC240
        raise DriverUnavailable(
            f"{SECCOMP_PROFILE} is missing: apt-get install golang-github-containers-common "
            "(containers-common on other systems)"
        )
    first, *others = await _find_runtimes(wanted)
    return Programs(first, tuple(others), init, shutil.which("runsc"))


async def _find_runtimes(wanted: str | None) -> list[Runtime]:
    """At least one, the preferred one first. Raises DriverUnavailable."""
    if wanted:
        if (path := shutil.which(wanted)) is None:
            raise DriverUnavailable(f"{wanted} was not found: apt-get install {Path(wanted).name}")
        return [await _look_at(path, "the setting oci_runtime names it")]
    found = [await _look_at(path, "") for name in _PREFERRED if (path := shutil.which(name))]
    fit = [each for each in found if each.kind != "crun" or not is_too_old(each.version)]
    if not fit:
        raise DriverUnavailable("neither crun nor runc was found: apt-get install crun")
    if fit[0].kind == "crun":
        why = "it starts a run in less time than runc"
    elif found[0].kind == "crun":
        why = f"{found[0]} is too old"
    else:
        why = "crun, which starts a run in less time, is not installed"
    return [replace(fit[0], why=why), *fit[1:]]


async def _look_at(path: str, why: str) -> Runtime:
    text = await _output(path, "--version")
    kind = "crun" if text.startswith("crun") else "runc"
    found = re.search(r"version\s+(\S+)", text)
    holes = known_runc_holes(text, await _debian_version("runc")) if kind == "runc" else ()
    return Runtime(kind, path, found.group(1) if found else "unknown", holes, why)


def is_too_old(crun_version: str) -> bool:
    numbers = re.match(r"(\d+)\.(\d+)", crun_version)
    return numbers is None or tuple(int(part) for part in numbers.groups()) < _OLDEST_CRUN


# First upstream releases with the fixes, and the revision of Debian 12's own 1.1.5 that carries them.
_HOLES = (
    ("CVE-2024-21626", ((1, 1, 12),), (1, 1, 5, 1)),
    ("CVE-2025-31133, CVE-2025-52565, CVE-2025-52881", ((1, 2, 8), (1, 3, 3), (1, 4, 0)), (1, 1, 5, 2)),
)


def known_runc_holes(version_text: str, package_version: str) -> tuple[str, ...]:
    """Sentences for `doctor`. Distributions mend old versions, so the package's revision counts where it is known."""
    match = re.search(r"version (\d+)\.(\d+)\.(\d+)", version_text)
    if not match:
        return ("the version of runc cannot be read, so nobody can tell which holes it has",)
    version = tuple(int(part) for part in match.groups())
    debian = re.search(r"(\d+)\.(\d+)\.(\d+)\+\S*\+deb12u(\d+)", f"{package_version} {version_text}")
    revision = tuple(int(part) for part in debian.groups()) if debian else None
    return tuple(
        f"runc {package_version or match.group(0).split()[1]} lets a hostile image leave its container ({names}): "
        "apt-get update && apt-get install runc, or install a newer release of runc"
        for names, fixed, fixed_revision in _HOLES
        if not _is_fixed(version, fixed) and not (revision and revision >= fixed_revision)
    )


def _is_fixed(version: tuple[int, ...], fixed: tuple[tuple[int, ...], ...]) -> bool:
    """Fixed in its own minor series, or in a later one than all that were mended."""
    return any(version >= f for f in fixed if version[:2] == f[:2]) or version >= max(fixed)


async def _debian_version(package: str) -> str:
    if shutil.which("dpkg-query") is None:
        return ""
    return (await _output("dpkg-query", "-W", "-f", "${Version}", package)).strip()


async def _output(*argv: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *argv, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    output, _ = await process.communicate()
    return output.decode(errors="replace")


def read_seccomp_profile() -> Any:
    return json.loads(SECCOMP_PROFILE.read_bytes())


def machine_id() -> str:
    for path in (Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id")):
        if path.exists() and (text := path.read_text().strip()):
            return text
    return platform.node()


def memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def make_state_folder(instance: str) -> Path:
    """`…/oneoff/INSTANCE` on a tmpfs, for root alone: variables lie there and must never reach a disk."""
    mounts = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    memory_mounts = {fields[4] for fields in mounts if fields[fields.index("-") + 1] == "tmpfs"}
    for candidate in _TMPFS_CANDIDATES:
        if str(candidate) in memory_mounts:
            folder = candidate / "oneoff" / instance
            for part in (folder.parent, folder):
                part.mkdir(mode=0o700, exist_ok=True)
                _require_private(part)
            return folder
    raise DriverUnavailable("neither /run nor /dev/shm is a tmpfs: mount -t tmpfs tmpfs /run")


def _require_private(folder: Path) -> None:
    facts = folder.lstat()
    if facts.st_uid != 0 or facts.st_mode & 0o077 or not folder.is_dir() or folder.is_symlink():
        raise DriverUnavailable(f"{folder} must belong to root alone: rm -r {folder}, and look who made it")


def has_sandbox() -> bool:
    return shutil.which("runsc") is not None


def notes(sandboxes: tuple[str, ...]) -> dict[str, str]:
    """What the driver cannot do, for `capabilities()`."""
    found = {"networks": "a run joins one network: host, none, or a namespace below /run/netns by its name"}
    if sandboxes:
        found["runsc"] = (
            "a sandboxed run has no network; its limits hold for the sandbox as a whole (64 MB and 256 threads more)"
        )
    else:
        found["sandboxes"] = "runsc is not installed: apt-get install runsc"
    return found
