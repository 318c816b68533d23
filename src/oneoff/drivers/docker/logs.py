"""Output of a container: followed live, then compared with what the engine holds. Called by `driver`.

Each record carries the engine's time. After the end the newest record the engine holds must be the last one that came;
if it is not, everything is read again and skipped by bytes per stream, so that the last line is never lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

from oneoff.drivers.docker.client import Call, Engine, Refusals
from oneoff.drivers.docker.demux import Demultiplexer, Piece, to_time
from oneoff.drivers.driver import ContainerState, Handle, LogChunk, LogPosition
from oneoff.errors import ContainerGone, EngineUnavailable

_NAMES = {1: "stdout", 2: "stderr"}
_SECONDS_FOR_STATE = 10.0


class LogReader:
    """One pass of `Driver.logs`."""

    def __init__(self, engine: Engine, handle: Handle, position: LogPosition) -> None:
        self._engine = engine
        self._handle = handle
        self._kept = {1: position.stdout, 2: position.stderr}
        self._last_frame = b""

    async def read(self, inspect: Callable[[], Awaitable[ContainerState]]) -> AsyncIterator[LogChunk]:
        """Chunks from the position on, until the container's output has ended."""
        if await inspect() is not ContainerState.RUNNING:
            # Closed before the state changed, so one reading is everything there is.
            async for chunk in self._pass(follow=False):
                yield chunk
            return
        while True:
            async for chunk in self._pass(follow=True):
                yield chunk
            if await self._has_ended(inspect):
                break
        if not await self._is_complete():
            async for chunk in self._pass(follow=False):
                yield chunk

    async def _pass(self, *, follow: bool) -> AsyncIterator[LogChunk]:
        """Everything the engine holds, without what is kept already."""
        skip = dict(self._kept)
        demultiplexer = Demultiplexer()
        async with self._engine.stream(self._call(follow=follow)) as response:
            async for data in response.aiter_raw():
                for piece in demultiplexer.feed(data):
                    if chunk := self._take(piece, skip):
                        yield chunk
        demultiplexer.finish()
        self._last_frame = demultiplexer.last_frame
        if any(skip.values()) and not follow:
            raise EngineUnavailable(
                f"the engine holds less of the log of {self._handle.name} than was read before: somebody cut it"
            )

    def _take(self, piece: Piece, skip: dict[int, int]) -> LogChunk | None:
        data = piece.data
        if skipped := min(skip[piece.stream], len(data)):
            skip[piece.stream] -= skipped
            data = data[skipped:]
        if not data:
            return None
        self._kept[piece.stream] += len(data)
        return LogChunk(sum(self._kept.values()), _NAMES[piece.stream], to_time(piece.time), data)

    async def _has_ended(self, inspect: Callable[[], Awaitable[ContainerState]]) -> bool:
        """The log is closed shortly before the state changes. False: it goes on running, so the follower was let go."""
        deadline = asyncio.get_running_loop().time() + _SECONDS_FOR_STATE
        delay = 0.002
        while (state := await inspect()) is ContainerState.RUNNING:
            if asyncio.get_running_loop().time() > deadline:
                return False
            await asyncio.sleep(delay)
            delay = min(delay * 2, 0.5)
        if state is ContainerState.ABSENT:
            raise ContainerGone(self._handle.name)
        return True

    async def _is_complete(self) -> bool:
        demultiplexer = Demultiplexer()
        async with self._engine.stream(self._call(follow=False, tail="1")) as response:
            async for data in response.aiter_raw():
                demultiplexer.feed(data)
        demultiplexer.finish()
        return demultiplexer.last_frame == self._last_frame

    def _call(self, *, follow: bool, tail: str = "all") -> Call:
        params = {"stdout": "1", "stderr": "1", "timestamps": "1", "tail": tail, "follow": "1" if follow else "0"}
        refusals: Refusals = {404: lambda _: ContainerGone(self._handle.name)}
        path = f"/containers/{self._handle.engine_id}/logs"
        return Call("GET", path, params=params, refusals=refusals, read_seconds=None)
