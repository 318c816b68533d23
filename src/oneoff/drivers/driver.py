"""What every driver does: the protocol, the values that cross it, and the contract.

The engine calls it; `docker`, `oci` and `fake` implement it; `tests/drivers/contract.py` holds each of them to it.

Order of calls in the life of a run (each may be the last one before a crash of the server):

    prepare(image)  ->  create(spec)  ->  [commit handle]  ->  start(handle)  ->  logs(handle) and wait(handle)
                    ->  [commit end]  ->  remove(handle)

A driver keeps nothing in memory that it cannot find again from a `Handle` in another process.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from oneoff.core.image import ImageConfig, ImageRef
from oneoff.core.outcome import Exit as Exit


class ContainerState(StrEnum):
    """Where a container stands, as its engine tells it."""

    CREATED = "created"  # exists, and no start of it is known
    RUNNING = "running"
    EXITED = "exited"  # its facts can be collected with `wait`
    ABSENT = "absent"  # the engine does not know it
    UNKNOWN = "unknown"  # it started, and nobody can tell how it ended: the run is `lost`


@dataclass(frozen=True, slots=True)
class RegistryCredentials:
    """User and password for one registry. Never printed."""

    username: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class PreparedImage:
    """An image that is local now. `digest` is `sha256:…`: the manifest digest for registries and layouts, the
    image id for `docker-archive` and `docker-daemon`. `ref` names the very same content for later calls of
    `prepare` and for `ContainerSpec.image`, also after the archive or the tag it came from has changed or gone."""

    digest: str
    ref: str
    config: ImageConfig


@dataclass(frozen=True, slots=True)
class Resources:
    """Limits of one container. Swap is not added: memory and swap together may not exceed `memory_bytes`."""

    memory_bytes: int
    cpus: float
    pids: int = 512


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """Everything a driver needs for one container. `argv` is complete (entrypoint and command are already joined)."""

    run_id: str
    name: str  # derives from the run id: the same run always asks for the same name
    image: PreparedImage
    argv: tuple[str, ...]
    variables: Mapping[str, str] = field(repr=False)
    resources: Resources
    networks: tuple[str, ...]  # () = the driver's default network; ("host",), ("none",) or names
    network_scope: str  # the service id: oci lends network namespaces from one pool per scope
    hostname: str
    log_dir: Path  # where the run's log is kept; written by the driver itself if `capabilities().keeps_log`
    log_cap_bytes: int
    grace_seconds: float
    deadline: datetime | None  # UTC; enforced by the driver only while the server is away
    labels: Mapping[str, str] = field(default_factory=dict)
    capabilities: tuple[str, ...] = ()  # of CHOWN, DAC_OVERRIDE, FOWNER, SETUID, SETGID; without the CAP_ prefix
    read_only_root: bool = False
    user: str | None = None  # replaces the image's USER
    sandbox: str | None = None  # None, or "runsc"


@dataclass(frozen=True, slots=True)
class Handle:
    """Serialisable reference to one container. `engine_id` is the engine's own id: unique for ever, unlike `name`."""

    driver: str
    node: str
    name: str
    engine_id: str
    run_id: str


@dataclass(frozen=True, slots=True)
class LogChunk:
    """Bytes of one stream as they came. `position` counts the bytes of both streams up to the end of this chunk."""

    position: int
    stream: str  # "stdout" or "stderr"
    time: datetime
    data: bytes


@dataclass(frozen=True, slots=True)
class LogPosition:
    """How much of each stream is already kept, in bytes. Recovery re-reads and skips these, never by time."""

    stdout: int = 0
    stderr: int = 0


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a driver can do. A missing ability is declared here with its reason in `notes`, and the contract suite
    prints it as the reason of its skip."""

    keeps_log: bool = False  # the driver writes `spec.log_dir` itself, also while the server is away
    enforces_deadline: bool = False  # ends a run past its deadline while the server is away
    reattaches: bool = True  # wait() and logs() work for a container started by an earlier process
    oom_evidence: bool = True
    limits: bool = True  # memory, CPU and pids limits are really enforced
    named_networks: bool = True
    sandboxes: tuple[str, ...] = ()
    log_timestamps: bool = True
    notes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """The machine a driver works on. `node` is stable over restarts: machine id and engine id."""

    node: str
    cpus: int
    memory_bytes: int
    engine: str  # for people: "docker 20.10.24", "runc 1.1.5"
    known_holes: tuple[str, ...] = ()  # sentences for `doctor`: what is unsafe about this version, and the mend
    why: str = ""  # this engine, where there was a choice


class Driver(Protocol):
    """The contract. All methods may be called concurrently, for different containers; errors are of
    `oneoff.errors.DriverError`: `EngineUnavailable` when the engine did not answer (try again later), others final."""

    @property
    def name(self) -> str: ...

    def capabilities(self) -> Capabilities: ...

    async def check(self) -> NodeFacts:
        """Can it work here? Raises DriverUnavailable with the reason and the fix. Cheap enough for every minute."""

    async def prepare(self, image: ImageRef, credentials: RegistryCredentials | None = None) -> PreparedImage:
        """Make the image local and say which one it is. Idempotent; concurrent calls for one image share the work.
        Non-registry images are copied into our own store, so that `PreparedImage.ref` outlives their source.
        Raises ImageUnavailable with the engine's words."""

    async def resolve(self, image: ImageRef, credentials: RegistryCredentials | None = None) -> str:
        """The digest `image` has now, without making it local when the source allows that (a registry).
        Raises ImageUnavailable with the engine's words."""

    async def check_networks(self, names: Sequence[str]) -> None:
        """Could a container join these now? Raises NetworkUnavailable with those there are and what makes this one,
        StartFailed for networks that exclude each other. What `create` and `start` say of them later counts."""

    async def create(self, spec: ContainerSpec) -> Handle:
        """Make the container, not started. A second create of the same name raises ContainerExists.
        Decides before exec whether argv[0] can run: CommandNotFound (127), CommandNotExecutable (126); nothing is
        left behind then. Raises StartFailed with the engine's words for everything else."""

    async def start(self, handle: Handle) -> None:
        """Start by the engine's own id, at most once: starting a container that has ever been started raises
        AlreadyStarted. Raises StartFailed when the engine could not, ContainerGone when it is not there."""

    def logs(self, handle: Handle, position: LogPosition) -> AsyncIterator[LogChunk]:
        """Output from `position` on, live, byte-exact per stream. Ends when the container's output ends; an answer
        cut short raises EngineUnavailable, never ends quietly. Callable in state running and exited."""

    async def wait(self, handle: Handle) -> Exit:
        """Facts of the end; returns at once for an exited container. Never raises because the command failed.
        Raises ContainerGone when absent, ExitUnknown when it cannot be known."""

    async def stop(self, handle: Handle, grace_seconds: float) -> None:
        """TERM now and KILL after the grace; returns when the signal was sent or the container had ended already.
        Calling again with a shorter grace shortens it."""

    async def extend(self, handle: Handle, deadline: datetime) -> None:
        """From now on this is the deadline that the driver enforces while the server is away. Safe to call again;
        nothing happens where `capabilities().enforces_deadline` is False, or the container has ended or is gone."""

    async def remove(self, handle: Handle, *, force: bool = True) -> None:
        """Remove the container and all that was made for it. Safe to call twice and when start failed.
        With force=False only a container no start of which is known is removed; ContainerBusy otherwise; after
        that a late start of the same id finds nothing. Raises ExitUnknown, with the container gone, when its engine
        cannot vouch that there was no start."""

    async def inspect(self, handle: Handle) -> ContainerState:
        """Where it stands now. Never raises for an absent container."""

    async def find(self, name: str) -> Handle | None:
        """The container of ours with that name, in any state."""

    async def list(self) -> Sequence[Handle]:
        """Everything carrying our instance label, in any state; strangers' containers never."""

    async def drop_images(self, keep: frozenset[str], budget_bytes: int) -> Sequence[str]:
        """Remove images Oneoff brought here, except digests in `keep`, oldest use first, until what is left takes
        at most `budget_bytes`. Returns the digests dropped. Images in use by a container stay."""

    async def close(self) -> None:
        """End connections and helper processes. Containers go on."""
