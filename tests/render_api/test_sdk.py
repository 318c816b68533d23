"""Render's own Python package against a server that listens: what its users call, unchanged."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Coroutine, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import aiohttp
import pytest
from render.public_api.api.deploys import create_deploy, list_deploys, retrieve_deploy
from render.public_api.api.environment_groups import list_env_groups, retrieve_env_group
from render.public_api.api.events import retrieve_event
from render.public_api.api.logs import list_logs, list_logs_values
from render.public_api.api.one_off_jobs import cancel_job, list_job, post_job, retrieve_job
from render.public_api.api.projects_environments import list_environments, list_projects
from render.public_api.api.services import (
    create_service,
    delete_env_var,
    delete_service,
    get_env_vars_for_service,
    list_events,
    list_services,
    resume_service,
    retrieve_env_var,
    retrieve_service,
    suspend_service,
    update_env_var,
    update_env_vars_for_service,
)
from render.public_api.api.services_cron_jobs import run_cron_job
from render.public_api.api.users import get_user
from render.public_api.api.workspaces import list_owners
from render.public_api.client import AuthenticatedClient
from render.public_api.models.background_worker_details_post import BackgroundWorkerDetailsPOST
from render.public_api.models.create_deploy_body import CreateDeployBody
from render.public_api.models.cron_job_details_post import CronJobDetailsPOST
from render.public_api.models.docker_details import DockerDetails
from render.public_api.models.env_var_generate_value import EnvVarGenerateValue
from render.public_api.models.env_var_key_value import EnvVarKeyValue
from render.public_api.models.error import Error
from render.public_api.models.image import Image
from render.public_api.models.job_run_ended import JobRunEnded
from render.public_api.models.job_status import JobStatus
from render.public_api.models.list_logs_values_label import ListLogsValuesLabel
from render.public_api.models.log_direction import LogDirection
from render.public_api.models.post_job_body import PostJobBody
from render.public_api.models.service_event_type import ServiceEventType
from render.public_api.models.service_post import ServicePOST
from render.public_api.models.service_runtime import ServiceRuntime
from render.public_api.models.service_type import ServiceType
from render.public_api.types import UNSET

from oneoff.drivers.fake_engine import Script
from oneoff.operations.variables import VariableChange, replace_variables
from tests.cli.live import LiveServer, live_server
from tests.operations.home import IMAGE, NEXT_DIGEST, NEXT_IMAGE

T = TypeVar("T")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with live_server(tmp_path_factory.mktemp("sdk")) as running:
        running.home.engine.default_script = Script((("stdout", b"hi\n"), ("stderr", b"level=warn slow\n")))
        shell("exit 7", running, Script((("stdout", b"bye\n"),), 7))
        shell("sleep", running, Script(code=None))
        yield running


@pytest.fixture
def client(server: LiveServer) -> Iterator[AuthenticatedClient]:
    with AuthenticatedClient(base_url=f"{server.url}/render/v1", token=server.home.admin_token) as made:
        yield made


@pytest.fixture
def service_id(server: LiveServer, request: pytest.FixtureRequest) -> str:
    """One of the test's own."""
    name = "t" + str(abs(hash(request.node.name)))
    return wait(server, server.home.add_service(f"shop/{name}/web")).id


def shell(command: str, server: LiveServer, script: Script) -> None:
    server.home.engine.scripts["/bin/sh", "-c", command] = script


def wait(server: LiveServer, work: Coroutine[Any, Any, T]) -> T:
    """Do something in the server's own thread."""
    return asyncio.run_coroutine_threadsafe(work, server.loop).result(20)


def start(client: AuthenticatedClient, service_id: str, command: str = "echo hi") -> Any:
    job = post_job.sync(service_id, client=client, body=PostJobBody(start_command=command))
    assert not isinstance(job, Error | None)
    return job


def wait_for(client: AuthenticatedClient, job: Any, *statuses: JobStatus) -> Any:
    for _ in range(200):
        seen = retrieve_job.sync(job.service_id, job.id, client=client)
        if seen.status in statuses:
            return seen
        threading.Event().wait(0.05)
    raise AssertionError(f"{job.id} is {seen.status}")


def test_a_job_is_made_and_looked_at_until_it_has_ended(client: AuthenticatedClient, service_id: str) -> None:
    job = start(client, service_id)
    assert (job.start_command, job.plan_id, job.service_id) == ("echo hi", "plan-srv-006", service_id)
    ended = wait_for(client, job, JobStatus.SUCCEEDED, JobStatus.FAILED)
    assert ended.status is JobStatus.SUCCEEDED
    assert job.created_at <= ended.started_at <= ended.finished_at
    assert wait_for(client, start(client, service_id, "exit 7"), JobStatus.FAILED, JobStatus.SUCCEEDED)
    wrong = post_job.sync(service_id, client=client, body=PostJobBody("echo hi", "plan-crn-003"))
    assert isinstance(wrong, Error)
    assert "plan-srv-006" in wrong.message
    missing = retrieve_job.sync(service_id, "job-" + "0" * 20, client=client)
    assert isinstance(missing, Error)


def test_jobs_are_listed_with_filters_page_by_page_and_canceled(client: AuthenticatedClient, service_id: str) -> None:
    done = wait_for(client, start(client, service_id), JobStatus.SUCCEEDED)
    failed = wait_for(client, start(client, service_id, "exit 7"), JobStatus.FAILED)
    going = wait_for(client, start(client, service_id, "sleep"), JobStatus.RUNNING)

    def ids(**query: Any) -> list[str]:
        return [each.job.id for each in list_job.sync(service_id, client=client, **query)]

    assert ids() == [going.id, failed.id, done.id]
    assert ids(status=[JobStatus.FAILED, JobStatus.RUNNING]) == [going.id, failed.id]
    assert ids(created_after=done.created_at, finished_before=datetime.now(UTC)) == [failed.id]
    assert ids(started_before=failed.started_at) == [done.id]
    assert ids(created_before=done.created_at - timedelta(seconds=1)) == []
    seen: list[str] = []
    page = list_job.sync(service_id, client=client, limit=2)
    while page:
        seen += [each.job.id for each in page]
        page = list_job.sync(service_id, client=client, limit=2, cursor=page[-1].cursor)
    assert seen == ids()
    canceled = cancel_job.sync(service_id, going.id, client=client)
    assert canceled.id == going.id
    wait_for(client, going, JobStatus.CANCELED)
    assert cancel_job.sync(service_id, done.id, client=client).status is JobStatus.SUCCEEDED


def test_logs_are_read_both_ways_and_by_label(server: LiveServer, client: AuthenticatedClient, service_id: str) -> None:
    job = wait_for(client, start(client, service_id), JobStatus.SUCCEEDED)
    owner = server.home.context.workspace_id
    page = list_logs.sync(client=client, owner_id=owner, resource=[job.id], direction=LogDirection.FORWARD, limit=1)
    assert [each.message for each in page.logs] == ["hi"]
    rest = list_logs.sync(
        client=client,
        owner_id=owner,
        resource=[job.id],
        direction=LogDirection.FORWARD,
        start_time=page.next_start_time,
        end_time=page.next_end_time,
    )
    assert ([each.message for each in rest.logs], page.has_more, rest.has_more) == (["level=warn slow"], True, False)
    both = list_logs.sync(client=client, owner_id=owner, resource=[service_id, job.id], level=["warning", "error"])
    assert [each.message for each in both.logs] == ["level=warn slow"]
    levels = list_logs_values.sync(
        client=client, owner_id=owner, label=ListLogsValuesLabel.LEVEL, resource=[service_id]
    )
    assert levels == ["info", "warning"]


def test_events_tell_exit_codes(client: AuthenticatedClient, service_id: str) -> None:
    job = wait_for(client, start(client, service_id, "exit 7"), JobStatus.FAILED)
    (listed,) = list_events.sync(service_id, client=client, type_=ServiceEventType.JOB_RUN_ENDED)
    details = listed.event.details
    if not isinstance(details, JobRunEnded):  # the package tries the shapes of all events in turn
        details = JobRunEnded.from_dict(details.to_dict())
    assert (details.job_id, details.status) == (job.id, JobStatus.FAILED)
    assert details.reason.non_zero_exit == 7
    assert retrieve_event.sync(listed.event.id, client=client).id == listed.event.id


def test_services_are_made_listed_suspended_and_deleted(server: LiveServer, client: AuthenticatedClient) -> None:
    (owner,) = list_owners.sync(client=client)
    body = ServicePOST(
        type_=ServiceType.BACKGROUND_WORKER,
        name="worker",
        owner_id=owner.owner.id,
        image=Image(owner.owner.id, IMAGE),
        env_vars=[EnvVarKeyValue("A", "1")],
        service_details=BackgroundWorkerDetailsPOST(runtime=ServiceRuntime.IMAGE),
    )
    made = create_service.sync(client=client, body=body)
    assert made.service.image_path == IMAGE
    assert retrieve_deploy.sync(made.service.id, made.deploy_id, client=client).status.value == "live"
    found = list_services.sync(client=client, name=["worker", "other"], type_=[ServiceType.BACKGROUND_WORKER])
    assert [each.service.id for each in found] == [made.service.id]
    assert suspend_service.sync_detailed(made.service.id, client=client).status_code == 202
    assert retrieve_service.sync(made.service.id, client=client).suspended.value == "suspended"
    assert resume_service.sync_detailed(made.service.id, client=client).status_code == 202
    (project,) = [each.project for each in list_projects.sync(client=client) if each.project.name == "worker"]
    (environment,) = list_environments.sync(client=client, project_id=[project.id])
    assert environment.environment.service_ids == [made.service.id]
    groups = {each.id for each in list_env_groups.sync(client=client)}
    assert set(environment.environment.env_group_ids) <= groups
    group = retrieve_env_group.sync(environment.environment.env_group_ids[0], client=client)
    assert [link.id for link in group.service_links] == [made.service.id]
    assert delete_service.sync_detailed(made.service.id, client=client).status_code == 204
    assert get_user.sync(client=client).name == "admin"


def test_a_cron_job_is_made_and_run(server: LiveServer, client: AuthenticatedClient) -> None:
    owner = server.home.context.workspace_id
    details = CronJobDetailsPOST("0 3 * * *", env_specific_details=DockerDetails("nightly", "", ""))
    body = ServicePOST(ServiceType.CRON_JOB, "nightly", owner, image=Image(owner, IMAGE), service_details=details)
    made = create_service.sync(client=client, body=body)
    assert made.service.service_details.schedule == "0 3 * * *"
    run = run_cron_job.sync(made.service.id, client=client)
    assert (run.status.value, run.triggered_by, run.started_at) == ("pending", "admin", UNSET)


def test_deploys_are_made_and_listed(client: AuthenticatedClient, service_id: str) -> None:
    made = create_deploy.sync(service_id, client=client, body=CreateDeployBody(image_url=NEXT_IMAGE))
    for _ in range(200):
        seen = retrieve_deploy.sync(service_id, made.id, client=client)
        if seen.status.value == "live":
            break
        threading.Event().wait(0.05)
    assert (seen.status.value, seen.image.sha) == ("live", NEXT_DIGEST)
    assert [each.deploy.status.value for each in list_deploys.sync(service_id, client=client)] == [
        "live",
        "deactivated",
    ]


def test_variables_are_set_and_removed(server: LiveServer, client: AuthenticatedClient, service_id: str) -> None:
    wait(server, replace_variables(server.home.context, service_id, {"OLD": VariableChange("1")}))
    update_env_vars_for_service.sync(service_id, client=client, body=[EnvVarKeyValue("A", "1")])
    made = update_env_var.sync(service_id, "B", client=client, body=EnvVarGenerateValue(generate_value=True))
    assert retrieve_env_var.sync(service_id, "B", client=client).value == made.value
    found = get_env_vars_for_service.sync(service_id, client=client)
    assert [each.env_var.key for each in found] == ["A", "B"]
    assert delete_env_var.sync_detailed(service_id, "A", client=client).status_code == 204
    assert [each.env_var.key for each in get_env_vars_for_service.sync(service_id, client=client)] == ["B"]


def test_lines_come_on_a_websocket_one_by_one_until_the_server_goes_away(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with live_server(tmp_path_factory.mktemp("socket")) as server:
        home = server.home
        home.engine.default_script = Script((("stdout", b"one\ntwo\n"),))
        service = wait(server, home.add_service())
        with AuthenticatedClient(base_url=f"{server.url}/render/v1", token=home.admin_token) as client:
            job = wait_for(client, start(client, service.id), JobStatus.SUCCEEDED)
            asyncio.run(_listen(server, client, service.id, job))


async def _listen(server: LiveServer, client: AuthenticatedClient, service_id: str, job: Any) -> None:
    owner = server.home.context.workspace_id
    address = f"{server.url}/render/v1/logs/subscribe?ownerId={owner}&resource="
    headers = {"Authorization": f"Bearer {server.home.admin_token}"}
    async with aiohttp.ClientSession(headers=headers) as session:
        with pytest.raises(aiohttp.WSServerHandshakeError, match="404"):
            await session.ws_connect(address + "srv-" + "0" * 20)
        with pytest.raises(aiohttp.WSServerHandshakeError, match="401"):
            await session.ws_connect(address + service_id, headers={"Authorization": "Bearer wrong"})
        of_job = await session.ws_connect(address + job.id)  # what it wrote before is told, too
        of_service = await session.ws_connect(address + service_id)
        first = [json.loads(await of_job.receive_str(timeout=10)) for _ in range(2)]
        assert [each["message"] for each in first] == ["one", "two"]
        later = await session.ws_connect(f"{address}{job.id}&startTime={first[1]['timestamp']}")
        assert json.loads(await later.receive_str(timeout=10))["id"] == first[1]["id"]
        await asyncio.to_thread(start, client, service_id)
        coming = [json.loads(await of_service.receive_str(timeout=10)) for _ in range(2)]
        assert [each["message"] for each in coming] == ["one", "two"]
        assert coming[0]["labels"][0] == {"name": "resource", "value": service_id}
        await later.close()
        server.stop_streams()
        for socket in (of_job, of_service):
            message = await socket.receive(timeout=10)
            assert (message.type, socket.close_code) == (aiohttp.WSMsgType.CLOSE, 1001)
