"""Output of a container from the attached stream, opened before the start: exact, and quicker than the log.

Made by `driver.start`, read by `logs`. It is drained even if nobody reads: what is not read in time is given up, and
`logs` then reads what the engine holds, so that a slow reader never slows a command.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator

from oneoff.drivers.docker.client import Call, Engine, Refusals
from oneoff.drivers.docker.connection import Answer
from oneoff.drivers.docker.demux import Demultiplexer, Piece
from oneoff.errors import ContainerGone, DriverError

_MOST_UNREAD_BYTES = 4 << 20
_PATIENCE_SECONDS = 1.0


class LiveOutput:
    """One attached stream. `is_whole` after the end: nothing was given up, and it ended between two frames."""

    def __init__(self, engine: Engine, container_id: str) -> None:
        self.is_whole = False
        self._unread: deque[Piece] = deque()
        self._unread_bytes = 0
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._opened: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._drain(engine, container_id))

    async def opened(self) -> bool:
        """Returns when the engine has attached us; False when it did not."""
        return await self._opened

    async def pieces(self) -> AsyncIterator[Piece]:
        """What comes, to the end."""
        while True:
            while self._unread:
                piece = self._unread.popleft()
                self._unread_bytes -= len(piece.data)
                self._room.set()
                yield piece
            if self._task.done():
                return
            self._news.clear()
            await self._news.wait()

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _drain(self, engine: Engine, container_id: str) -> None:
        try:
            async with engine.stream(_attach(container_id)) as answer:
                self._opened.set_result(True)
                self.is_whole = await self._copy(answer)
        except DriverError:
            # What it would have told is in the engine's log as well.
            self.is_whole = False
        finally:
            if not self._opened.done():
                self._opened.set_result(False)
            # The task is not done yet while this runs.
            asyncio.get_running_loop().call_soon(self._news.set)

    async def _copy(self, answer: Answer) -> bool:
        demultiplexer = Demultiplexer(has_times=False)
        async for data in answer.blocks():
            for piece in demultiplexer.feed(data):
                self._unread.append(piece)
                self._unread_bytes += len(piece.data)
            self._news.set()
            while self._unread_bytes > _MOST_UNREAD_BYTES:
                self._room.clear()
                try:
                    await asyncio.wait_for(self._room.wait(), _PATIENCE_SECONDS)
                except TimeoutError:
                    return False
        demultiplexer.finish()
        return True


def _attach(container_id: str) -> Call:
    """Both output streams from now on, as frames without times."""
    params = {"stream": "1", "stdout": "1", "stderr": "1"}
    headers = {"Connection": "Upgrade", "Upgrade": "tcp"}
    refusals: Refusals = {404: ContainerGone}
    path = f"/containers/{container_id}/attach"
    return Call("POST", path, params=params, headers=headers, refusals=refusals, is_live=True)
