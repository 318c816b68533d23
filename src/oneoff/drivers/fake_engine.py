"""The world of the fake driver: containers and images in memory, which outlive driver objects as a real engine does.

Tests hold a `FakeEngine`, say what commands do (`scripts`), steer them (`emit`, `finish`), break things (`fail`,
`is_away`), and make as many `FakeDriver`s on it as there are servers in their story.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime

from oneoff.core.image import ImageConfig, Transport, parse_image_ref
from oneoff.drivers.driver import Capabilities, ContainerSpec, ContainerState, Handle, PreparedImage
from oneoff.errors import DriverError, EngineUnavailable, NetworkUnavailable

_UNREAL = "the fake runs no real processes"
_CAPABILITIES = Capabilities(
    limits=False,
    notes=dict.fromkeys(("inside", "limits", "sandboxes", "keeps_log", "enforces_deadline"), _UNREAL),
)


class ContractBreach(AssertionError):
    """The caller used a driver in a way the contract does not allow."""


@dataclass(frozen=True, slots=True)
class Script:
    """What a command does: writes `output`, then ends with `code`, or goes on until it is told when `code` is None."""

    output: tuple[tuple[str, bytes], ...] = ()
    code: int | None = 0
    oom: bool = False
    code_on_term: int | None = 143  # None: it ignores TERM
    refusal: DriverError | None = None  # create raises it: CommandNotFound, CommandNotExecutable


@dataclass(slots=True)
class FakeContainer:
    """One container. `log` keeps what was written, in order."""

    handle: Handle
    spec: ContainerSpec
    instance: str
    script: Script
    state: ContainerState = ContainerState.CREATED
    is_unseen: bool = False  # the engine was started anew after its end
    is_forgotten: bool = False  # the engine was killed after it was made, and kept no start of it
    log: list[tuple[str, bytes, datetime]] = field(default_factory=list)
    code: int = 0
    oom_seen: bool = False
    started_at: datetime | None = None
    finished_at: datetime | None = None
    starts: int = 0
    terms: int = 0
    deadline: datetime | None = None  # as moved by `extend`


@dataclass(slots=True)
class Failure:
    """`call` fails `times` times; with `after_effect` the engine does it all the same and the reply is lost."""

    call: str
    error: DriverError
    after_effect: bool = False
    times: int = 1
    run_id: str | None = None


class FakeEngine:
    """State shared by all drivers made on it. Nothing here waits on real time except graces, if `kills_by_itself`."""

    def __init__(self, node: str = "fake-node", now: Callable[[], datetime] | None = None) -> None:
        self.node = node
        self.now = now or (lambda: datetime.now(UTC))
        self.capabilities = _CAPABILITIES
        self.cpus, self.memory_bytes = 64, 1 << 40
        self.scripts: dict[tuple[str, ...], Script] = {}
        self.default_script = Script()
        self.kills_by_itself = True
        self.containers: dict[str, FakeContainer] = {}
        self.calls: list[tuple[str, str]] = []
        self.sources: dict[str, PreparedImage] = {}
        self.local: dict[str, tuple[PreparedImage, int]] = {}
        self.networks: set[str] | None = None  # those there are; None: whatever is named
        self.starts: dict[str, int] = {}
        self._failures: list[Failure] = []
        self._away = False
        self._ids = itertools.count(1)
        self._waiting: set[asyncio.Future[None]] = set()

    @property
    def is_away(self) -> bool:
        """Every call raises EngineUnavailable while it is true; waits and logs that are going break off."""
        return self._away

    @is_away.setter
    def is_away(self, away: bool) -> None:
        self._away = away
        self.notify()

    def add_image(self, ref: str, digest: str, config: ImageConfig | None = None) -> PreparedImage:
        """Make `ref` mean `digest` from now on."""
        parsed = parse_image_ref(ref)
        is_remote = parsed.transport is Transport.REGISTRY
        pinned = str(parsed.pinned(digest)) if is_remote else f"docker-daemon:fake@{digest}"
        image = PreparedImage(digest, pinned, config or ImageConfig())
        self.sources[ref] = image
        return image

    def fail(self, call: str, error: DriverError, **how: object) -> None:
        """Make the next `call` fail; see `Failure`."""
        self._failures.append(Failure(call, error, **how))  # type: ignore[arg-type]

    def take_failure(self, call: str, run_id: str) -> Failure | None:
        """The failure that is due for this call, counted down."""
        for failure in self._failures:
            if failure.call == call and failure.run_id in (None, run_id):
                failure.times -= 1
                if failure.times == 0:
                    self._failures.remove(failure)
                return failure
        return None

    def container(self, run_id: str) -> FakeContainer:
        """The newest container of a run."""
        return next(c for c in reversed(self.containers.values()) if c.spec.run_id == run_id)

    def emit(self, run_id: str, stream: str, data: bytes) -> None:
        """The running command of this run writes."""
        self.container(run_id).log.append((stream, data, self.now()))
        self.notify()

    def finish(self, run_id: str, code: int = 0, *, oom: bool = False) -> None:
        """The running command of this run ends."""
        self.end(self.container(run_id), code, oom=oom)

    def lose(self, run_id: str) -> None:
        """The container ends and nobody knows how."""
        self.container(run_id).state = ContainerState.UNKNOWN
        self.notify()

    def expire_grace(self, run_id: str) -> None:
        """The grace of a stop is over: KILL."""
        self.end(self.container(run_id), 137)

    def forget(self, run_id: str) -> None:
        """The engine was killed while it started the container, and calls it `created` ever after."""
        container = self.container(run_id)
        container.state, container.is_forgotten = ContainerState.CREATED, True
        self.notify()

    def vanish(self, run_id: str) -> None:
        """Somebody removed the container behind our back."""
        del self.containers[self.container(run_id).handle.engine_id]
        self.notify()

    def make(self, spec: ContainerSpec, driver: str, instance: str) -> FakeContainer:
        handle = Handle(driver, self.node, spec.name, f"{next(self._ids):064x}", spec.run_id)
        container = FakeContainer(handle, spec, instance, self.scripts.get(spec.argv, self.default_script))
        self.containers[handle.engine_id] = container
        return container

    def begin(self, container: FakeContainer) -> None:
        """It starts, and a script with a code ends at once."""
        container.state, container.started_at = ContainerState.RUNNING, self.now()
        container.starts += 1
        self.starts[container.spec.run_id] = self.starts.get(container.spec.run_id, 0) + 1
        container.log += [(stream, data, self.now()) for stream, data in container.script.output]
        if container.script.code is not None:
            self.end(container, container.script.code, oom=container.script.oom)
        self.notify()

    def end(self, container: FakeContainer, code: int, *, oom: bool = False) -> None:
        """First end wins, as with a real process."""
        if container.state is ContainerState.RUNNING:
            container.state, container.finished_at = ContainerState.EXITED, self.now()
            container.code, container.oom_seen = code, oom
        self.notify()

    def notify(self) -> None:
        """Something changed: whoever waits looks again, in whichever event loop."""
        waiting, self._waiting = self._waiting, set()
        for future in waiting:
            # Its loop may be closed: that server of the story is dead.
            with suppress(RuntimeError):
                future.get_loop().call_soon_threadsafe(_release, future)

    async def change(self) -> None:
        """Returns after the next change."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        await future

    def check_networks(self, names: Iterable[str]) -> None:
        there = names if self.networks is None else self.networks | {"host", "none"}
        for name in names:
            if name not in there:
                raise NetworkUnavailable(f"network {name!r}", "add it to `networks` of the fake engine", sorted(there))

    def raise_if_away(self) -> None:
        if self._away:
            raise EngineUnavailable("the fake engine is away")

    def find(self, names: Mapping[str, str]) -> FakeContainer | None:
        """By `name` and `instance`."""
        for container in self.containers.values():
            if container.handle.name == names["name"] and container.instance == names["instance"]:
                return container
        return None


def _release(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
