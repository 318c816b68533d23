"""What holds on every address: the token, the shape of errors, the description."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute

from oneoff import errors
from oneoff.api.page import render_page
from oneoff.api.problems import STATUSES
from oneoff.api.reference import describe_api, render_api, render_errors, walk_errors

pytestmark = pytest.mark.anyio
DESCRIBED = describe_api()
PUBLIC = {"/healthz", "/readyz", "/metrics", "/docs", "/api/v1/openapi.json"}
DOCS = Path(__file__).parents[2] / "docs"
JSON = {"Content-Type": "application/json"}


def operations() -> Iterator[tuple[str, str]]:
    for path, item in DESCRIBED["paths"].items():
        for method in item:
            yield method.upper(), path


CLOSED = [(method, path) for method, path in operations() if path not in PUBLIC]
OF_ONE_THING = [(method, path) for method, path in CLOSED if "{" in path and not path.endswith("/{name}")]


def test_every_request_that_creates_takes_an_idempotency_key() -> None:
    creating = [each for item in DESCRIBED["paths"].values() for each in item.values() if "201" in each["responses"]]
    assert len(creating) > 10
    without = [
        each["operationId"]
        for each in creating
        if "idempotency-key" not in {parameter["name"] for parameter in each.get("parameters", [])}
    ]
    assert not without


def test_every_handler_that_creates_looks_at_the_key(app: FastAPI) -> None:
    """The description promises it for all of them."""
    creating = [route for route in app.routes if isinstance(route, APIRoute) and route.status_code == 201]
    assert len(creating) > 10
    blind = [route.name for route in creating if "idempotency_of" not in route.endpoint.__code__.co_names]
    assert not blind


def check_problem(response: httpx2.Response, status: int, code: str) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = response.json()
    assert {"type", "title", "status", "detail", "code"} <= problem.keys()
    assert (problem["status"], problem["code"]) == (status, code)
    return problem


def address(path: str) -> str:
    return "http://test" + path.replace("{", "").replace("}", "")


def body_for(method: str, path: str) -> dict[str, Any]:
    """One that is right in form, so that what is asked about is looked for."""
    if path.endswith("/runs"):
        return {"json": {} if "/jobs/" in path else {"shell": "true"}}
    if path.endswith("/batches"):
        return {"json": {"items": ["a"]} | ({} if "/jobs/" in path else {"shell": "true"})}
    if path.endswith("/deploys"):
        return {"json": {"image": "shop/web:42"}}
    if path.endswith("/rotate"):
        return {"json": {}}
    if path.endswith("/extend"):
        return {"json": {"more_seconds": 60}}
    return {"json": {}} if method in {"PUT", "PATCH"} else {}


@pytest.mark.parametrize(("method", "path"), CLOSED)
async def test_every_address_takes_a_token(client: httpx2.AsyncClient, method: str, path: str) -> None:
    for headers in (
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Basic dTpw"},
        {"Authorization": "Bearer"},
    ):
        client.headers.pop("Authorization", None)
        response = await client.request(method, address(path), headers=headers)
        check_problem(response, 401, "not_authenticated")
        assert response.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(("method", "path"), OF_ONE_THING)
async def test_what_does_not_exist_is_told_as_a_problem(client: httpx2.AsyncClient, method: str, path: str) -> None:
    check_problem(await client.request(method, address(path), **body_for(method, path)), 404, "not_found")


@pytest.mark.parametrize(
    ("method", "path"), [(m, p) for m, p in CLOSED if "requestBody" in DESCRIBED["paths"][p][m.lower()]]
)
async def test_bodies_that_are_no_json_are_told_as_a_problem(
    client: httpx2.AsyncClient, method: str, path: str
) -> None:
    for content in (b"{", b"\xff\xfe{}", b'"\xc3', b"[" * 100_000, b"1" * 100_000):
        response = await client.request(method, address(path), content=content, headers=JSON)
        check_problem(response, 400, "invalid_body")
    is_needed = DESCRIBED["paths"][path][method.lower()]["requestBody"].get("required", False)
    for content in (b"[]", b"7", b"null", *([b""] if is_needed else ())):
        response = await client.request(method, address(path), content=content, headers=JSON)
        check_problem(response, 422, "invalid_body")


@pytest.mark.parametrize("path", [p for m, p in CLOSED if m == "POST"])
async def test_a_body_all_of_whose_fields_are_optional_may_be_absent(client: httpx2.AsyncClient, path: str) -> None:
    if (described := DESCRIBED["paths"][path]["post"].get("requestBody")) is None:
        return
    name = described["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
    is_needed = "required" in DESCRIBED["components"]["schemas"][name] or name == "CreateRun"  # which needs a command
    assert described.get("required", False) is is_needed
    for content, headers in ((None, {}), (b"", JSON)) if not is_needed else ():
        check_problem(await client.post(address(path), content=content, headers=headers), 404, "not_found")


@pytest.mark.parametrize("path", sorted(DESCRIBED["paths"]))
async def test_a_method_an_address_does_not_take_is_told_with_those_it_takes(
    client: httpx2.AsyncClient, path: str
) -> None:
    response = await client.request("TRACE", address(path))
    check_problem(response, 405, "method_not_allowed")
    assert response.headers["allow"]


async def test_unknown_addresses_are_told_as_a_problem(client: httpx2.AsyncClient) -> None:
    check_problem(await client.get("/nothing"), 404, "not_found")
    check_problem(await client.get("http://test/nothing"), 404, "not_found")
    del client.headers["Authorization"]
    check_problem(await client.get("/nothing"), 401, "not_authenticated")


async def test_a_body_beyond_the_limit_is_refused_with_and_without_a_length(client: httpx2.AsyncClient) -> None:
    async def pieces() -> Any:
        for _ in range(5):
            yield b"x" * (1 << 20)

    headers = {"Content-Type": "application/json"}
    large = await client.post("/services", content=b"x" * (5 << 20), headers=headers)
    check_problem(large, 413, "body_too_large")
    check_problem(await client.post("/services", content=pieces(), headers=headers), 413, "body_too_large")


async def test_a_bug_is_told_as_a_problem_without_its_words(
    client: httpx2.AsyncClient, app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a secret detail")

    monkeypatch.setattr("oneoff.operations.services.list_services", broken)
    problem = check_problem(await client.get("/services"), 500, "internal_error")
    assert "secret" not in str(problem)


async def test_the_page_and_the_description_need_no_token_and_nothing_from_elsewhere(
    client: httpx2.AsyncClient,
) -> None:
    del client.headers["Authorization"]
    page = await client.get("http://test/docs")
    assert page.status_code == 200
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "://" not in page.text
    assert "<script" not in page.text
    described = (await client.get("/openapi.json")).json()
    assert described["openapi"].startswith("3.1")
    assert described == DESCRIBED


def test_every_error_has_a_status() -> None:
    for leaf in walk_errors():
        assert any(each in STATUSES for each in leaf.__mro__), leaf
        assert leaf.code != errors.OneoffError.code, leaf


def test_each_route_is_made_once(app: FastAPI) -> None:
    """And not again with the prefix of a router that is included."""
    assert {type(route) for route in app.routes} == {APIRoute}


def test_every_operation_says_what_it_does() -> None:
    for path, item in DESCRIBED["paths"].items():
        for method, operation in item.items():
            assert operation.get("description"), (method, path)


def test_the_page_shows_every_address() -> None:
    page = render_page(DESCRIBED)
    assert all(path in page for path in DESCRIBED["paths"])


def test_the_page_links_every_shape_and_shows_code_as_code() -> None:
    page = render_page(DESCRIBED)
    assert "`" not in page
    linked = set(re.findall(r'href="#([\w-]+)"', page))
    assert linked <= set(re.findall(r' id="([^"]+)"', page))
    assert {"CreateRun", "RunShape", "Page_RunShape_", "RunStatus"} <= linked


def test_the_reference_pages_are_as_the_code_says() -> None:
    hint = "run `python -m oneoff.api.reference`"
    assert (DOCS / "api.md").read_text() == render_api(DESCRIBED), hint
    assert (DOCS / "errors.md").read_text() == render_errors(), hint
