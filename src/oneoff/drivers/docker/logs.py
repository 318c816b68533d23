"""Output of a container: live, then compared with what the engine holds. Called by `driver`.

The attached stream (`live`) is taken where there is one; else, and after any doubt, the engine's log is read from its
start and skipped by bytes per stream, so that the last line is never lost.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from datetime import UTC, datetime, timedelta

from oneoff.drivers.docker.client import Call, Engine, Refusals
from oneoff.drivers.docker.clock import EngineClock
from oneoff.drivers.docker.convert import to_state
from oneoff.drivers.docker.demux import Demultiplexer, Piece, to_time
from oneoff.drivers.docker.ending import Ending
from oneoff.drivers.docker.live import LiveOutput
from oneoff.drivers.driver import ContainerState, Handle, LogChunk, LogPosition
from oneoff.errors import ContainerGone, EngineUnavailable

_NAMES = {1: "stdout", 2: "stderr"}
_LOOK_AGAIN_SECONDS = 0.2
# Logs up to this size are simply read again and counted; of larger ones the end is compared.
_COUNTED_BYTES = 1 << 20
_TAIL_RECORDS = 2000
_TAIL_BYTES = 256 << 10
_PROOF_BYTES = 4096


class Tail:
    """The last bytes of a stream."""

    def __init__(self) -> None:
        self._parts: deque[bytes] = deque()
        self._bytes = 0

    def add(self, data: bytes) -> None:
        self._parts.append(data)
        self._bytes += len(data)
        while self._bytes - len(self._parts[0]) > _TAIL_BYTES:
            self._bytes -= len(self._parts.popleft())

    def data(self) -> bytes:
        return b"".join(self._parts)


class LogReader:
    """One pass of `Driver.logs`."""

    def __init__(self, engine: Engine, clock: EngineClock, handle: Handle, position: LogPosition) -> None:
        self._engine = engine
        self._clock = clock
        self._lag = timedelta()
        self._handle = handle
        self._kept = {1: position.stdout, 2: position.stderr}
        self._tails = {1: Tail(), 2: Tail()}
        self._live_was_whole = False

    async def read(self, ending: Ending, take_live: Callable[[], LiveOutput | None]) -> AsyncGenerator[LogChunk, None]:
        """Chunks from the position on, until the container's output has ended."""
        live = take_live()
        if live is not None:
            try:
                async for piece in live.pieces():
                    self._tails[piece.stream].add(piece.data)
                    if chunk := self._take(piece, {1: 0, 2: 0}):
                        yield chunk
            finally:
                await live.close()
            self._live_was_whole = live.is_whole
            # The output is closed shortly before the state changes; if it goes on running, we were let go.
            if live.is_whole and await ending.until_not_running(self._handle) and await self._holds_no_more():
                return
        can_follow = not (await self._engine.version()).is_podman
        while await self._is_running(ending):
            began = time.monotonic()
            async with aclosing(self._read_held(follow=can_follow)) as chunks:
                async for chunk in chunks:
                    yield chunk
            if can_follow:
                await ending.until_not_running(self._handle)
            else:
                # Podman's follower loses lines in the middle when there are many (seen with 4.3.1): look again instead,
                # and the less often the longer it takes.
                await asyncio.sleep(max(_LOOK_AGAIN_SECONDS, 3 * (time.monotonic() - began)))
        # Closed before the state changed: one reading is everything there is.
        async with aclosing(self._read_held(follow=False)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def _is_running(self, ending: Ending) -> bool:
        inspected = await ending.inspect(self._handle)
        if inspected is None:
            raise ContainerGone(self._handle.name)
        return to_state(inspected) is ContainerState.RUNNING

    async def _read_held(self, *, follow: bool) -> AsyncGenerator[LogChunk, None]:
        """Everything the engine holds, without what is kept already."""
        skip, before = dict(self._kept), dict(self._kept)
        self._lag = await self._clock.lag()
        demultiplexer = await self._demultiplexer()
        async with self._engine.stream(self._call(follow=follow)) as answer:
            async for block in answer.blocks():
                for piece in demultiplexer.feed(block):
                    if chunk := self._take(piece, skip):
                        yield chunk
        last = demultiplexer.finish()
        if not follow:
            for piece in last:
                # A newline that is only assumed: the attached stream, when it came to its end, knows better.
                is_known = self._live_was_whole and not skip[piece.stream]
                if is_known and self._kept[piece.stream] == before[piece.stream]:
                    continue
                if chunk := self._take(piece, skip):
                    yield chunk
            if any(skip.values()):
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
        written = to_time(piece.time) + self._lag if piece.time else datetime.now(UTC)
        return LogChunk(self._kept[1] + self._kept[2], _NAMES[piece.stream], written, data)

    async def _holds_no_more(self) -> bool:
        """Did the attached stream bring everything? Counted per stream, or proved by the end of a large log."""
        is_small = sum(self._kept.values()) <= _COUNTED_BYTES
        demultiplexer = await self._demultiplexer()
        held: dict[int, list[bytes]] = {1: [], 2: []}
        async with self._engine.stream(self._call(tail="all" if is_small else str(_TAIL_RECORDS))) as answer:
            async for block in answer.blocks():
                for piece in demultiplexer.feed(block):
                    held[piece.stream].append(piece.data)
        demultiplexer.finish()
        for stream, parts in held.items():
            data = b"".join(parts)
            # The attached stream knows better than the log whether a newline ended it.
            missing = self._kept[stream] - len(data)
            if is_small and missing not in ({0, 1} if stream in demultiplexer.is_newline_assumed else {0}):
                return False
            if not is_small and not _proves_end(
                data, self._tails[stream].data(), stream in demultiplexer.is_newline_assumed
            ):
                return False
        return True

    def _call(self, *, follow: bool = False, tail: str = "all") -> Call:
        """The engine's log of it."""
        params = {"stdout": "1", "stderr": "1", "timestamps": "1", "tail": tail, "follow": "1" if follow else "0"}
        refusals: Refusals = {404: lambda _: ContainerGone(self._handle.name)}
        path = f"/containers/{self._handle.engine_id}/logs"
        return Call("GET", path, params=params, refusals=refusals, is_live=True)

    async def _demultiplexer(self) -> Demultiplexer:
        return Demultiplexer(mends_newlines=not (await self._engine.version()).is_podman)


def _proves_end(held: bytes, read: bytes, may_lack_newline: bool) -> bool:
    """Is `held`, the end of the engine's log of a stream, the end of what was read? False also where it proves nothing:
    an end that repeats itself would fit to a cut stream as well."""
    if may_lack_newline and read.endswith(b"\n"):
        read = read[:-1]
    proof = held[-_PROOF_BYTES:]
    if not read.endswith(held[-len(read) :] if len(held) > len(read) else held):
        return False
    return not proof or held.find(proof) == len(held) - len(proof)
