"""A whole server in a thread, on SQLite and the fake driver: real HTTP, real engine, no container runtime."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import uvicorn

from oneoff.engine.batcher import Batcher
from oneoff.engine.deployer import Deployer
from oneoff.engine.dispatcher import Dispatcher
from oneoff.engine.executor import Executor
from oneoff.engine.loop import keep_ticking
from oneoff.entrance.observer import Observer
from oneoff.operations.batch_runs import ItemRuns
from oneoff.operations.deploying import advance
from oneoff.server import create_faces, open_websocket
from tests.operations.home import Home, open_home


class LiveServer:
    """`home` belongs to the server's thread; its engine may be scripted from any."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._http: uvicorn.Server | None = None
        self._ready = threading.Event()
        self.home: Home
        self.loop: asyncio.AbstractEventLoop

    def serve(self) -> None:
        """Until `stop`; the work of a thread."""
        asyncio.run(self._serve())

    def wait_until_ready(self) -> None:
        assert self._ready.wait(30)

    def stop(self) -> None:
        assert self._http is not None
        self._http.should_exit = True

    def stop_streams(self) -> None:
        """What the server does first when it is told to stop."""
        self.loop.call_soon_threadsafe(self.home.context.signals.server_stopping)

    async def _serve(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.home = await open_home(self._folder)
        context = self.home.context
        dispatcher = Dispatcher(context, Executor(context))
        deployer = Deployer(context, partial(advance, context))
        agents = (dispatcher, deployer, Batcher(context, ItemRuns(context).make))
        ticking = [asyncio.create_task(keep_ticking(agent, context.clock)) for agent in agents]
        config = uvicorn.Config(
            Observer(create_faces(context)),
            ws=open_websocket,  # type: ignore[arg-type]
            lifespan="off",
            log_config=None,
            timeout_graceful_shutdown=1,
        )
        self._http = uvicorn.Server(config)
        self._http.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
        self._ready.set()
        await self._http.serve(sockets=[self._listener])
        context.signals.server_stopping()
        for task in ticking:
            task.cancel()
        await asyncio.gather(*ticking, return_exceptions=True)
        await deployer.close()
        await dispatcher.close()
        self.home.close()


@contextmanager
def live_server(folder: Path) -> Iterator[LiveServer]:
    server = LiveServer(folder)
    thread = threading.Thread(target=server.serve)
    thread.start()
    try:
        server.wait_until_ready()
        yield server
    finally:
        server.stop()
        thread.join()
