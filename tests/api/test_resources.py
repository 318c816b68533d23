"""Services, variables, deploys, runs and tokens over HTTP."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx2
import pytest

from oneoff.api.shapes import DeployGateShape, DeployShape, RunShape, ServiceShape
from oneoff.core.image import ImageConfig
from oneoff.errors import EngineUnavailable
from tests.api.test_everywhere import check_problem
from tests.operations.home import DIGEST, IMAGE, NEXT_DIGEST, NEXT_IMAGE, Home

pytestmark = pytest.mark.anyio
Client = httpx2.AsyncClient


async def made(client: Client, **more: Any) -> dict[str, Any]:
    response = await client.post("/services", json={"path": "shop/production", "image": IMAGE, **more})
    assert response.status_code == 201, response.text
    service: dict[str, Any] = response.json()
    return service


async def test_a_service_is_made_with_its_first_deploy_project_and_environment(client: Client) -> None:
    service = await made(client)
    assert list(service) == list(ServiceShape.model_fields)
    assert (service["path"], service["digest"], service["entrypoint"]) == ("shop/production/web", DIGEST, "keep")
    assert [p["name"] for p in (await client.get("/projects")).json()["items"]] == ["shop"]
    assert [e["path"] for e in (await client.get("/environments")).json()["items"]] == ["shop/production"]
    found = (await client.get("/services", params={"path": "shop/production"})).json()
    assert found == {"items": [service], "next_cursor": None}
    assert (await client.get("/services", params={"path": "shop/staging"})).json()["items"] == []


async def test_nothing_is_made_when_the_first_image_cannot_be_had(client: Client) -> None:
    response = await client.post("/services", json={"path": "shop/production", "image": "registry.example.com/no:1"})
    check_problem(response, 422, "image_unavailable")
    assert (await client.get("/services")).json()["items"] == []
    assert (await client.get("/projects")).json()["items"] == []


@pytest.mark.parametrize(
    ("body", "code", "field"),
    [
        ({"path": "Shop/production"}, "invalid_name", "path"),
        ({"path": "shop"}, "invalid_path", "path"),
        ({"path": "a/b/c/d"}, "invalid_path", "path"),
        ({"path": "shop/\u0000"}, "invalid_name", "path"),
        ({"path": "shop/production", "image": "NOT AN IMAGE"}, "invalid_image", "image"),
        ({"path": "shop/production", "type": "website"}, "invalid_body", "type"),
        ({"path": "shop/production", "instance_type": "plan-crn-003"}, "unknown_instance_type", "instance_type"),
        ({"path": "shop/production", "capabilities": ["SYS_ADMIN"]}, "capability_not_allowed", "capabilities"),
        ({"path": "shop/production", "networks": ["host", "other"]}, "invalid_body", "networks"),
        ({"path": "shop/production", "networks": ["a b"]}, "invalid_body", "networks"),
        ({"path": "shop/production", "entrypoint": "/bin/sh"}, "invalid_command", "entrypoint"),
        ({"path": "shop/production", "user": "a b"}, "invalid_body", "user"),
        ({"path": "shop/production", "sandbox": "runsc"}, "invalid_body", "sandbox"),
        ({"path": "shop/production", "pth": 1}, "invalid_body", "pth"),
        ({}, "invalid_body", "path"),
    ],
)
async def test_a_service_that_breaks_a_rule_is_refused_naming_the_field(
    client: Client, body: dict[str, Any], code: str, field: str
) -> None:
    problem = check_problem(await client.post("/services", json=body), 422, code)
    assert problem["field"] == field


async def test_a_network_that_the_engine_does_not_have_is_refused_while_it_can_tell(client: Client, home: Home) -> None:
    home.engine.networks = {"shop_default"}
    body = {"path": "shop/production", "networks": ["shop_defalut"]}
    problem = check_problem(await client.post("/services", json=body), 422, "invalid_body")
    assert problem["field"] == "networks"
    assert "there is no network 'shop_defalut'" in problem["detail"]
    assert "There are: host, none, shop_default" in problem["detail"]
    assert (await client.get("/services")).json()["items"] == []
    service = await made(client, networks=["shop_default"])
    url = f"/services/{service['id']}"
    check_problem(await client.patch(url, json={"networks": ["other"]}), 422, "invalid_body")
    home.engine.networks = set()  # those it has already may be away for a moment
    assert (await client.patch(url, json={"networks": ["shop_default"]})).status_code == 200
    problem = check_problem(await client.patch(url, json={"networks": ["shop_default", "other"]}), 422, "invalid_body")
    assert "there is no network 'other'" in problem["detail"]
    home.engine.is_away = True
    assert (await client.patch(url, json={"networks": ["other"]})).json()["networks"] == ["other"]
    assert (await client.post("/services", json={**body, "path": "shop/staging"})).status_code == 201


async def test_what_is_no_id_is_told_with_what_shows_ids(client: Client) -> None:
    problem = check_problem(await client.get("/runs/abc"), 404, "not_found")
    assert "an id is run- and 20 letters or digits here, `oneoff runs list` shows them" in problem["detail"]


async def test_a_path_that_is_taken_is_refused(client: Client) -> None:
    await made(client)
    check_problem(await client.post("/services", json={"path": "shop/production/web"}), 409, "already_exists")


async def test_an_environment_with_several_services_needs_the_whole_path(client: Client) -> None:
    await made(client)
    await made(client, path="shop/production/worker")
    response = await client.get("/services", params={"path": "shop/production"})
    assert "shop/production/worker" in check_problem(response, 409, "ambiguous_path")["detail"]


async def test_settings_change_one_by_one_and_null_sets_the_default(client: Client) -> None:
    service = await made(client, networks=["backend"], capabilities=["cap_setuid", "CHOWN"], user="app")
    url = f"/services/{service['id']}"
    assert service["capabilities"] == ["CHOWN", "SETUID"]
    changed = (await client.patch(url, json={"networks": None, "entrypoint": ["tini", "--"]})).json()
    assert (changed["networks"], changed["entrypoint"], changed["user"]) == ([], ["tini", "--"], "app")
    assert (await client.patch(url, json={})).json() == changed
    assert (await client.post(f"{url}/suspend")).json()["suspended"] is True
    assert (await client.post(f"{url}/resume")).json()["suspended"] is False


async def test_registry_credentials_are_kept_sealed_and_the_password_is_never_shown(client: Client) -> None:
    service = await made(client, registry={"username": "bot", "password": "hunter2-hunter2"})
    assert service["registry_username"] == "bot"
    assert "hunter2" not in str(service)
    cleared = await client.patch(f"/services/{service['id']}", json={"registry": None})
    assert cleared.json()["registry_username"] is None


async def test_deleting_a_service_waits_for_its_runs_and_takes_empty_places_along(client: Client) -> None:
    service = await made(client)
    url = f"/services/{service['id']}"
    run = (await client.post(f"{url}/runs", json={"command": ["true"]})).json()
    check_problem(await client.delete(url), 409, "service_busy")
    await client.post(f"/runs/{run['id']}/cancel")
    assert (await client.delete(url)).status_code == 204
    check_problem(await client.get(url), 404, "not_found")
    assert (await client.get("/projects")).json()["items"] == []
    assert (await client.get(f"/runs/{run['id']}")).json()["service"] == "shop/production/web"


async def test_variables_show_their_values_only_when_an_admin_asks(client: Client) -> None:
    url = f"/services/{(await made(client))['id']}/variables"
    body = {"A": "plain", "B": {"value": "hidden", "secret": True}, "C": "Zeile 1\nZeile=2 \"'ü€"}
    hidden = {n: {"value": None, "secret": n == "B"} for n in "ABC"}
    assert (await client.put(url, json=body)).json() == hidden
    assert (await client.get(url)).json() == hidden
    revealed = (await client.get(url, params={"reveal": "true"})).json()
    assert revealed["B"] == {"value": "hidden", "secret": True}
    assert revealed["C"]["value"] == body["C"]
    await client.patch(url, json={"A": None, "B": "new"})
    revealed = (await client.get(url, params={"reveal": "true"})).json()
    assert revealed == {"B": {"value": "new", "secret": True}, "C": {"value": body["C"], "secret": False}}
    weak = (await client.post("/tokens", json={"name": "ci"})).json()["token"]
    response = await client.get(url, params={"reveal": "true"}, headers={"Authorization": f"Bearer {weak}"})
    check_problem(response, 403, "not_allowed")


@pytest.mark.parametrize(
    "body",
    [
        {"ONEOFF_X": "tell-no-one"},
        {"1A": "tell-no-one"},
        {"A": "tell-no-one\0"},
        {"A": ["tell-no-one"]},
        {"A": {"value": "tell-no-one", "hidden": True}},
        {"A": {"value": {"x": "tell-no-one"}}},
        {"A": "tell-no-one" * 15_000},
        {f"A{n}": "tell-no-one" * 10_000 for n in range(10)},
        {"A": "tell-no-one\ud800"},
    ],
)
async def test_wrong_variables_are_refused_without_telling_their_values(client: Client, body: dict[str, Any]) -> None:
    url, headers = f"/services/{(await made(client))['id']}", {"Content-Type": "application/json"}
    run = json.dumps({"shell": "true", "variables": body})
    for response in (
        await client.put(f"{url}/variables", content=json.dumps(body), headers=headers),
        await client.post(f"{url}/runs", content=run, headers=headers),
    ):
        assert response.status_code == 422, response.text
        assert "tell-no-one" not in response.text


async def test_a_deploy_pins_the_digest_and_the_one_before_is_deactivated(client: Client) -> None:
    service = await made(client)
    url = f"/services/{service['id']}/deploys"
    deploy = (await client.post(url, json={"image": NEXT_IMAGE})).json()
    assert list(deploy) == list(DeployShape.model_fields)
    assert (deploy["status"], deploy["digest"], deploy["message"]) == ("live", NEXT_DIGEST, None)
    assert [each["status"] for each in (await client.get(url)).json()["items"]] == ["live", "deactivated"]
    assert (await client.get(f"/deploys/{deploy['id']}")).json() == deploy
    assert (await client.get(f"/services/{service['id']}")).json()["image"] == NEXT_IMAGE


async def test_an_image_that_cannot_be_had_leaves_the_one_before_live(client: Client) -> None:
    service = await made(client)
    response = await client.post(f"/services/{service['id']}/deploys", json={"image": "registry.example.com/no:1"})
    assert response.status_code == 201
    assert response.json()["status"] == "image_unavailable"
    assert "registry.example.com/no:1" in response.json()["message"]
    assert (await client.get(f"/services/{service['id']}")).json()["digest"] == DIGEST


async def test_an_engine_that_is_away_is_told_as_temporary_and_the_same_key_works_later(
    client: Client, home: Home
) -> None:
    service = await made(client)
    home.engine.fail("prepare", EngineUnavailable("the socket is gone"))
    url, key = f"/services/{service['id']}/deploys", {"Idempotency-Key": "once"}
    response = await client.post(url, json={"image": NEXT_IMAGE}, headers=key)
    check_problem(response, 503, "engine_unavailable")
    assert response.headers["retry-after"]
    assert (await client.post(url, json={"image": NEXT_IMAGE}, headers=key)).json()["status"] == "live"


async def test_deploys_of_one_service_go_one_after_another(client: Client) -> None:
    service = await made(client)
    url = f"/services/{service['id']}/deploys"
    images = [NEXT_IMAGE, IMAGE] * 3
    answers = await asyncio.gather(*(client.post(url, json={"image": image}) for image in images))
    assert {answer.json()["status"] for answer in answers} == {"live"}
    listed = (await client.get(url)).json()["items"]
    assert [each["status"] for each in listed] == ["live"] + ["deactivated"] * 6


async def test_a_deploy_that_is_not_known_is_told_where_to_look(client: Client) -> None:
    for response in (
        await client.get(f"/deploys/dep-{'0' * 20}"),
        await client.post(f"/deploys/dep-{'0' * 20}/cancel"),
    ):
        check_problem(response, 404, "not_found")
        assert "oneoff deploys list" in response.json()["detail"]


async def test_a_gated_deploy_answers_when_its_gates_are_going_and_can_be_canceled(client: Client) -> None:
    service = await made(client)
    gate = {"service": "shop/production", "name": "migrate", "command": ["migrate"], "gate": "before_deploy"}
    job = (await client.post("/jobs", json=gate)).json()
    assert job["gate"] == "before_deploy"
    url = f"/services/{service['id']}/deploys"
    deploy = (await client.post(url, json={"image": NEXT_IMAGE})).json()
    assert (deploy["status"], deploy["digest"]) == ("pre_deploy_in_progress", NEXT_DIGEST)
    (shown,) = deploy["gates"]
    assert list(shown) == list(DeployGateShape.model_fields)
    run = (await client.get(f"/runs/{shown['run_id']}")).json()
    assert (run["trigger"], run["job_id"], run["digest"]) == ("deploy", job["id"], NEXT_DIGEST)
    waiting = (await client.post(url, json={"image": IMAGE})).json()
    assert (waiting["status"], deploy["id"] in waiting["message"]) == ("created", True)
    for each in (deploy, waiting, deploy):
        ended = (await client.post(f"/deploys/{each['id']}/cancel")).json()
        assert (ended["status"], ended["message"]) == ("canceled", "canceled by admin")
    assert (await client.get(f"/runs/{shown['run_id']}")).json()["status"] == "canceled"
    assert (await client.get(f"/services/{service['id']}")).json()["digest"] == DIGEST


async def test_a_deploy_that_is_not_waited_for_is_answered_as_created(client: Client) -> None:
    service = await made(client)
    response = await client.post(f"/services/{service['id']}/deploys?wait=false", json={"image": NEXT_IMAGE})
    assert (response.status_code, response.json()["status"]) == (201, "created")
    next_one = await client.post(f"/services/{service['id']}/deploys", json={"image": IMAGE})
    assert next_one.json()["status"] == "live"
    assert (await client.get(f"/deploys/{response.json()['id']}")).json()["status"] == "deactivated"


async def test_an_entrypoint_that_may_swallow_commands_is_warned_about(client: Client, home: Home) -> None:
    service = await made(client)
    home.engine.add_image("shop/server:1", DIGEST, ImageConfig(entrypoint=("gunicorn",)))
    deploy = (await client.post(f"/services/{service['id']}/deploys", json={"image": "shop/server:1"})).json()
    assert "--entrypoint clear" in deploy["warning"]
    await client.patch(f"/services/{service['id']}", json={"entrypoint": "clear"})
    assert (await client.get(f"/deploys/{deploy['id']}")).json()["warning"] is None


async def test_a_run_has_every_key_of_its_shape(client: Client) -> None:
    service = await made(client)
    response = await client.post(f"/services/{service['id']}/runs", json={"command": ["echo", "ü"]})
    assert response.status_code == 201
    run = response.json()
    assert list(run) == list(RunShape.model_fields)
    assert (run["status"], run["trigger"], run["actor"], run["command"]) == ("queued", "api", "admin", ["echo", "ü"])
    assert run["timeout_seconds"] == 30 * 86_400
    again = (await client.get(f"/runs/{run['id']}")).json()
    assert (again["queue_position"], again["waiting_for"]) == (1, None)


async def test_runs_of_the_cli_are_manual(client: Client) -> None:
    service = await made(client)
    headers = {"Oneoff-Client": "cli"}
    run = (await client.post(f"/services/{service['id']}/runs", json={"shell": "true"}, headers=headers)).json()
    assert run["trigger"] == "manual"


@pytest.mark.parametrize(
    ("body", "code", "field"),
    [
        ({}, "invalid_command", "command"),
        ({"command": ["true"], "shell": "true"}, "invalid_command", "command"),
        ({"command": []}, "invalid_command", "command"),
        ({"command": [""]}, "invalid_command", "command"),
        ({"command": ["a\0b"]}, "invalid_command", "command"),
        ({"command": "true"}, "invalid_body", "command"),
        ({"shell": "  "}, "invalid_command", "shell"),
        ({"shell": "x" * 131_072}, "invalid_command", "shell"),
        ({"shell": "true", "timeout_seconds": 0}, "invalid_body", "timeout_seconds"),
        ({"shell": "true", "timeout_seconds": 30 * 86_400 + 1}, "time_limit_too_long", "timeout_seconds"),
        ({"shell": "true", "instance_type": "huge"}, "unknown_instance_type", "instance_type"),
        ({"shell": "true", "entrypoint": []}, "invalid_command", "entrypoint"),
        ({"shell": "true", "color": "red"}, "invalid_body", "color"),
    ],
)
async def test_a_run_that_breaks_a_rule_is_refused_naming_the_field(
    client: Client, body: dict[str, Any], code: str, field: str
) -> None:
    service = await made(client)
    problem = check_problem(await client.post(f"/services/{service['id']}/runs", json=body), 422, code)
    assert problem["field"] == field


async def test_an_idempotency_key_gives_the_same_run_and_refuses_another_body(client: Client) -> None:
    url = f"/services/{(await made(client))['id']}/runs"
    key = {"Idempotency-Key": "k"}
    first, again = [await client.post(url, json={"shell": "true"}, headers=key) for _ in range(2)]
    assert (again.status_code, again.json()["id"]) == (201, first.json()["id"])
    check_problem(await client.post(url, json={"shell": "false"}, headers=key), 409, "idempotency_key_reused")
    check_problem(await client.post(url, json={"shell": "true"}, headers={"Idempotency-Key": ""}), 422, "invalid_body")


async def test_lists_are_paged_newest_first_without_gaps(client: Client) -> None:
    url = f"/services/{(await made(client))['id']}/runs"
    made_ids = [(await client.post(url, json={"shell": "true"})).json()["id"] for _ in range(5)]
    seen: list[str] = []
    cursor: str | None = None
    while True:
        page = (await client.get("/runs", params={"limit": 2, **({"cursor": cursor} if cursor else {})})).json()
        seen += [each["id"] for each in page["items"]]
        if (cursor := page["next_cursor"]) is None:
            break
    assert seen == sorted(made_ids, reverse=True)


@pytest.mark.parametrize("cursor", ["x", "äöü", "c3J2LTAwMA", "", "%00"])
async def test_a_wrong_cursor_is_refused(client: Client, cursor: str) -> None:
    for url in ("/runs", "/services", "/tokens", "/projects", "/environments"):
        check_problem(await client.get(url, params={"cursor": cursor}), 400, "invalid_cursor")


async def test_runs_are_filtered(client: Client) -> None:
    service = await made(client)
    run = (await client.post(f"/services/{service['id']}/runs", json={"shell": "true"})).json()
    for params, found in (
        ({"service": service["id"]}, 1),
        ({"service": "shop/production"}, 1),
        ({"status": ["running", "queued"]}, 1),
        ({"status": "failed"}, 0),
        ({"trigger": "manual"}, 0),
        ({"batch": "bat-\0"}, 0),
    ):
        assert len((await client.get("/runs", params=params)).json()["items"]) == found, params
    check_problem(await client.get("/runs", params={"service": "no/where"}), 404, "not_found")
    check_problem(await client.get("/runs", params={"status": "asleep"}), 422, "invalid_body")
    assert (await client.post(f"/runs/{run['id']}/cancel")).json()["reason"] == "canceled"


async def test_a_canceled_run_tells_who_asked_for_its_end(client: Client, home: Home) -> None:
    service = await made(client)
    waiting, going, quick = [
        (await client.post(f"/services/{service['id']}/runs", json={"shell": "true"})).json()["id"] for _ in range(3)
    ]
    for run_id in (going, quick):
        await home.start(run_id)
    for run_id in (waiting, going, quick):
        await client.post(f"/runs/{run_id}/cancel")
    await home.finish(quick)
    told = [(await client.get(f"/runs/{run_id}")).json() for run_id in (waiting, going, quick)]
    assert [(run["status"], run["canceled_by"]) for run in told] == [
        ("canceled", "admin"),
        ("running", "admin"),
        ("succeeded", None),
    ]
    ended = (await client.get("/events", params={"kind": "run.ended", "subject": waiting})).json()["items"]
    assert [each["body"]["canceled_by"] for each in ended] == ["admin"]


async def test_an_ended_run_tells_what_it_took_and_cost(client: Client, home: Home) -> None:
    service = await made(client)
    run = (await client.post(f"/services/{service['id']}/runs", json={"shell": "true"})).json()
    assert (run["duration_seconds"], run["cost_usd"]) == (None, None)
    await home.start(run["id"])
    await home.finish(run["id"])
    ended = (await client.get(f"/runs/{run['id']}")).json()
    assert ended["duration_seconds"] >= 0
    assert ended["cost_usd"] == "0.000003"


async def test_a_revoked_token_is_refused_at_once(client: Client) -> None:
    token = (await client.post("/tokens", json={"name": "ci"})).json()
    headers = {"Authorization": f"Bearer {token['token']}"}
    assert (await client.get("/services", headers=headers)).status_code == 200
    check_problem(await client.get("/tokens", headers=headers), 403, "not_allowed")
    assert (await client.delete(f"/tokens/{token['id']}")).status_code == 204
    check_problem(await client.get("/services", headers=headers), 401, "not_authenticated")
    check_problem(await client.delete(f"/tokens/{token['id']}"), 404, "not_found")


async def test_the_last_admin_token_cannot_be_revoked(client: Client) -> None:
    admin = (await client.get("/tokens")).json()["items"][0]
    check_problem(await client.delete(f"/tokens/{admin['id']}"), 409, "last_admin_token")
    await client.post("/tokens", json={"name": "second", "admin": True})
    assert (await client.delete(f"/tokens/{admin['id']}")).status_code == 204


async def test_a_token_is_shown_once_and_not_for_a_repeated_request(client: Client) -> None:
    key = {"Idempotency-Key": "k"}
    first, again = [(await client.post("/tokens", json={"name": "ci"}, headers=key)).json() for _ in range(2)]
    assert first["token"].startswith("oneoff_")
    assert again == {**first, "token": None}
    assert "token" not in (await client.get("/tokens")).json()["items"][0]


async def test_the_catalogue_tells_prices(client: Client) -> None:
    items = (await client.get("/instance-types")).json()["items"]
    assert {(each["id"], each["price"]) for each in items} >= {
        ("plan-srv-006", "$7/month"),
        ("plan-crn-003", "0.016 ¢/minute"),
    }


async def test_readiness_tells_when_the_engine_is_away_and_health_does_not(client: Client, home: Home) -> None:
    assert (await client.get("http://test/readyz")).json() == {"status": "ok"}
    home.engine.is_away = True
    check_problem(await client.get("http://test/readyz"), 503, "driver_unavailable")
    assert (await client.get("http://test/healthz")).status_code == 200
