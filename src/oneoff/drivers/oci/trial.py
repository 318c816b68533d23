"""Which runtime is taken: each candidate first starts one container of the init alone. Used when the driver opens.

The container goes the way of every run (mounts, cgroups, seccomp, supervisor), so that what cannot work here is known
before the first run, with the runtime's own words. What worked is remembered until the machine restarts.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import os
import platform
from dataclasses import replace
from pathlib import Path

from oneoff.core.image import ImageConfig
from oneoff.drivers.driver import ContainerSpec, PreparedImage, Resources
from oneoff.drivers.oci import bundle, container, remains
from oneoff.drivers.oci.container import Draft, Network, Site
from oneoff.drivers.oci.folder import EXIT, RUN, START_FAILED, read_json
from oneoff.drivers.oci.rootfs import Root, User
from oneoff.drivers.oci.supervision import Supervision
from oneoff.errors import DriverUnavailable, ExitUnknown, StartFailed

_SECONDS = 10.0
_MEMORY_BYTES = 32 << 20
_LOG_BYTES = 64 << 10
_WORKED = ".worked"  # a folder beside those of instances, whose names never have a dot


async def choose_runtime(site: Site, supervision: Supervision) -> Site:
    """The site with the first runtime that works. Raises DriverUnavailable with the words of all that do not."""
    refused: list[str] = []
    for runtime in (site.programs.runtime, *site.programs.others):
        why = refused[0] if refused else runtime.why
        chosen = replace(site, programs=replace(site.programs, runtime=replace(runtime, why=why), others=()))
        words = await _try(chosen, supervision)
        if words is None:
            return chosen
        refused.append(f"{runtime} cannot start a container here: {words}")
    raise DriverUnavailable(
        "no runtime can start a container here: mend what they say, or install another release of crun or runc; "
        + "; ".join(refused)
    )


async def _try(site: Site, supervision: Supervision) -> str | None:
    """Why it cannot work; None when it can, or when nothing can be said: runs that go need us on a full disk, too."""
    worked = await asyncio.to_thread(_find_note, site)
    if worked.exists():
        return None
    try:
        words = await _start_one(site, supervision)
    except (OSError, ExitUnknown):
        return None
    if words is None:
        with contextlib.suppress(OSError):
            worked.parent.mkdir(mode=0o700, exist_ok=True)
            worked.touch()
    return words


async def _start_one(site: Site, supervision: Supervision) -> str | None:
    draft = await asyncio.to_thread(_to_draft, site)
    folder = site.runs / draft.spec.name
    await asyncio.to_thread(container.make, site, draft)
    try:
        async with asyncio.timeout(_SECONDS):
            await supervision.begin(str(folder), draft.spec.name, draft.engine_id)
            await supervision.ended(str(folder), draft.engine_id)
        facts = read_json(str(folder), EXIT)
    except (StartFailed, TimeoutError):
        failure = read_json(str(folder), START_FAILED)
        if failure is None or os.strerror(errno.ENOSPC) in failure["words"]:
            raise OSError from None
        return str(failure["words"])
    finally:
        if (run := read_json(str(folder), RUN)) is not None:
            await supervision.end(str(folder))
            await asyncio.to_thread(remains.clear_and_discard, run, folder)
    return f"its init ended with {facts['code']}" if facts and facts["code"] else None


def _to_draft(site: Site) -> Draft:
    """A container whose folder has no name yet: lists pass it over, and when we die the next server sweeps it away."""
    engine_id = os.urandom(16).hex()
    name = f"{remains.NEW}{site.owner_id}-{engine_id}"
    empty = site.runs.parent.parent / "empty"
    empty.mkdir(mode=0o755, exist_ok=True)
    spec = ContainerSpec(
        run_id="trial",
        name=name,
        image=PreparedImage("", "", ImageConfig()),
        argv=(bundle.INIT, "--version"),
        variables={},
        resources=Resources(_MEMORY_BYTES, 1.0, 16),
        networks=("none",),
        network_scope="",
        hostname="trial",
        log_dir=site.runs / name / "log",
        log_cap_bytes=_LOG_BYTES,
        grace_seconds=1.0,
        deadline=None,
    )
    return Draft(spec, engine_id, User(0, 0), Root(empty.parent, (empty.name,)), Network(None, "", ""))


def _find_note(site: Site) -> Path:
    """Of this runtime on this machine as it is now: another version, kernel, cgroup tree or disk is tried again."""
    programs = site.programs
    files = [(path, Path(path).stat()) for path in (programs.runtime.path, programs.init)]
    known = (
        [(path, facts.st_size, facts.st_mtime_ns) for path, facts in files],
        (platform.release(), site.hierarchies, site.runs.stat().st_dev),
    )
    return site.state.parent / _WORKED / hashlib.sha256(repr(known).encode()).hexdigest()
