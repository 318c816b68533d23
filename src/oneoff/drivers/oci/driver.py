"""The `oci` driver: runc or crun directly, no daemon. Made by the registry; the contract is in `oneoff.drivers.driver`.

data_dir/oci/images   unpacked images (image.py)
data_dir/oci/runs     by instance, one folder per container (folder.py)
/run/oneoff/INSTANCE  tmpfs: bundles with their variables, namespaces and owners; gone after a reboot
"""

from __future__ import annotations

import asyncio
import os
import platform
import posixpath
import re
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from oneoff.core.image import ImageRef
from oneoff.drivers.driver import (
    Capabilities,
    ContainerSpec,
    ContainerState,
    Exit,
    Handle,
    LogChunk,
    LogPosition,
    NodeFacts,
    PreparedImage,
    RegistryCredentials,
)
from oneoff.drivers.oci import cgroup, container, joining, remains, rootfs, runtime
from oneoff.drivers.oci.bundle import DEFAULT_PATH
from oneoff.drivers.oci.container import Draft, Site
from oneoff.drivers.oci.filters import Filters
from oneoff.drivers.oci.folder import (
    EXIT,
    RUN,
    START_FAILED,
    claim_state,
    is_there,
    read_json,
    release_claim,
    take_claim,
)
from oneoff.drivers.oci.following import follow
from oneoff.drivers.oci.image import ImageStore
from oneoff.drivers.oci.network import NetworkPool
from oneoff.drivers.oci.owner import Owner
from oneoff.drivers.oci.supervision import Supervision, state_of
from oneoff.drivers.oci.trial import choose_runtime
from oneoff.errors import (
    AlreadyStarted,
    ContainerBusy,
    ContainerGone,
    DriverUnavailable,
    ExitUnknown,
    ImageUnavailable,
    StartFailed,
)


class OciDriver:
    """`instance` names what is ours on this machine; `runtime` is runc or crun, by name or path."""

    name = "oci"

    def __init__(self, data_dir: Path, instance: str, runtime: str | None = None) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", instance):
            raise DriverUnavailable(f"{instance!r} cannot name an instance: use 1 to 64 of a-z, A-Z, 0-9, '-' and '_'")
        self._instance = instance
        self._runtime = runtime
        self._home = data_dir.resolve() / "oci"
        self._runs = self._home / "runs" / instance
        self._site: Site | None = None
        self._capabilities: Capabilities | None = None
        self._state_folder: Path | None = None
        self._opening: asyncio.Task[Site] | None = None
        self._owner = Owner(self._state)
        self._images = ImageStore(self._home / "images", self._state)
        self._networks = NetworkPool(instance, self._state, self._owner)
        self._supervision = Supervision()
        self._background: set[asyncio.Task[None]] = set()

    def capabilities(self) -> Capabilities:
        if self._capabilities is None:
            sandboxes = ("runsc",) if runtime.has_sandbox() else ()
            self._capabilities = Capabilities(
                keeps_log=True, enforces_deadline=True, sandboxes=sandboxes, notes=runtime.notes(sandboxes)
            )
        return self._capabilities

    async def check(self) -> NodeFacts:
        site = await self._open()
        found = site.programs.runtime
        cpus = len(os.sched_getaffinity(0))
        return NodeFacts(site.node, cpus, runtime.memory_bytes(), str(found), found.holes, found.why)

    async def prepare(self, image: ImageRef, credentials: RegistryCredentials | None = None) -> PreparedImage:
        await self._open()
        return await self._images.prepare(image, credentials)

    async def resolve(self, image: ImageRef, credentials: RegistryCredentials | None = None) -> str:
        await self._open()
        return await self._images.resolve(image, credentials)

    async def check_networks(self, names: Sequence[str]) -> None:
        joining.find_namespace(names)

    async def create(self, spec: ContainerSpec) -> Handle:
        site = await self._open()
        if not self._images.has(spec.image.digest):
            raise ImageUnavailable(spec.image.ref, "it is not prepared on this node any more; prepare it again")
        if spec.sandbox not in (None, *self.capabilities().sandboxes):
            raise StartFailed(f"sandbox {spec.sandbox!r} is not on this node: apt-get install {spec.sandbox}")
        engine_id = os.urandom(16).hex()
        network = await joining.join(spec, self._networks)
        try:
            await asyncio.to_thread(self._make, site, spec, engine_id, network)
        except BaseException as problem:
            if network.lease:
                await self._networks.give_back(network.lease.name, spec.network_scope, empty=True)
            if isinstance(problem, OSError):
                raise StartFailed("the container's folders cannot be made", str(problem)) from problem
            raise
        self._images.touch(spec.image.digest)
        return Handle(self.name, site.node, spec.name, engine_id, spec.run_id)

    async def start(self, handle: Handle) -> None:
        run = self._known(handle)
        folder = self._folder(handle)
        if failure := read_json(folder, START_FAILED):
            raise StartFailed("the runtime could not start the container", failure["words"])
        if claim_state(folder) != "none":
            raise AlreadyStarted(handle.name)
        if not is_there(run["bundle"], "config.json"):
            raise StartFailed("the machine was restarted after the container was made: make it again")
        await self._supervision.begin(folder, handle.name, handle.engine_id)

    async def logs(self, handle: Handle, position: LogPosition) -> AsyncIterator[LogChunk]:
        run = self._known(handle)
        with self._supervision.watcher.watching(self._folder(handle)) as news:
            async for chunk in follow(Path(run["log_dir"]), position, news, lambda: self._has_ended(handle)):
                yield chunk
        if state_of(self._folder(handle), handle.engine_id) is ContainerState.UNKNOWN:
            raise ExitUnknown(handle.name, "its supervisor was killed, and what it wrote afterwards is not kept")

    async def wait(self, handle: Handle) -> Exit:
        run = self._known(handle)
        folder = self._folder(handle)
        if await self._supervision.ended(folder, handle.engine_id) is ContainerState.ABSENT:
            raise ContainerGone(handle.name)
        facts = read_json(folder, EXIT)
        if facts is None:
            await asyncio.to_thread(remains.clear, run)
            raise ExitUnknown(handle.name, "its supervisor was killed while it ran")
        return to_exit(facts)

    async def stop(self, handle: Handle, grace_seconds: float) -> None:
        await self._supervision.stop(self._folder(handle), handle.engine_id, grace_seconds)
        if state_of(self._folder(handle), handle.engine_id) is ContainerState.UNKNOWN:
            await asyncio.to_thread(cgroup.kill, self._known(handle)["cgroups"])

    async def extend(self, handle: Handle, deadline: datetime) -> None:
        await self._supervision.extend(self._folder(handle), handle.engine_id, deadline.timestamp())

    async def remove(self, handle: Handle, *, force: bool = True) -> None:
        folder = self._folder(handle)
        run = read_json(folder, RUN)
        if run is None or run["engine_id"] != handle.engine_id:
            return
        # With the claim in our hands no supervisor begins any more.
        claim = take_claim(folder)
        try:
            if claim is None and read_json(folder, START_FAILED) is None and not force:
                raise ContainerBusy(handle.name)
            if claim is None:
                await self._supervision.end(folder)
            empty = claim is not None or read_json(folder, EXIT) is not None
            if await asyncio.to_thread(remains.clear_and_discard, run, Path(folder)) and run["network"]:
                await self._networks.give_back(run["network"], run["scope"], empty=empty)
        finally:
            if claim is not None:
                release_claim(claim)

    async def inspect(self, handle: Handle) -> ContainerState:
        return state_of(self._folder(handle), handle.engine_id)

    async def find(self, name: str) -> Handle | None:
        run = read_json(str(self._runs / name), RUN)
        return None if run is None else self._to_handle(run)

    async def list(self) -> Sequence[Handle]:
        await self._open()
        return [self._to_handle(run) for run in await asyncio.to_thread(remains.runs, self._runs)]

    async def drop_images(self, keep: frozenset[str], budget_bytes: int) -> Sequence[str]:
        # Several instances may share the folder, and with it the images.
        homes = list((self._home / "runs").iterdir())
        used = {run["digest"] for home in homes for run in await asyncio.to_thread(remains.runs, home)}
        return await self._images.drop(keep | used, budget_bytes)

    async def close(self) -> None:
        for task in list(self._background):
            await task
        await self._supervision.close()
        if self._site is not None:
            await self._networks.close(self._used_networks())
            self._leave()
        self._opening = None

    def _leave(self) -> None:
        self._owner.leave()
        self._site = None
        remains.leave_state(self._state())
        self._state_folder = None

    def _make(self, site: Site, spec: ContainerSpec, engine_id: str, network: container.Network) -> None:
        root = self._images.root(spec.image.digest)
        container.make(site, Draft(spec, engine_id, self._examine(spec, root), root, network))

    def _examine(self, spec: ContainerSpec, root: rootfs.Root) -> rootfs.User:
        """Whether the command can run at all. Raises StartFailed and its like."""
        working_dir = spec.image.config.working_dir
        if posixpath.normpath("/" + working_dir.lstrip("/")).split("/")[1] in ("proc", "sys", "dev"):
            # CVE-2024-21626: a descriptor the runtime forgot to close led out of the container that way.
            raise StartFailed(
                f"the image's WORKDIR {working_dir!r} lies in a kernel file system: change it in the image"
            )
        rootfs.check_mount_points(root)
        user = rootfs.find_user(root, spec.user if spec.user is not None else spec.image.config.user)
        search_path = {"PATH": DEFAULT_PATH, **spec.image.config.variables, **spec.variables}["PATH"]
        rootfs.check_command(root, spec.argv[0], search_path, working_dir, user)
        return user

    def _has_ended(self, handle: Handle) -> bool:
        return state_of(self._folder(handle), handle.engine_id) is not ContainerState.RUNNING

    def _known(self, handle: Handle) -> dict[str, Any]:
        run = read_json(self._folder(handle), RUN)
        if run is None or run["engine_id"] != handle.engine_id:
            raise ContainerGone(handle.name)
        return run

    def _folder(self, handle: Handle) -> str:
        return f"{self._runs}/{handle.name}"

    def _to_handle(self, run: dict[str, Any]) -> Handle:
        return Handle(self.name, run["node"], run["name"], run["engine_id"], run["run_id"])

    def _state(self) -> Path:
        if self._state_folder is None:
            self._state_folder = runtime.make_state_folder(self._instance)
        return self._state_folder

    def _used_networks(self) -> set[str]:
        return {run["network"] for run in remains.runs(self._runs) if run["network"]}

    async def _open(self) -> Site:
        """Look at the machine once, and tidy up after a crash."""
        if self._site is not None:
            return self._site
        if self._opening is None or self._opening.done():
            self._opening = asyncio.ensure_future(self._look_around())
        return await asyncio.shield(self._opening)

    async def _look_around(self) -> Site:
        programs = await runtime.find_programs(self._runtime)
        if set(str(self._home)) & set(":,\\"):
            raise DriverUnavailable(f"{self._home} cannot hold layers: choose a data folder without ':', ',' and '\\'")
        self._owner.announce()
        for folder in (self._home / "images", self._home / "runs", self._runs):
            folder.mkdir(parents=True, mode=0o700, exist_ok=True)
        state = self._state()
        site = Site(
            instance=self._instance,
            node=f"{runtime.machine_id()}/{self._instance}",
            runs=self._runs,
            state=state,
            owner_id=self._owner.id,
            programs=programs,
            hierarchies=tuple(cgroup.hierarchies()),
            filters=Filters(runtime.read_seccomp_profile(), platform.machine()),
        )
        self._supervision.launcher.warm()
        await asyncio.to_thread(remains.sweep, site.runs, state, self._instance, self._owner)
        await asyncio.to_thread(self._images.sweep)
        try:
            self._site = await choose_runtime(site, self._supervision)
        except DriverUnavailable:
            self._leave()
            raise
        work = asyncio.ensure_future(self._tidy_networks())
        self._background.add(work)
        work.add_done_callback(self._background.discard)
        return self._site

    async def _tidy_networks(self) -> None:
        await self._networks.reconcile(self._used_networks())
        await self._networks.warm()


def to_exit(facts: dict[str, Any]) -> Exit:
    moment = partial(datetime.fromtimestamp, tz=UTC)
    return Exit(
        code=facts["code"],
        oom_seen=facts["oom_seen"],
        started_at=moment(facts["started_at"]),
        finished_at=moment(facts["finished_at"]),
        stopped_by=facts["stopped_by"],
    )
