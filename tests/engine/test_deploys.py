"""Jobs gate deploys: a real database and engine loop, the fake driver, and servers that die at any commit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from oneoff.drivers.fake import FakeDriver
from oneoff.drivers.fake_engine import Script
from oneoff.engine.context import Context
from oneoff.engine.deployer import Deployer
from oneoff.engine.dispatcher import Dispatcher
from oneoff.engine.executor import Executor
from oneoff.engine.loop import keep_ticking
from oneoff.engine.rescuer import Rescuer
from oneoff.engine.signals import Signals
from oneoff.errors import EngineUnavailable, InvalidVariables
from oneoff.operations import deploying, deploys, runs
from oneoff.operations.jobs import Job, NewJob, change_job, create_job, delete_job
from oneoff.operations.services import get_service
from oneoff.store import events
from oneoff.store import runs as run_rows
from oneoff.store.deploys import Deploy
from oneoff.store.events import EventFilter
from oneoff.store.runs import RunFilter
from tests.engine.world import eventually
from tests.operations.home import DIGEST, NEXT_DIGEST, NEXT_IMAGE, Home, open_home

pytestmark = pytest.mark.anyio
GOES_ON = Script(code=None)
FAILS = Script(code=3)
SUCCEEDS = Script()


class DyingDatabase:
    """The real one until commit number `dies_behind`; then the server that works with it stands still for ever."""

    def __init__(self, database: Any, dies_behind: int) -> None:
        self._database = database
        self._left = dies_behind
        self.died = asyncio.Event()
        self.commits_going = 0

    async def run(self, work: Callable[[Any], Any]) -> Any:
        await self._hang_if_dead()
        self.commits_going += 1
        result = await self._database.run(work)
        self.commits_going -= 1
        self._left -= 1
        if self._left == 0:
            self.died.set()
        await self._hang_if_dead()
        return result

    async def read(self, work: Callable[[Any], Any]) -> Any:
        await self._hang_if_dead()
        return await self._database.read(work)

    async def _hang_if_dead(self) -> None:
        if self.died.is_set():
            await asyncio.Event().wait()


class Server:
    """One server's life: all loops that a deploy with gates needs. `kill` is SIGKILL."""

    def __init__(self, home: Home, lease: str, database: Any = None) -> None:
        driver = FakeDriver(home.context.instance, home.engine)
        self.context: Context = replace(
            home.context, lease=lease, signals=Signals(), driver=driver, database=database or home.context.database
        )
        self.dispatcher = Dispatcher(self.context, Executor(self.context))
        self.deployer = Deployer(self.context, partial(deploying.advance, self.context))
        self._tasks: list[asyncio.Task[Any]] = []

    async def start(self) -> Server:
        rescuer = Rescuer(self.context, self.dispatcher)
        await rescuer.tick()
        for agent in (self.dispatcher, self.deployer, rescuer):
            self.spawn(keep_ticking(agent, self.context.clock))
        return self

    def spawn(self, work: Any) -> asyncio.Task[Any]:
        self._tasks.append(asyncio.create_task(work))
        return self._tasks[-1]

    async def kill(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.deployer.close()
        await self.dispatcher.close()


class Yard:
    """A service with a live image, and what is asked of it."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.context = home.context
        self.servers: list[Server] = []

    async def open(self) -> Yard:
        self.service = await self.home.add_service()
        return self

    async def start_server(self, dies_behind: int | None = None) -> Server:
        database = None if dies_behind is None else DyingDatabase(self.context.database, dies_behind)
        self.servers.append(await Server(self.home, f"lease-{len(self.servers)}", database).start())
        return self.servers[-1]

    async def add_job(self, name: str, script: Script = SUCCEEDS, **settings: Any) -> Job:
        self.home.engine.scripts[name,] = script
        settings = {"gate": "before_deploy"} | settings
        return await create_job(self.context, NewJob(self.service.id, name, {"command": [name], **settings}))

    async def deploy(self, server: Server, image: str = NEXT_IMAGE) -> Deploy:
        return await deploys.create_deploy(server.context, self.service.id, image, "tester")

    async def get(self, deploy: Deploy) -> Deploy:
        return (await deploys.get_deploy(self.context, deploy.id))[0]

    async def until(self, deploy: Deploy, status: str) -> Deploy:
        async def reached() -> Deploy | None:
            found = await self.get(deploy)
            return found if found.status == status else None

        return await eventually(reached, f"no {status}")

    async def until_runs(self, name: str, *statuses: str) -> list[runs.Run]:
        async def reached() -> bool:
            return tuple(run.status for run in await self.runs(name)) == statuses

        await eventually(reached, f"{name} is not {statuses}")
        return await self.runs(name)

    async def runs(self, name: str) -> list[runs.Run]:
        listed = await self.context.database.read(lambda c: run_rows.list_runs(c, RunFilter(), 100, None))
        return [run for run in reversed(listed) if run.command == (name,)]

    async def live(self) -> str | None:
        return (await get_service(self.context, self.service.id)).digest

    async def events(self) -> list[str]:
        workspace = self.context.workspace_id
        listed = await self.context.database.read(lambda c: events.list_events(c, workspace, EventFilter(), 100, None))
        return [each.kind for each in reversed(listed) if each.kind.startswith("deploy.")]


async def open_yard(folder: Path, url: str | None = None) -> Yard:
    folder.mkdir(exist_ok=True)
    return await Yard(await open_home(folder, url)).open()


@pytest.fixture(params=["sqlite", "postgres"])
async def yard(request: pytest.FixtureRequest, data_dir: Path, anyio_backend: str) -> AsyncIterator[Yard]:
    url = request.getfixturevalue("schema_url") if request.param == "postgres" else None
    made = await open_yard(data_dir, url)
    yield made
    for server in made.servers:
        await server.kill()
    made.home.close()


async def test_the_new_image_is_live_only_when_its_gate_succeeded_in_it(yard: Yard) -> None:
    await yard.add_job("migrate", GOES_ON, timeout_seconds=77, concurrency_group="db")
    server = await yard.start_server()
    deploy = await yard.deploy(server)
    assert deploy.status == "pre_deploy_in_progress"
    (run,) = await yard.until_runs("migrate", "running")
    assert (run.digest, run.trigger, run.deploy_id, run.actor) == (NEXT_DIGEST, "deploy", deploy.id, "tester")
    assert (run.timeout_seconds, run.concurrency_group) == (77, "db")
    assert await yard.live() == DIGEST
    yard.home.engine.finish(run.id)
    await yard.until(deploy, "live")
    assert await yard.live() == NEXT_DIGEST
    assert await yard.events() == ["deploy.started", "deploy.live"]


async def test_a_gate_that_fails_keeps_the_old_image_live(yard: Yard) -> None:
    await yard.add_job("migrate", FAILS)
    server = await yard.start_server()
    deploy = await yard.until(await yard.deploy(server), "pre_deploy_failed")
    (run,) = await yard.runs("migrate")
    assert deploy.message == f"job migrate failed with exit code 3 ({run.id})"
    assert await yard.live() == DIGEST
    assert await yard.events() == ["deploy.started", "deploy.failed"]
    ((gate,),) = (await deploys.fetch_gates(yard.context, [deploy])).values()
    assert (gate.run_id, gate.end, gate.job) == (run.id, "failed", "migrate")


async def test_a_gate_that_is_retried_holds_its_deploy_until_the_last_attempt(yard: Yard) -> None:
    job = await yard.add_job("migrate", FAILS, retries={"count": 1, "delay_seconds": 0})
    server = await yard.start_server()
    failed = await yard.until(await yard.deploy(server), "pre_deploy_failed")
    first, second = await yard.runs("migrate")
    assert (second.retry_of, second.digest) == (first.id, NEXT_DIGEST)
    assert second.id in (failed.message or "")
    await change_job(yard.context, job.id, {"retries": {"count": 1, "delay_seconds": 0, "exit_codes": [9]}})
    await yard.until(await yard.deploy(server), "pre_deploy_failed")
    assert len(await yard.runs("migrate")) == 3


async def test_canceling_the_run_of_a_gate_cancels_its_deploy(yard: Yard) -> None:
    await yard.add_job("migrate", GOES_ON)
    server = await yard.start_server()
    deploy = await yard.deploy(server)
    (run,) = await yard.until_runs("migrate", "running")
    await runs.cancel_run(server.context, run.id, "ann")
    deploy = await yard.until(deploy, "canceled")
    assert deploy.message == f"job migrate was canceled by ann ({run.id})"
    assert await yard.live() == DIGEST


async def test_canceling_a_deploy_ends_its_gates_first_even_one_that_succeeds(yard: Yard) -> None:
    await yard.add_job("migrate", Script(code=None, code_on_term=None))
    server = await yard.start_server()
    deploy = await yard.deploy(server)
    (run,) = await yard.until_runs("migrate", "running")
    asked = await deploys.cancel_deploy(server.context, deploy.id, "ann")
    assert (asked.status, asked.canceled_by) == ("pre_deploy_in_progress", "ann")
    await eventually(lambda: yard.home.engine.container(run.id).terms)
    yard.home.engine.finish(run.id, 0)
    assert (await yard.until(deploy, "canceled")).message == "canceled by ann"
    assert await yard.live() == DIGEST
    again = await deploys.cancel_deploy(server.context, deploy.id, "bob")
    assert (again.status, again.canceled_by) == ("canceled", "ann")
    assert await yard.events() == ["deploy.started", "deploy.canceled"]


async def test_runs_after_a_deploy_begin_when_it_is_live_and_their_failure_changes_nothing(yard: Yard) -> None:
    await yard.add_job("migrate")
    await yard.add_job("warm", FAILS, gate="after_deploy")
    server = await yard.start_server()
    deploy = await yard.until(await yard.deploy(server), "live")
    (run,) = await yard.until_runs("warm", "failed")
    assert (run.digest, run.trigger, run.deploy_id) == (NEXT_DIGEST, "deploy", deploy.id)
    await eventually(lambda: _has(yard, "deploy.after_deploy_failed"))
    assert await yard.live() == NEXT_DIGEST
    assert await yard.events() == ["deploy.started", "deploy.live", "deploy.after_deploy_failed"]


async def _has(yard: Yard, kind: str) -> bool:
    return kind in await yard.events()


async def test_a_second_deploy_waits_for_the_first_and_says_so(yard: Yard) -> None:
    await yard.add_job("migrate", GOES_ON)
    server = await yard.start_server()
    first, second, third = [await yard.deploy(server) for _ in range(3)]
    assert [each.status for each in (first, second, third)] == ["pre_deploy_in_progress", "created", "created"]
    assert second.message == f"waits for the end of {first.id}, an earlier deploy of the service"
    assert (await deploys.cancel_deploy(server.context, third.id, "ann")).status == "canceled"
    (run,) = await yard.until_runs("migrate", "running")
    yard.home.engine.finish(run.id, 1)
    await yard.until(first, "pre_deploy_failed")
    await yard.until(second, "pre_deploy_in_progress")
    await yard.until_runs("migrate", "failed", "running")
    assert (await yard.get(second)).message is None


async def test_a_gate_that_runs_on_beside_a_failed_one_is_not_killed_and_the_next_deploy_waits_for_it(
    yard: Yard,
) -> None:
    await yard.add_job("check", GOES_ON)
    await yard.add_job("migrate", GOES_ON)
    server = await yard.start_server()
    first = await yard.deploy(server)
    (check,) = await yard.until_runs("check", "running")
    (migrate,) = await yard.until_runs("migrate", "running")
    yard.home.engine.finish(check.id, 1)
    await yard.until(first, "pre_deploy_failed")
    assert (await runs.get_run(yard.context, migrate.id)).stop_kind is None
    second = await yard.deploy(server)
    assert (second.status, migrate.id in (second.message or "")) == ("created", True)
    yard.home.engine.finish(migrate.id)
    await yard.until(second, "pre_deploy_in_progress")


async def test_a_gate_that_cannot_be_accepted_fails_its_deploy_and_one_after_it_does_not(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> Any:
        raise InvalidVariables("A is too long")

    job = await yard.add_job("migrate", gate="after_deploy")
    server = await yard.start_server()
    monkeypatch.setattr(deploying, "to_request", refuse)
    live = await yard.until(await yard.deploy(server), "live")
    ((gate,),) = (await deploys.fetch_gates(yard.context, [live])).values()
    assert (gate.run_id, gate.end, "is too long" in (gate.message or "")) == (None, "failed", True)
    await change_job(yard.context, job.id, {"gate": "before_deploy"})
    failed = await yard.until(await yard.deploy(server), "pre_deploy_failed")
    assert "its gates could not be started" in (failed.message or "")
    assert await yard.runs("migrate") == []


async def test_a_job_that_is_deleted_while_it_gates_a_deploy_gates_it_still(yard: Yard) -> None:
    job = await yard.add_job("migrate", GOES_ON)
    server = await yard.start_server()
    deploy = await yard.deploy(server)
    (run,) = await yard.until_runs("migrate", "running")
    await delete_job(yard.context, job.id)
    yard.home.engine.finish(run.id, 4)
    await yard.until(deploy, "pre_deploy_failed")


async def test_a_left_deploy_waits_for_an_engine_that_is_away(yard: Yard) -> None:
    left = await deploys.begin_deploy(yard.context, yard.service.id, NEXT_IMAGE, "tester")
    yard.home.engine.fail("prepare", EngineUnavailable("the socket is gone"))
    server = await yard.start_server()

    async def says_so() -> bool:
        return "the socket is gone" in ((await yard.get(left)).message or "")

    await eventually(says_so)
    server.context.signals.deploy_changed(yard.service.id)
    assert (await yard.until(left, "live")).message is None


async def test_two_servers_start_a_gate_once(yard: Yard) -> None:
    await yard.add_job("migrate")
    await yard.add_job("warm", gate="after_deploy")
    for _ in range(2):
        await yard.start_server()
    deploy = await deploys.begin_deploy(yard.context, yard.service.id, NEXT_IMAGE, "tester")
    for server in yard.servers:
        server.context.signals.deploy_changed(yard.service.id)
    await yard.until(deploy, "live")
    await yard.until_runs("warm", "succeeded")
    assert len(await yard.runs("migrate")) == 1
    assert await yard.events() == ["deploy.started", "deploy.live"]


@pytest.mark.parametrize(("script", "status"), [(SUCCEEDS, "live"), (FAILS, "pre_deploy_failed")])
async def test_killed_at_any_commit_a_deploy_goes_on_and_starts_nothing_twice(
    tmp_path: Path, script: Script, status: str
) -> None:
    commits = 0
    while True:
        commits += 1
        yard = await open_yard(tmp_path / str(commits))
        try:
            await yard.add_job("migrate", script)
            await yard.add_job("warm", gate="after_deploy")
            server = await yard.start_server(dies_behind=commits)
            asking = server.spawn(yard.deploy(server))
            survived = await _dies_or_ends(yard, server, asking)
            await server.kill()
            await yard.start_server()
            await _check_one_end(yard, status)
        finally:
            for each in yard.servers:
                await each.kill()
            yard.home.close()
        if survived:
            break
    assert commits > (12 if status == "live" else 8)


async def _dies_or_ends(yard: Yard, server: Server, asking: asyncio.Task[Any]) -> bool:
    """True when the server came to the end of all its work before its commits were used up."""
    database: Any = server.context.database
    died: asyncio.Event = database.died

    async def is_over() -> bool:
        (deploy,), _ = await deploys.list_deploys(yard.context, yard.service.id, 1, None)
        if deploy.status not in ("live", "pre_deploy_failed") or deploy.image != NEXT_IMAGE:
            return False
        warmed = [run.status for run in await yard.runs("warm")]
        return deploy.status == "pre_deploy_failed" or warmed == ["succeeded"]

    await eventually(lambda: died.is_set() or is_over())
    # The last commit is seen by others before it has returned.
    await eventually(lambda: died.is_set() or not database.commits_going)
    return not died.is_set() and asking.done()


async def _check_one_end(yard: Yard, status: str) -> None:
    (deploy, *_), _ = await deploys.list_deploys(yard.context, yard.service.id, 1, None)
    await yard.until(deploy, status)
    is_live = status == "live"
    await yard.until_runs("migrate", "succeeded" if is_live else "failed")
    await yard.until_runs("warm", *(["succeeded"] if is_live else []))
    assert set(yard.home.engine.starts.values()) == {1}
    assert await yard.live() == (NEXT_DIGEST if is_live else DIGEST)
    assert await yard.events() == ["deploy.started", "deploy.live" if is_live else "deploy.failed"]
