"""What holds on every address of both faces: the token, the shape of errors, the headers, the page that lists them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx2
import pytest
from starlette.routing import Route, WebSocketRoute

from oneoff import errors
from oneoff.api.reference import walk_errors
from oneoff.entrance.faces import Faces
from oneoff.operations.tokens import Tokens
from oneoff.render_api.app import DOCUMENT, TODAY, routes_of
from oneoff.render_api.problems import STATUSES
from oneoff.server import create_faces
from tests.operations.home import Home
from tests.render_api.fields import ERROR, wrong

pytestmark = pytest.mark.anyio
PAGE = Path(__file__).parents[2] / "docs" / "render-api.md"
HEADERS = {
    *("render-request-id", "vary", "x-content-type-options", "x-frame-options", "referrer-policy"),
    "x-xss-protection",
    *("ratelimit-limit", "ratelimit-remaining", "ratelimit-reset"),
}


def calls(prefix: str) -> Iterator[tuple[str, str]]:
    for route in routes_of(prefix):
        if isinstance(route, WebSocketRoute):
            yield "GET", route.path
        assert isinstance(route, Route | WebSocketRoute)
        if isinstance(route, Route):
            yield from ((method, route.path) for method in sorted(route.methods or ()) if method != "HEAD")


ALL = [(method, prefix + path) for prefix in (DOCUMENT, TODAY) for method, path in calls(prefix)]
PLAIN = sorted({path for _, path in ALL if not path.endswith("/subscribe")})


def check_error(response: httpx2.Response, status: int) -> None:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json; charset=utf-8"
    assert response.content.endswith(b"}\n")
    assert wrong(response.json(), ERROR) == []
    assert response.headers.keys() >= HEADERS


def address(path: str) -> str:
    return path.replace("{", "").replace("}", "")


async def test_every_address_takes_a_token(client: httpx2.AsyncClient) -> None:
    client.headers.pop("Authorization", None)
    for method, path in [*ALL, ("GET", "/v1"), ("GET", "/render/v1/nothing")]:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic dTpw"}):
            response = await client.request(method, address(path), headers=headers)
            check_error(response, 401)
            assert response.headers["www-authenticate"] == "Bearer"


async def test_methods_and_addresses_that_are_not_there_are_told(client: httpx2.AsyncClient) -> None:
    for path in PLAIN:
        response = await client.request("TRACE", address(path))
        check_error(response, 405)
        methods = {method for method, each in ALL if each == path}
        assert set(response.headers["allow"].split(", ")) - {"HEAD"} == methods
    for path in ("/v1", "/v1/", "/v1/services", "/render/v1", "/render/v1/nothing"):
        if path not in PLAIN:
            check_error(await client.get(path), 404)


async def test_a_token_is_held_to_its_plan_and_told_what_is_left(home: Home) -> None:
    tokens = Tokens(home.context)
    _, plain = await tokens.create(await tokens.authenticate(home.admin_token), "ci", admin=False)
    most = 3
    plans = {name: replace(plan, requests_per_minute=most) for name, plan in home.context.plans.items()}
    transport = httpx2.ASGITransport(app=create_faces(replace(home.context, plans=plans)))
    headers = {"Authorization": f"Bearer {plain}"}
    async with httpx2.AsyncClient(transport=transport, base_url="http://test", headers=headers) as client:
        for number in range(most):  # on all faces together
            response = await client.get(f"{TODAY if number % 2 else DOCUMENT}/services/srv-{'0' * 20}/jobs")
            check_error(response, 404)
            told = [int(response.headers[f"ratelimit-{name}"]) for name in ("limit", "remaining")]
            assert told == [most, most - number - 1]
            assert 1 <= int(response.headers["ratelimit-reset"]) <= 60
        refused = await client.get("/render/v1/services")
    check_error(refused, 429)
    assert refused.headers["ratelimit-remaining"] == "0"
    assert len(refused.headers.get_list("retry-after")) == 1


async def test_a_body_beyond_the_limit_is_refused_with_and_without_a_length(client: httpx2.AsyncClient) -> None:
    async def pieces() -> Iterator[bytes]:  # type: ignore[misc]
        for _ in range(5):
            yield b"x" * (1 << 20)

    for content in (b"x" * (5 << 20), pieces()):
        check_error(await client.post(f"/v1/services/srv-{'0' * 20}/jobs", content=content), 413)


async def test_a_bug_is_told_with_the_id_of_the_request_and_without_its_words(
    client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a secret detail")

    monkeypatch.setattr("oneoff.operations.runs.get_run", broken)
    response = await client.get(f"/v1/services/srv-{'0' * 20}/jobs/job-{'0' * 20}")
    check_error(response, 500)
    assert response.json()["id"] == response.headers["render-request-id"] == response.headers["oneoff-request-id"]
    assert "secret" not in response.text


def test_every_error_has_a_status() -> None:
    leaves = [leaf for leaf in walk_errors() if leaf.__module__ == errors.__name__]
    assert [leaf for leaf in leaves if not any(each in STATUSES for each in leaf.__mro__)] == []


def test_the_page_lists_every_call_and_no_other() -> None:
    told = {
        (prefix, method, re.sub(r"\{\w+\}", "{}", path))
        for prefix, part in sections(PAGE.read_text())
        for method, path in re.findall(r"^\| (GET|POST|PUT|PATCH|DELETE) (/\S*) \|", part, re.MULTILINE)
    }
    there = {
        (prefix, method, re.sub(r"\{\w+\}", "{}", path))
        for prefix in (DOCUMENT, TODAY)
        for method, path in calls(prefix)
    }
    assert told == there


def sections(page: str) -> list[tuple[str, str]]:
    """Of the page, those that list calls, with their face."""
    faces = {"/v1\n": "/v1", "/render/v1\n": "/render/v1", "What is not here\n": "/render/v1"}
    parts = re.split(r"^## ", page, flags=re.MULTILINE)
    return [(face, part) for part in parts for head, face in faces.items() if part.startswith(head)]


def test_a_face_is_made_when_it_is_first_asked_for(faces: Faces) -> None:
    assert not faces._made
