"""Makes the folders of one container from its spec: what `create` does on disk. Used by the driver, in a thread."""

from __future__ import annotations

import json
import os
import resource
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oneoff.drivers.driver import ContainerSpec
from oneoff.drivers.oci import bundle, cgroup, remains
from oneoff.drivers.oci.bundle import Surroundings
from oneoff.drivers.oci.filters import Filters
from oneoff.drivers.oci.folder import CONTROL, RUN, reserve, write_json
from oneoff.drivers.oci.network import Lease
from oneoff.drivers.oci.rootfs import Root, User
from oneoff.drivers.oci.runtime import Programs
from oneoff.errors import ContainerExists

_MOST_OPEN_FILES = 1_048_576


@dataclass(frozen=True, slots=True)
class Site:
    """What all containers of one driver share."""

    instance: str
    node: str
    runs: Path
    state: Path
    owner_id: str
    programs: Programs
    hierarchies: tuple[tuple[str, str], ...]
    filters: Filters


@dataclass(frozen=True, slots=True)
class Network:
    """Which network a container joins: `path` as in `Surroundings.network`, and its three files in /etc."""

    path: str | None
    hosts: str
    resolv: str
    lease: Lease | None = None


@dataclass(frozen=True, slots=True)
class Draft:
    """A container that is wanted, with what was found out about it."""

    spec: ContainerSpec
    engine_id: str
    user: User
    root: Root
    network: Network


def make(site: Site, draft: Draft) -> None:
    """It exists as soon as its folder has its name. Raises ContainerExists; leaves nothing behind when it fails."""
    engine_id = draft.engine_id
    making = site.runs / f"{remains.NEW}{site.owner_id}-{engine_id}"
    bundle_folder = site.state / engine_id
    try:
        making.mkdir(mode=0o700)
        bundle_folder.mkdir(mode=0o700)
        _fill_folder(site, draft, making)
        _fill_bundle(site, draft, bundle_folder)
        making.rename(site.runs / draft.spec.name)
    except OSError as problem:
        shutil.rmtree(bundle_folder, ignore_errors=True)
        shutil.rmtree(making, ignore_errors=True)
        if (site.runs / draft.spec.name).exists():
            raise ContainerExists(draft.spec.name) from problem
        raise


def _fill_folder(site: Site, draft: Draft, making: Path) -> None:
    image_root = draft.root.stat()
    # The layer's root shows through as the container's root: same mode and owner as the image's.
    (making / "upper").mkdir()
    os.chown(making / "upper", image_root.st_uid, image_root.st_gid)
    (making / "upper").chmod(image_root.st_mode & 0o7777)
    (making / "work").mkdir()
    os.mkfifo(making / CONTROL, 0o600)
    reserve(str(making))
    write_json(str(making), RUN, to_run(site, draft))


def _fill_bundle(site: Site, draft: Draft, folder: Path) -> None:
    spec = draft.spec
    around = Surroundings(
        bundle=str(folder),
        init=site.programs.init,
        cgroup=remains.cgroup_name(site.instance, draft.engine_id),
        cgroup_v2=cgroup.is_unified(site.hierarchies),
        network=draft.network.path,
        user=draft.user,
        seccomp=site.filters.find(spec.capabilities),
        open_files=min(_MOST_OPEN_FILES, resource.getrlimit(resource.RLIMIT_NOFILE)[1]),
    )
    config = bundle.to_config(spec, around)
    if spec.sandbox:
        config = bundle.to_sandbox_config(config)
    (folder / "rootfs").mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    for name, text in (
        ("hosts", draft.network.hosts),
        ("hostname", f"{spec.hostname}\n"),
        ("resolv.conf", draft.network.resolv),
    ):
        (folder / name).write_text(text)
        (folder / name).chmod(0o644)


def to_run(site: Site, draft: Draft) -> dict[str, Any]:
    """run.json: no variables, no command line; it may lie on a disk."""
    spec = draft.spec
    home = site.runs / spec.name
    folder = str(site.state / draft.engine_id)
    hidden = _hidden(site)
    return {
        "engine_id": draft.engine_id,
        "name": spec.name,
        "run_id": spec.run_id,
        "node": site.node,
        "digest": spec.image.digest,
        "network": draft.network.lease.name if draft.network.lease else None,
        "scope": spec.network_scope,
        "log_dir": str(spec.log_dir),
        "log_cap_bytes": spec.log_cap_bytes,
        "deadline": spec.deadline.timestamp() if spec.deadline else None,
        "grace": spec.grace_seconds,
        "labels": dict(spec.labels),
        "image": str(draft.root.folder),
        "lowerdir": ":".join(draft.root.layers),
        "upper": str(home / "upper"),
        "work": str(home / "work"),
        "bundle": folder,
        "cgroups": cgroup.folders(
            (entry for entry in site.hierarchies if entry[1] not in hidden),
            remains.cgroup_name(site.instance, draft.engine_id),
        ),
        "runtime_argv": _runtime_argv(site.programs, folder, draft),
        "foreground": spec.sandbox is not None,
        "confine": bundle.to_confinement(spec) if spec.sandbox else {},
        "hide": hidden,
    }


def _runtime_argv(programs: Programs, folder: str, draft: Draft) -> list[str]:
    log = ["--log", f"{folder}/runtime.log", "--log-format", "json"]
    if draft.spec.sandbox:
        # ptrace needs no KVM; the sandbox's network is its own empty one, its limits are not ours to enforce.
        options = ["--platform=ptrace", "--network=none", "--ignore-cgroups"]
        return [
            str(programs.sandbox),
            "--root",
            f"{folder}/runtime",
            *log,
            *options,
            "run",
            "--bundle",
            folder,
            draft.engine_id,
        ]
    runtime = [programs.runtime.path, "--root", f"{folder}/runtime", *log]
    return [*runtime, "run", "--detach", "--pid-file", f"{folder}/pid", "--bundle", folder, draft.engine_id]


def _hidden(site: Site) -> list[str]:
    """crun refuses the mix of both cgroup versions as long as it sees the newer one."""
    versions = {version for version, _ in site.hierarchies}
    if site.programs.runtime.kind != "crun" or versions != {"v1", "v2"}:
        return []
    return [mount for version, mount in site.hierarchies if version == "v2"]
