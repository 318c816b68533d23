"""What clients need around jobs on /render/v1: services, deploys, variables, and where they lie."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from oneoff.core.image import ImageConfig
from oneoff.core.run import RunStatus, Trigger
from oneoff.core.service import ServiceType
from oneoff.operations import jobs, runs
from oneoff.operations.deploying import advance
from oneoff.operations.jobs import NO_OVERRIDES, JobFilter
from oneoff.operations.runs import Origin
from oneoff.operations.tokens import Tokens
from oneoff.operations.variables import VariableChange, replace_variables
from oneoff.store.runs import RunFilter
from tests.operations.home import DIGEST, IMAGE, NEXT_DIGEST, NEXT_IMAGE, Home
from tests.render_api.fields import (
    CRON_RUN,
    DEPLOY,
    ENV_VAR,
    ENVIRONMENT,
    ERROR,
    GROUP,
    GROUP_IN_LIST,
    JOB,
    OWNER,
    PROJECT,
    USER,
    listed,
    wrong,
    wrong_service,
)

pytestmark = pytest.mark.anyio
FACE = "/render/v1"


async def ask(client: httpx2.AsyncClient, method: str, path: str, status: int = 200, **more: Any) -> Any:
    response = await client.request(method, FACE + path, **more)
    assert response.status_code == status, response.text
    if status >= 400:
        assert wrong(response.json(), ERROR) == []
        return response.json()["message"]
    return response.json() if response.content else None


async def create(client: httpx2.AsyncClient, home: Home, kind: str = "background_worker", **more: Any) -> Any:
    body = {
        "type": kind,
        "name": "worker",
        "ownerId": home.context.workspace_id,
        "image": {"ownerId": home.context.workspace_id, "imagePath": IMAGE},
        **more,
    }
    made = await ask(client, "POST", "/services", 201, json=body)
    assert wrong_service(made["service"]) == []
    return made["service"]


async def settle(client: httpx2.AsyncClient, home: Home, deploy: Any) -> Any:
    """The deploy, when the deployer has done its work."""
    ended, _ = await advance(home.context, deploy["id"])
    return await ask(client, "GET", f"/services/{ended.service_id}/deploys/{ended.id}")


async def test_a_service_is_made_from_an_image_with_its_variables_and_plan(
    client: httpx2.AsyncClient, home: Home
) -> None:
    details = {"runtime": "image", "plan": "standard", "region": "oregon"}
    variables = [{"key": "A", "value": "1"}, {"key": "SECRET", "generateValue": True}]
    service = await create(client, home, envVars=variables, serviceDetails=details)
    assert (service["name"], service["imagePath"], service["autoDeploy"]) == ("worker", IMAGE, "no")
    assert (service["serviceDetails"]["plan"], service["serviceDetails"]["env"]) == ("standard", "image")
    native = (await client.get(f"/api/v1/services/{service['id']}")).json()
    assert (native["path"], native["instance_type"]) == ("worker/production/worker", "plan-srv-008")
    found = await ask(client, "GET", f"/services/{service['id']}/env-vars")
    assert all(wrong(each, listed("envVar", ENV_VAR)) == [] for each in found)
    assert [each["envVar"]["key"] for each in found] == ["A", "SECRET"]
    assert len(found[1]["envVar"]["value"]) == 44  # 256 bits in base64
    job = await ask(client, "POST", f"/services/{service['id']}/jobs", 201, json={"startCommand": "echo hi"})
    assert job["planId"] == "plan-srv-008"


@pytest.mark.parametrize("kind", list(ServiceType))
async def test_a_service_of_each_type_is_shown_as_its_table_says(
    client: httpx2.AsyncClient, home: Home, kind: ServiceType
) -> None:
    details = {"schedule": "0 3 * * *", "envSpecificDetails": {"dockerCommand": "nightly | tee"}}
    service = await create(client, home, kind.value, serviceDetails=details)
    assert wrong_service(await ask(client, "GET", f"/services/{service['id']}")) == []
    if kind is ServiceType.CRON_JOB:
        assert service["serviceDetails"]["schedule"] == "0 3 * * *"
        assert service["serviceDetails"]["envSpecificDetails"]["dockerCommand"] == "nightly | tee"
        jobs = (await client.get("/api/v1/jobs")).json()["items"]
        assert [(job["name"], job["shell"]) for job in jobs] == [("cron", "nightly | tee")]


async def test_what_cannot_be_had_is_refused_with_what_there_is_instead(client: httpx2.AsyncClient, home: Home) -> None:
    owner = home.context.workspace_id
    good = {"type": "web_service", "name": "a", "ownerId": owner, "image": {"ownerId": owner, "imagePath": IMAGE}}
    for more, told in (
        ({"repo": "https://example.com/a.git"}, "builds nothing"),
        ({"image": None}, "image.imagePath is missing"),
        ({"image": {"imagePath": IMAGE, "registryCredentialId": "rgc-1"}}, "registry"),
        ({"image": {"imagePath": "shop/web:none"}}, "cannot be had"),
        ({"secretFiles": [{"name": "a", "content": "b"}]}, "secret files"),
        ({"type": "static_site"}, "web_service"),
        ({"type": "cron_job"}, "schedule is missing"),
        ({"type": "cron_job", "serviceDetails": {"schedule": "x", "envSpecificDetails": {"dockerCommand": "a"}}}, "x"),
        ({"type": "cron_job", "serviceDetails": {"schedule": "* * * * *"}}, "command"),
        ({"serviceDetails": {"disk": {"name": "d"}}}, "no persistent disk"),
        ({"serviceDetails": {"runtime": "node"}}, "runtime must be image"),
        ({"serviceDetails": {"plan": "huge"}}, "plan-srv-006"),
        ({"serviceDetails": []}, "serviceDetails must be an object"),
        ({"envVars": [{"key": "ONEOFF_X", "value": "1"}]}, "reserved"),
        ({"envVars": [{"key": "A"}]}, "generateValue"),
        ({"autoDeploy": "yes"}, "autoDeploy must be no"),
        ({"name": "7"}, "begin with a letter"),
    ):
        assert told in await ask(client, "POST", "/services", 400, json=good | more), more
    assert owner in await ask(client, "POST", "/services", 404, json=good | {"ownerId": "tea-" + "0" * 20})
    assert await ask(client, "GET", "/services") == []
    await create(client, home)
    assert "exists" in await ask(client, "POST", "/services", 409, json=good | {"name": "worker"})


async def test_a_request_sent_again_under_its_key_gets_the_same_answer_and_changes_nothing(
    client: httpx2.AsyncClient, home: Home
) -> None:
    owner = home.context.workspace_id
    body = {
        "type": "cron_job",
        "name": "nightly",
        "ownerId": owner,
        "image": {"ownerId": owner, "imagePath": IMAGE},
        "envVars": [{"key": "A", "value": "1"}, {"key": "SECRET", "generateValue": True}],
        "serviceDetails": {"schedule": "0 3 * * *", "envSpecificDetails": {"dockerCommand": "nightly"}},
    }
    key = {"Idempotency-Key": "once"}
    made = await ask(client, "POST", "/services", 201, json=body, headers=key)
    address = f"/services/{made['service']['id']}"
    await ask(client, "PUT", f"{address}/env-vars/A", json={"value": "2"})
    before = await ask(client, "GET", f"{address}/env-vars")
    assert await ask(client, "POST", "/services", 201, json=body, headers=key) == made
    assert await ask(client, "GET", f"{address}/env-vars") == before
    (job,) = (await client.get("/api/v1/jobs")).json()["items"]
    await client.delete(f"/api/v1/jobs/{job['id']}?with_crons=true")
    await ask(client, "POST", "/services", 201, json=body, headers=key)
    assert (await client.get("/api/v1/jobs")).json()["items"] == []


async def test_a_service_whose_cron_is_refused_was_never_there(client: httpx2.AsyncClient, home: Home) -> None:
    details = {"schedule": "0 3 31 2 *", "envSpecificDetails": {"dockerCommand": "nightly"}}
    owner = home.context.workspace_id
    body = {"type": "cron_job", "name": "a", "ownerId": owner, "image": {"imagePath": IMAGE}, "serviceDetails": details}
    assert "0 3 31 2 *" in await ask(client, "POST", "/services", 400, json=body)
    assert (await client.get("/api/v1/events")).json()["items"] == []


async def test_services_are_listed_by_every_filter_and_page(client: httpx2.AsyncClient, home: Home) -> None:
    first, second, third = [await create(client, home, name=name) for name in ("one", "two", "three")]
    await client.post(f"{FACE}/services/{second['id']}/suspend")

    async def names(query: str) -> list[str]:
        found = await ask(client, "GET", f"/services?{query}")
        assert all(wrong_service(each["service"]) == [] for each in found)
        return [each["service"]["name"] for each in found]

    assert await names("") == ["three", "two", "one"]
    assert await names("name=one,three") == ["three", "one"]
    assert await names("name=one&name=two") == ["two", "one"]
    assert await names("type=web_service") == []
    assert await names("type=background_worker,cron_job&suspended=suspended") == ["two"]
    assert await names("suspended=not_suspended") == ["three", "one"]
    assert await names(f"environmentId={third['environmentId']}") == ["three"]
    assert await names(f"ownerId={home.context.workspace_id}&region=oregon&env=image") == ["three", "two", "one"]
    assert await names("ownerId=tea-other") == await names("region=ohio") == await names("env=node") == []
    assert await names(f"createdAfter={first['createdAt']}") == ["three", "two"]
    assert await names(f"updatedBefore={second['updatedAt']}&includePreviews=true") == ["one"]
    cursor = (await ask(client, "GET", "/services?limit=2"))[-1]["cursor"]
    last = (await ask(client, "GET", f"/services?limit=2&cursor={cursor}"))[-1]
    assert last["service"]["name"] == "one"
    assert await names(f"cursor={last['cursor']}") == []


async def test_a_service_is_changed_suspended_resumed_and_deleted(client: httpx2.AsyncClient, home: Home) -> None:
    details = {"schedule": "0 3 * * *", "envSpecificDetails": {"dockerCommand": "nightly"}}
    service = await create(client, home, "cron_job", serviceDetails=details)
    address = f"/services/{service['id']}"
    change = {
        "image": {"ownerId": home.context.workspace_id, "imagePath": NEXT_IMAGE},
        "serviceDetails": {
            "plan": "pro",
            "schedule": "0 4 * * *",
            "envSpecificDetails": {"dockerCommand": "x"},
        },
    }
    changed = await ask(client, "PATCH", address, json=change)
    assert wrong_service(changed) == []
    told = changed["serviceDetails"]
    assert (told["plan"], told["schedule"], changed["imagePath"]) == ("pro", "0 4 * * *", IMAGE)
    begun = (await ask(client, "GET", f"{address}/deploys?status=created"))[0]["deploy"]
    assert begun["image"]["ref"] == NEXT_IMAGE
    assert told["envSpecificDetails"]["dockerCommand"] == "x"
    assert "cannot be renamed" in await ask(client, "PATCH", address, 400, json={"name": "other"})
    assert await ask(client, "POST", f"{address}/suspend", 202) is None
    suspended = await ask(client, "GET", address)
    assert (suspended["suspended"], suspended["suspenders"]) == ("suspended", ["user"])
    assert await ask(client, "POST", f"{address}/resume", 202) is None
    assert (await ask(client, "GET", address))["suspended"] == "not_suspended"
    assert await ask(client, "DELETE", address, 204) is None
    assert service["id"] in await ask(client, "GET", address, 404)


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        ({"image": {"imagePath": "no image"}}, "no image"),
        ({"serviceDetails": {"schedule": "0 3 31 2 *"}}, "0 3 31 2 *"),
    ],
)
async def test_a_change_of_which_one_part_is_refused_changes_nothing(
    client: httpx2.AsyncClient, home: Home, bad: dict[str, Any], told: str
) -> None:
    command = {"dockerCommand": "nightly"}
    details = {"plan": "starter", "schedule": "0 3 * * *", "envSpecificDetails": command}
    service = await create(client, home, "cron_job", serviceDetails=details)
    address = f"/services/{service['id']}"
    others = {"plan": "pro", "schedule": "0 4 * * *", "envSpecificDetails": {"dockerCommand": "x"}}
    change = {**bad, "serviceDetails": others | bad.get("serviceDetails", {})}
    assert told in await ask(client, "PATCH", address, 400, json=change)
    assert await ask(client, "GET", address) == service
    assert await ask(client, "GET", f"{address}/deploys?status=created") == []


async def test_deploys_are_made_listed_and_gone_back_to(client: httpx2.AsyncClient, home: Home) -> None:
    service = await create(client, home)
    address = f"/services/{service['id']}/deploys"
    begun = await ask(client, "POST", address, 201, json={"imageUrl": NEXT_IMAGE, "clearCache": "do_not_clear"})
    assert (begun["status"], wrong(begun, DEPLOY)) == ("created", [])
    made = await settle(client, home, begun)
    assert (made["status"], made["image"], wrong(made, DEPLOY)) == ("live", {"ref": NEXT_IMAGE, "sha": NEXT_DIGEST}, [])
    failed = await settle(client, home, await ask(client, "POST", address, 201, json={"imageUrl": "shop/web:none"}))
    assert (failed["status"], failed["image"]["ref"]) == ("update_failed", "docker.io/shop/web:none")
    found = await ask(client, "GET", address)
    assert all(wrong(each, listed("deploy", DEPLOY)) == [] for each in found)
    assert [each["deploy"]["status"] for each in found] == ["update_failed", "live", "deactivated"]
    live = await ask(client, "GET", f"{address}?status=live&status=build_failed&finishedAfter={service['createdAt']}")
    assert [each["deploy"]["id"] for each in live] == [made["id"]]
    assert await ask(client, "GET", f"{address}?cursor={found[-1]['cursor']}") == []
    assert await ask(client, "GET", f"{address}/{made['id']}") == made
    back = {"deployId": found[-1]["deploy"]["id"]}
    again = await ask(client, "POST", f"/services/{service['id']}/rollback", 201, json=back)
    again = await settle(client, home, again)
    assert (again["status"], again["image"]["sha"]) == ("live", DIGEST)
    same = await settle(client, home, await ask(client, "POST", address, 201))
    assert same["image"]["sha"] == DIGEST
    waiting = await ask(client, "POST", address, 201)
    for _ in range(2):
        canceled = await ask(client, "POST", f"{address}/{waiting['id']}/cancel")
        assert (canceled["status"], wrong(canceled, DEPLOY)) == ("canceled", [])
    other = await create(client, home, name="other")
    await ask(client, "GET", f"/services/{other['id']}/deploys/{made['id']}", 404)
    assert "builds nothing" in await ask(client, "POST", address, 400, json={"commitId": "abc"})
    assert "live" in await ask(client, "GET", f"{address}?status=done", 400)


async def test_variables_are_replaced_set_and_removed(client: httpx2.AsyncClient, home: Home) -> None:
    address = f"/services/{(await create(client, home))['id']}/env-vars"
    body = [{"key": "B", "value": "2"}, {"key": "A", "value": ""}, {"key": "C", "value": "3"}]
    put = await ask(client, "PUT", address, json=body)
    assert [each["envVar"] for each in put] == [
        {"key": "A", "value": ""},
        {"key": "B", "value": "2"},
        {"key": "C", "value": "3"},
    ]
    page = await ask(client, "GET", f"{address}?limit=2")
    rest = await ask(client, "GET", f"{address}?cursor={page[-1]['cursor']}")
    assert [each["envVar"]["key"] for each in rest] == ["C"]
    assert await ask(client, "GET", f"{address}?cursor={rest[-1]['cursor']}") == []
    assert await ask(client, "PUT", f"{address}/D", json={"value": "4"}) == {"key": "D", "value": "4"}
    made = await ask(client, "PUT", f"{address}/E", json={"generateValue": True})
    assert await ask(client, "GET", f"{address}/E") == made
    assert await ask(client, "DELETE", f"{address}/B", 204) is None
    await ask(client, "GET", f"{address}/B", 404)
    await ask(client, "DELETE", f"{address}/B", 404)
    assert "letters" in await ask(client, "PUT", f"{address}/1X", 400, json={"value": "4"})
    assert "list" in await ask(client, "PUT", address, 400, json={"A": "1"})


async def test_values_are_shown_to_no_token_that_may_not_see_them_and_survive_it(
    client: httpx2.AsyncClient, home: Home
) -> None:
    service = await create(client, home)
    secret = {"S": VariableChange("hidden", secret=True), "P": VariableChange("plain")}
    await replace_variables(home.context, service["id"], secret)
    address = f"/services/{service['id']}/env-vars"
    assert [each["envVar"]["value"] for each in await ask(client, "GET", address)] == ["plain", "hidden"]
    tokens = Tokens(home.context)
    admin = await tokens.authenticate(home.admin_token)
    _, plain = await tokens.create(admin, "ci", admin=False)
    client.headers["Authorization"] = f"Bearer {plain}"
    seen = [each["envVar"] for each in await ask(client, "GET", address)]
    assert seen == [{"key": "P", "value": ""}, {"key": "S", "value": ""}]
    await ask(client, "PUT", address, json=seen)  # what was read is written back
    client.headers["Authorization"] = f"Bearer {home.admin_token}"
    assert [each["envVar"]["value"] for each in await ask(client, "GET", address)] == ["plain", "hidden"]


async def test_the_variables_of_an_environment_are_a_group(client: httpx2.AsyncClient, home: Home) -> None:
    service = await create(client, home)
    (group,) = await ask(client, "GET", "/env-groups")
    assert wrong(group, GROUP_IN_LIST) == []
    assert [(link["id"], link["type"]) for link in group["serviceLinks"]] == [(service["id"], "worker")]
    address = f"/env-groups/{group['id']}"
    shown = await ask(client, "PUT", f"{address}/env-vars/A", json={"value": "1"})
    assert (shown["envVars"], wrong(shown, GROUP)) == ([{"key": "A", "value": "1"}], [])
    assert await ask(client, "GET", address) == shown
    assert await ask(client, "GET", f"{address}/env-vars/A") == {"key": "A", "value": "1"}
    native = await client.get(f"/api/v1/environments/{group['environmentId']}/variables?reveal=true")
    assert native.json() == {"A": {"value": "1", "secret": False}}
    assert await ask(client, "DELETE", f"{address}/env-vars/A", 204) is None
    assert await ask(client, "POST", f"{address}/services/{service['id']}") == shown | {"envVars": []}
    assert await ask(client, "GET", f"/env-groups?cursor={group['id']}") == []
    assert await ask(client, "GET", "/env-groups?name=worker-production") == [group]
    for method, path in (("POST", "/env-groups"), ("PATCH", address), ("DELETE", address)):
        assert "its only group" in await ask(client, method, path, 400, json={})
    await ask(client, "GET", f"/env-groups/evg-{'0' * 20}", 404)
    await ask(client, "GET", "/env-groups/nothing", 404)


async def test_owners_users_projects_and_environments_are_as_their_tables_say(
    client: httpx2.AsyncClient, home: Home
) -> None:
    service = await create(client, home)
    (owner,) = await ask(client, "GET", "/owners")
    assert wrong(owner, listed("owner", OWNER)) == []
    assert await ask(client, "GET", f"/owners?cursor={owner['cursor']}") == []
    assert await ask(client, "GET", f"/owners/{owner['owner']['id']}") == owner["owner"]
    assert await ask(client, "GET", f"/owners/{owner['owner']['id']}/members") == []
    await ask(client, "GET", "/owners/tea-other", 404)
    assert wrong(await ask(client, "GET", "/users"), USER) == []
    (project,) = await ask(client, "GET", "/projects")
    assert wrong(project, listed("project", PROJECT)) == []
    project_id = project["project"]["id"]
    assert await ask(client, "GET", f"/projects/{project_id}") == project["project"]
    assert await ask(client, "GET", f"/projects?cursor={project['cursor']}") == []
    (environment,) = await ask(client, "GET", f"/environments?projectId={project_id}")
    assert wrong(environment, listed("environment", ENVIRONMENT)) == []
    assert environment["environment"]["serviceIds"] == [service["id"]]
    assert environment["environment"]["id"] == service["environmentId"]
    assert await ask(client, "GET", f"/environments/{service['environmentId']}") == environment["environment"]
    assert "projectId" in await ask(client, "GET", "/environments", 400)
    assert "first service" in await ask(client, "POST", "/projects", 400, json={"name": "x"})
    assert await ask(client, "GET", "/postgres") == await ask(client, "GET", "/key-value?limit=100") == []
    assert "does not host" in await ask(client, "POST", f"/services/{service['id']}/restart", 400)
    one = await create(client, home, name="api", environmentId=service["environmentId"])
    assert one["environmentId"] == service["environmentId"]


async def test_a_cron_job_is_run_now_and_what_was_going_is_canceled(client: httpx2.AsyncClient, home: Home) -> None:
    details = {"schedule": "0 3 * * *", "envSpecificDetails": {"dockerCommand": "nightly"}}
    service = await create(client, home, "cron_job", serviceDetails=details)
    address = f"/cron-jobs/{service['id']}/runs"
    first, second = [await ask(client, "POST", address) for _ in range(2)]
    assert wrong(first, CRON_RUN) == wrong(second, CRON_RUN) == []
    assert (second["status"], second["triggeredBy"]) == ("pending", "admin")
    made = await ask(client, "GET", f"/services/{service['id']}/jobs")
    assert [(each["job"]["status"], each["job"]["startCommand"]) for each in made] == [
        ("pending", "nightly"),
        ("canceled", "nightly"),
    ]
    assert all(wrong(each["job"], JOB) == [] for each in made)
    third = await ask(client, "POST", address, headers={"Idempotency-Key": "k"})
    again = await ask(client, "POST", address, headers={"Idempotency-Key": "k"})
    assert (again["id"], again["status"]) == (third["id"], "pending") != (second["id"], "pending")
    assert await ask(client, "DELETE", address, 204) is None
    assert (await ask(client, "GET", f"/services/{service['id']}/jobs"))[0]["job"]["status"] == "canceled"
    worker = await create(client, home, name="other")
    assert "background_worker" in await ask(client, "POST", f"/cron-jobs/{worker['id']}/runs", 404)
    bare = (await client.post("/api/v1/services", json={"path": "a/b/c", "type": "cron_job", "image": IMAGE})).json()
    refused = await ask(client, "POST", f"/cron-jobs/{bare['id']}/runs", 400)
    assert "`oneoff job create a/b/c:cron -- COMMAND`" in refused


async def test_all_that_is_going_of_a_cron_job_is_canceled_however_many(client: httpx2.AsyncClient, home: Home) -> None:
    details = {"schedule": "0 3 * * *", "envSpecificDetails": {"dockerCommand": "nightly"}}
    service = await create(client, home, "cron_job", serviceDetails=details)
    [job] = await jobs.list_jobs(home.context, JobFilter(service["id"]), 2, None)
    for _ in range(101):
        await jobs.run_job(home.context, job.id, NO_OVERRIDES, Origin("tester", Trigger.API))
    await ask(client, "DELETE", f"/cron-jobs/{service['id']}/runs", 204)
    for status, count in ((RunStatus.QUEUED, 0), (RunStatus.CANCELED, 101)):
        assert len(await runs.list_runs(home.context, RunFilter(job_id=job.id, status=[status]), 200, None)) == count


async def test_a_cron_job_without_a_command_has_that_of_its_image(client: httpx2.AsyncClient, home: Home) -> None:
    home.engine.add_image("shop/nightly:1", DIGEST, ImageConfig(command=("run", "it all")))
    image = {"ownerId": home.context.workspace_id, "imagePath": "shop/nightly:1"}
    service = await create(client, home, "cron_job", image=image, serviceDetails={"schedule": "0 3 * * *"})
    assert service["imagePath"] == "docker.io/shop/nightly:1"
    assert service["serviceDetails"]["envSpecificDetails"]["dockerCommand"] == "run 'it all'"
