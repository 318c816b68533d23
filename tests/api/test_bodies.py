"""What holds for the bodies of all requests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from pydantic import ValidationError

import oneoff.api.app  # noqa: F401 - imports all bodies
from oneoff.api.bodies import Body, CreateRun, RetriesBody
from tests.api.test_everywhere import check_problem

pytestmark = pytest.mark.anyio


def bodies(root: type[Body] = Body) -> Iterator[type[Body]]:
    for each in root.__subclasses__():
        yield each
        yield from bodies(each)


def around(schema: dict[str, Any], value: object) -> object:
    """`value` where this field has an integer; None when it has none."""
    for each in (schema, *schema.get("anyOf", ())):
        if each.get("type") == "integer":
            return value
        if each.get("items", {}).get("type") == "integer":
            return [value]
        if isinstance(inner := each.get("additionalProperties"), dict) and inner.get("type") == "integer":
            return {"name": value}
    return None


INTEGERS = [
    (body, name, schema)
    for body in dict.fromkeys(bodies())
    for name, schema in body.model_json_schema()["properties"].items()
    if around(schema, 1)
]


@pytest.mark.parametrize("value", [True, "60"])
@pytest.mark.parametrize(("body", "name", "schema"), INTEGERS)
def test_only_a_number_is_one(body: type[Body], name: str, schema: dict[str, Any], value: object) -> None:
    with pytest.raises(ValidationError) as raised:
        body.model_validate({name: around(schema, value)})
    assert "int_type" in {each["type"] for each in raised.value.errors() if each["loc"][0] == name}


def test_a_whole_number_may_be_written_with_a_point() -> None:
    assert len(INTEGERS) > 20
    assert CreateRun.model_validate({"timeout_seconds": 60.0}).timeout_seconds == 60
    assert RetriesBody.model_validate({"count": 1, "exit_codes": [75]}).exit_codes == [75]


@pytest.mark.parametrize(
    ("path", "body", "told"),
    [
        ("runs", {"timeout_seconds": 0}, "timeout_seconds: it must be at least 1"),
        ("runs", {"timeout_seconds": 10**10}, "timeout_seconds: it must be at most 1000000000"),
        ("runs", {"timeout_seconds": True}, "timeout_seconds: write a whole number, for example 60"),
        ("runs", {"timeout_seconds": 1.5}, "timeout_seconds: write a whole number, for example 60"),
        ("runs", {"timeout": 1}, "timeout: there is no such field"),
        ("runs", {"command": "true"}, "command: write a list"),
        ("runs", {"command": [1]}, "command.0: write a text"),
        ("runs", {"variables": []}, "variables: write an object"),
        ("runs", {"retries": 3}, "retries: write an object"),
        ("runs", {"retries": {"count": 1, "back_off": "no"}}, "retries.back_off: it must be 'fixed' or 'exponential'"),
        ("runs", [], "write an object"),
        ("runs", None, "the body is missing: send an object of JSON"),
        ("deploys", {}, "image: it is missing"),
        ("deploys", {"image": ""}, "image: it is empty"),
        ("deploys", {"image": "a" * 2_001}, "image: it may have at most 2000 characters"),
        (
            "deploys",
            {"image": "a", "registry": {"username": "a\n", "password": "b"}},
            "registry.username: it has a character that is not allowed there",
        ),
    ],
)
async def test_what_is_wrong_in_form_is_told_in_our_words(
    client: httpx2.AsyncClient, path: str, body: object, told: str
) -> None:
    response = await client.post(f"/services/srv-{'0' * 20}/{path}", **({} if body is None else {"json": body}))
    assert check_problem(response, 422, "invalid_body")["detail"] == told


async def test_what_is_wrong_with_an_option_is_told_in_our_words(client: httpx2.AsyncClient) -> None:
    told = {"limit=x": "limit: write a whole number, for example 60", "limit=0": "limit: it must be at least 1"}
    for query, words in told.items():
        assert check_problem(await client.get(f"/runs?{query}"), 422, "invalid_body")["detail"] == words
