"""Proxies before an engine: one loses replies or cuts them, as bad days do; one is an engine whose clock is wrong."""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType


class Proxy:
    """Forwards to `target`. Requests always arrive; what comes back may be lost or cut."""

    def __init__(self, target: Path, socket: Path) -> None:
        self.socket = socket
        self.lose_replies_to: bytes | None = None
        self.cut_answers_after: int | None = None
        self._target = target
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Proxy:
        self._server = await self._listen()
        return self

    async def _listen(self) -> asyncio.Server:
        return await asyncio.start_unix_server(self._serve, str(self.socket))

    def _to_engine(self, data: bytes) -> bytes:
        return data

    def _from_engine(self, data: bytes) -> bytes:
        return data

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        engine_reader, engine_writer = await asyncio.open_unix_connection(str(self._target))
        answers = asyncio.create_task(self._answer(engine_reader, writer))
        try:
            with suppress(OSError):
                while data := await reader.read(65536):
                    engine_writer.write(self._to_engine(data))
                    await engine_writer.drain()
                    if self.lose_replies_to and self.lose_replies_to in data.partition(b"\r\n")[0]:
                        answers.cancel()
                        await asyncio.gather(answers, return_exceptions=True)
                        # The engine has done it when it has answered.
                        await engine_reader.read(65536)
                        return
                await answers
        except asyncio.CancelledError:
            answers.cancel()
        finally:
            for end in (writer, engine_writer):
                end.close()
            self._tasks.discard(task)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        passed = 0
        with suppress(OSError):
            while data := await reader.read(16384):
                passed += len(data)
                if self.cut_answers_after is not None and passed > self.cut_answers_after:
                    break
                writer.write(self._from_engine(data))
                await writer.drain()
        writer.close()


_TIME = re.compile(rb"(?!0001)\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d")
_SECONDS = re.compile(rb"(?<=since=|until=)\d+")


class WrongClock(Proxy):
    """An engine on another machine (by its address), whose clock shows the right time and `ahead`, in whole seconds."""

    def __init__(self, target: Path, ahead: timedelta) -> None:
        super().__init__(target, Path())
        self._ahead = ahead

    @property
    def host(self) -> str:
        assert self._server is not None
        return f"tcp://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def _listen(self) -> asyncio.Server:
        return await asyncio.start_server(self._serve, "127.0.0.1", 0)

    def _to_engine(self, data: bytes) -> bytes:
        return _SECONDS.sub(lambda found: str(int(found[0]) - int(self._ahead.total_seconds())).encode(), data)

    def _from_engine(self, data: bytes) -> bytes:
        """As long as before: answers tell their length. A time that is cut by the end of a block is left as it is."""
        return _TIME.sub(lambda found: self._shifted(found[0]), data)

    def _shifted(self, text: bytes) -> bytes:
        return (datetime.fromisoformat(text.decode()) + self._ahead).isoformat().encode()
