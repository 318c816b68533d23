"""The composition root: the only file that names concrete classes and wires them. `oneoff serve` calls `serve`."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import signal
import socket
import stat
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import uvicorn
import uvloop

from oneoff import __version__, journal, tracing
from oneoff.core.plan import first_plan_id
from oneoff.drivers.driver import Driver, NodeFacts
from oneoff.drivers.observed import observe
from oneoff.drivers.registry import DriverChoice, open_driver
from oneoff.engine.batcher import Batcher
from oneoff.engine.context import Context
from oneoff.engine.deliverer import Deliverer
from oneoff.engine.deployer import Deployer
from oneoff.engine.dispatcher import Dispatcher
from oneoff.engine.executor import Executor
from oneoff.engine.forwarder import Forwarder
from oneoff.engine.heart import Heart
from oneoff.engine.historian import Historian
from oneoff.engine.janitor import Janitor
from oneoff.engine.loop import SystemClock, keep_ticking
from oneoff.engine.rescuer import Rescuer
from oneoff.engine.scheduler import Scheduler
from oneoff.engine.signals import Signals
from oneoff.entrance.faces import Faces
from oneoff.entrance.observer import Observer
from oneoff.errors import DataFolderLocked, InstallationLocked, OneoffError, SettingsInvalid
from oneoff.offers import read_offers
from oneoff.operations.batch_runs import ItemRuns
from oneoff.operations.cron_runs import CronRuns
from oneoff.operations.deploying import advance
from oneoff.operations.installation import Installation, set_up
from oneoff.operations.limits import find_gone
from oneoff.operations.tokens import Tokens
from oneoff.presence import lock, notify_systemd, release, remove_note, runtime_dir, write_note
from oneoff.sealing import Sealer, load_key
from oneoff.settings import Settings
from oneoff.store.database import Database, open_database
from oneoff.store.schema import upgrade

_M_ARENA_MAX = -8  # malloc.h
_DATE_SECONDS = 1  # the header tells no less
_STREAMS_END_SECONDS = 2  # then connections that are still open are closed


OpenDriver = Callable[[DriverChoice], Awaitable[tuple[Driver, NodeFacts]]]


@dataclass(frozen=True, slots=True)
class Parts:
    """What a server is made of, where a test puts something in between."""

    open_database: Callable[[str], Database] = open_database
    open_driver: OpenDriver = open_driver


def serve(settings: Settings, parts: Parts | None = None) -> int:
    """Serve until SIGTERM or SIGINT. Returns the exit code of the process."""
    _share_one_heap()
    journal.choose_format(settings.log_format)
    try:
        uvloop.run(_Server(settings, parts or Parts()).run())
    except OneoffError as problem:
        print(f"error: {problem}", file=sys.stderr)  # noqa: T201 - the one word a person waits for
        return 1
    return 0


class _Server:
    def __init__(self, settings: Settings, parts: Parts) -> None:
        self._settings = settings
        self._parts = parts
        self._signals = Signals()

    async def run(self) -> None:
        async with AsyncExitStack() as stack:
            listener = _listen(*self._settings.listen)
            stack.callback(listener.close)
            context = await self._open(stack)
            tracing.begin(self._settings.traces_url, context.lease)
            stack.callback(tracing.end)
            for gone in await find_gone(context):
                journal.warning("not offered any more", what=gone)
            dispatcher = Dispatcher(context, Executor(context))
            stack.push_async_callback(dispatcher.close)
            rescuer = Rescuer(context, dispatcher)
            await rescuer.tick()  # what was going before comes before what is new
            scheduler = Scheduler(context, partial(CronRuns, context))
            batcher = Batcher(context, ItemRuns(context).make)
            deployer = Deployer(context, partial(advance, context))
            stack.push_async_callback(deployer.close)
            deliverer = Deliverer(context)
            stack.push_async_callback(deliverer.close)
            forwarder = Forwarder(context)
            stack.push_async_callback(forwarder.close)
            caretakers = (Heart(context, dispatcher), Janitor(context, dispatcher), Historian(context))
            for agent in (dispatcher, scheduler, batcher, deployer, rescuer, deliverer, forwarder, *caretakers):
                task = asyncio.create_task(keep_ticking(agent, context.clock), name=agent.name)
                stack.push_async_callback(_end, task)
            await self._serve_http(context, listener, stack)

    async def _open(self, stack: AsyncExitStack) -> Context:
        settings = self._settings
        offers = read_offers(settings.plans_file, settings.instance_types_file)
        _make_private(settings.data_dir)
        held = lock(settings.data_dir / "lock", lambda pid: DataFolderLocked(str(settings.data_dir), pid))
        stack.callback(os.close, held)
        sealer = Sealer(load_key(settings.data_dir / "secret.key"))
        database = self._parts.open_database(settings.store_url)
        stack.callback(database.close)
        await database.run(upgrade)
        database.on_events(self._signals.events_happened)
        clock = SystemClock()
        installed: Installation = await set_up(database, sealer, clock, settings.data_dir, first_plan_id(offers.plans))
        # Two servers of one installation on one machine would both drive its containers.
        own = runtime_dir() / f"{installed.instance}.lock"
        stack.callback(release, lock(own, InstallationLocked), own)
        driver, facts = await self._parts.open_driver(
            DriverChoice(
                settings.driver, installed.instance, settings.data_dir, settings.docker_host, settings.oci_runtime
            )
        )
        stack.push_async_callback(driver.close)
        return Context(
            settings=settings,
            database=database,
            driver=observe(driver),
            facts=facts,
            sealer=sealer,
            clock=clock,
            signals=self._signals,
            instance=installed.instance,
            workspace_id=installed.workspace_id,
            lease=installed.new_lease(clock.now()),
            plans=offers.plans,
            catalogue=offers.catalogue,
        )

    async def _serve_http(self, context: Context, listener: socket.socket, stack: AsyncExitStack) -> None:
        # Half of all that a server loads; the runs of one that died are taken up meanwhile.
        faces = await asyncio.to_thread(create_faces, context)
        host, port = listener.getsockname()[:2]
        url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        config = uvicorn.Config(
            Observer(faces),
            http="httptools",
            ws=open_websocket,  # type: ignore[arg-type]
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            timeout_graceful_shutdown=_STREAMS_END_SECONDS,
        )
        http = _HttpServer(config)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop, http)
        stack.callback(remove_note, write_note(url, context.settings.data_dir))
        journal.info(
            "serving", url=url, version=__version__, engine=context.facts.engine, data=str(context.settings.data_dir)
        )
        _give_back_memory()
        notify_systemd("READY=1")
        await http.serve(sockets=[listener])

    def _stop(self, http: _HttpServer) -> None:
        """End the streams, then the server; running containers go on."""
        if http.should_exit:
            http.force_exit = True
        journal.info("stopping; running containers go on")
        notify_systemd("STOPPING=1")
        self._signals.server_stopping()
        http.end()


def create_faces(context: Context) -> Faces:
    """The native API, and the Render-compatible ones once somebody asks for them: they share callers and context."""
    from oneoff.api.app import create_app as create_native_app

    tokens = Tokens(context)

    def make(prefix: str) -> Any:
        from oneoff.render_api.app import create_app

        return create_app(prefix, context, tokens)

    others = {prefix: partial(make, prefix) for prefix in ("/v1", "/render/v1")}
    return Faces(create_native_app(context, tokens), others)


def open_websocket(*arguments: Any, **more: Any) -> Any:
    """What speaks a websocket for uvicorn. Its library is loaded with the first one."""
    from uvicorn.protocols.websockets.wsproto_impl import WSProtocol

    return WSProtocol(*arguments, **more)


class _HttpServer(uvicorn.Server):
    """uvicorn without its own signal handlers: ours must end the streams first. And it wakes once a second, for the
    header `Date`, instead of ten times."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._ending = asyncio.Event()

    def end(self) -> None:
        self.should_exit = True
        self._ending.set()

    async def main_loop(self) -> None:
        while not await self.on_tick(0):
            with suppress(TimeoutError):
                await asyncio.wait_for(self._ending.wait(), _DATE_SECONDS)

    @contextmanager
    def capture_signals(self) -> Any:
        yield


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _make_private(data_dir: Path) -> None:
    """Keys, logs and the database lie there."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        if stat.S_IMODE(data_dir.stat().st_mode) & 0o077:
            journal.warning("closing the data folder to other users", folder=str(data_dir))
            data_dir.chmod(0o700)
    except OSError as problem:
        raise SettingsInvalid([f"--data {data_dir}: {problem.strerror}; choose another folder"]) from problem


def _share_one_heap() -> None:
    """For all threads: the C library's heap per thread keeps 1.5 MB more, and Python lets one thread allocate at a time
    anyway."""
    with suppress(OSError, AttributeError):  # not the C library of GNU
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


def _give_back_memory() -> None:
    """What starting took and nobody needs any more goes back to the system; what is left is not looked at by the
    garbage collector again."""
    gc.collect()
    gc.freeze()
    with suppress(OSError, AttributeError):  # not the C library of GNU
        ctypes.CDLL(None).malloc_trim(0)


def _listen(host: str, port: int) -> socket.socket:
    """Bound and listening before anything else starts, so that a taken port is told at once."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as problem:
        listener.close()
        raise SettingsInvalid([f"--listen {host}:{port}: {problem.strerror}; choose another port"]) from problem
    listener.listen(1024)
    return listener
