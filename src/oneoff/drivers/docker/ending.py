"""How a container ended, and making it end. Called by `driver`.

Waits and events of engines get lost, so a wait is renewed every few seconds and the state looked at in between.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from oneoff.drivers.docker.client import Call, Engine, Refusals
from oneoff.drivers.docker.clock import EngineClock
from oneoff.drivers.docker.convert import to_exit, to_state
from oneoff.drivers.driver import ContainerState, Exit, Handle
from oneoff.errors import ContainerBusy, ContainerGone, EngineUnavailable, ExitUnknown

_LOOK_AGAIN_SECONDS = 5.0
_KILL_RETRY_SECONDS = 1.0
# The kernel's report of an out-of-memory kill reaches the engine on another way than the exit, and can come later.
_OOM_REPORT_SECONDS = 0.15
_CODE_OF_A_LOST_TASK = 255
_EVENTS_REMEMBERED = 250  # Docker keeps 256 and drops older ones
_SIGKILL_CODE = 137
_CODE_KEYS = ("exitCode", "containerExitCode")


@dataclass(slots=True)
class _DueKill:
    due: float  # time.monotonic()
    called_off: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None


class Ending:
    """Waits and kills for one engine."""

    def __init__(self, engine: Engine, clock: EngineClock) -> None:
        self._engine = engine
        self._clock = clock
        self._kills: dict[str, _DueKill] = {}
        self._followed: set[str] = set()
        self._waits: dict[str, asyncio.Task[bool]] = {}

    def started(self, handle: Handle) -> None:
        """By this process: when the engine goes away before its end, `wait` raises."""
        self._followed.add(handle.engine_id)

    async def wait(self, handle: Handle) -> Exit:
        """As `Driver.wait` says."""
        while True:
            await self.until_not_running(handle)
            inspected = await self.inspect(handle)
            if inspected is None:
                raise ContainerGone(handle.name)
            state = to_state(inspected)
            if state is ContainerState.EXITED:
                return await self._to_true_exit(handle, inspected)
            if state is ContainerState.UNKNOWN:
                raise ExitUnknown(handle.name, f"the engine calls its state {inspected['State']['Status']!r}")
            if state is ContainerState.CREATED:
                # "Not running" is true for it as well, at once: look again soon for a start that is under way.
                await asyncio.sleep(0.05)

    async def until_not_running(self, handle: Handle) -> bool:
        """True as soon as the engine says that it does not run; False after some seconds. Callers share a request."""
        task = self._waits.get(handle.engine_id)
        if task is None:
            task = self._waits[handle.engine_id] = asyncio.create_task(self._ask_until_not_running(handle))
            task.add_done_callback(lambda done: self._forget_wait(handle, done))
        return await asyncio.shield(task)

    async def inspect(self, handle: Handle) -> dict[str, Any] | None:
        """The engine's words about a container; None when it is not there."""
        refusals: Refusals = {404: ContainerGone}
        try:
            call = Call("GET", f"/containers/{handle.engine_id}/json", refusals=refusals, read_seconds=30)
            answer: dict[str, Any] = await self._engine.send(call)
        except ContainerGone:
            return None
        return answer

    async def stop(self, handle: Handle, grace_seconds: float) -> None:
        """As `Driver.stop` says. The KILL is sent from this process: after a crash call again."""
        due = time.monotonic() + grace_seconds
        going = self._kills.get(handle.engine_id)
        if going is None:
            if not await self._signal(handle, "SIGTERM"):
                return
        elif due >= going.due:
            return
        else:
            going.called_off.set()
        kill = _DueKill(due)
        self._kills[handle.engine_id] = kill
        kill.task = asyncio.create_task(self._kill_when_due(handle, kill))

    async def read_events(self, handle: Handle, actions: Sequence[str], since: float) -> list[dict[str, Any]]:
        """What the engine remembers of one container: Docker its last 256 events, those from before its own start
        never; Podman what its events logger keeps. `since` is in seconds since 1970, by the engine's clock."""
        return await self._read_events(since, {"container": [handle.engine_id], "event": list(actions)})

    def forget(self, handle: Handle) -> None:
        """It ended or is gone: no KILL is due any more."""
        self._followed.discard(handle.engine_id)
        if going := self._kills.pop(handle.engine_id, None):
            going.called_off.set()

    async def close(self) -> None:
        tasks = [*(kill.task for kill in self._kills.values() if kill.task), *self._waits.values()]
        self._kills.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask_until_not_running(self, handle: Handle) -> bool:
        # Safe against a lost exit: the container was started before and is never removed by the engine itself,
        # so "not running" is answered at once for one that has ended already.
        path, params = f"/containers/{handle.engine_id}/wait", {"condition": "not-running"}
        is_podman = (await self._engine.version()).is_podman
        if is_podman:
            # Its compatible wait looks without a pause: a whole CPU for each going run (seen with 4.3.1).
            path, params = f"/v4.0.0/libpod{path}", {"condition": "exited", "interval": "100ms"}
        refusals: Refusals = {404: lambda _: ContainerGone(handle.name)}
        call = Call("POST", path, params=params, refusals=refusals, read_seconds=None, versioned=not is_podman)
        try:
            await asyncio.wait_for(self._engine.send(call), _LOOK_AGAIN_SECONDS)
        except TimeoutError:
            return False
        return True

    def _forget_wait(self, handle: Handle, done: asyncio.Task[bool]) -> None:
        self._waits.pop(handle.engine_id, None)
        if not done.cancelled():
            # Whoever waited has had it; without this line Python complains when nobody did.
            done.exception()

    async def _to_true_exit(self, handle: Handle, inspected: dict[str, Any]) -> Exit:
        is_followed = handle.engine_id in self._followed
        self.forget(handle)
        lag = await self._clock.lag()
        found = to_exit(inspected, lag)
        # Podman keeps the code in a file of its own and says -1 when that is missing.
        is_doubtful = found.code == _CODE_OF_A_LOST_TASK and not (await self._engine.version()).is_podman
        if is_doubtful and not await self._has_die_event(handle, found.started_at - lag):
            raise ExitUnknown(
                handle.name,
                "the engine reports 255, which it also does when it lost the container, and has no record of this exit",
            )
        if found.code < 0:
            raise ExitUnknown(handle.name, f"the engine reports {found.code}")
        if found.code == _SIGKILL_CODE and not found.oom_seen:
            await asyncio.sleep(_OOM_REPORT_SECONDS)
            found = to_exit(await self.inspect(handle) or inspected, lag)
        return found if is_followed else replace(found, unseen=await self._is_unseen(handle))

    async def _is_unseen(self, handle: Handle) -> bool:
        """Whether Docker was surely started anew behind the end: it remembers all its events, and the end is none of
        them. Podman has no daemon that could miss it."""
        if (await self._engine.version()).is_podman:
            return False
        events = await self._read_events(1.0, {})
        ended = {event["Actor"]["ID"] for event in events if event.get("Action") == "die"}
        return len(events) < _EVENTS_REMEMBERED and handle.engine_id not in ended

    async def _has_die_event(self, handle: Handle, started_at: datetime) -> bool:
        """Engines write a `die` event for each exit they see, and none for a container found dead at their start."""
        events = await self.read_events(handle, ("die",), started_at.timestamp() - 1)
        codes = {str(event.get("Actor", {}).get("Attributes", {}).get(key)) for event in events for key in _CODE_KEYS}
        return str(_CODE_OF_A_LOST_TASK) in codes

    async def _read_events(self, since: float, filters: dict[str, list[str]]) -> list[dict[str, Any]]:
        if (await self._engine.version()).is_podman:
            end = {"stream": "false"}  # with `until` it leaves out what has just happened
        else:
            # Docker knows no `stream`: without an end, or before it has come, it goes on.
            end = {"until": f"{await self._clock.now():.9f}"}
        params = {"since": f"{since:.0f}", "filters": json.dumps(filters), **end}
        async with self._engine.stream(Call("GET", "/events", params=params)) as answer:
            content = await answer.read()
        return [json.loads(line) for line in content.split(b"\n") if line.strip()]

    async def _signal(self, handle: Handle, name: str) -> bool:
        """False when it is not running (any more)."""
        # 409 "Container … is not running"; Podman says 500 "can only kill running containers".
        refusals: Refusals = {404: ContainerGone, 409: ContainerBusy, 500: ContainerBusy}
        path = f"/containers/{handle.engine_id}/kill"
        try:
            await self._engine.act(Call("POST", path, params={"signal": name}, refusals=refusals))
        except ContainerGone:
            return False
        except ContainerBusy as refused:
            inspected = await self.inspect(handle)
            if inspected is not None and to_state(inspected) is ContainerState.RUNNING:
                raise EngineUnavailable(f"the engine could not send {name} to {handle.name}", str(refused)) from refused
            return False
        return True

    async def _kill_when_due(self, handle: Handle, kill: _DueKill) -> None:
        # Called off by an event, not by cancelling: a request that is under way is left to finish.
        with suppress(TimeoutError):
            await asyncio.wait_for(kill.called_off.wait(), max(0.0, kill.due - time.monotonic()))
        while not kill.called_off.is_set():
            try:
                await self._signal(handle, "SIGKILL")
            except EngineUnavailable:
                await asyncio.sleep(_KILL_RETRY_SECONDS)
            else:
                break
        if self._kills.get(handle.engine_id) is kill:
            del self._kills[handle.engine_id]
