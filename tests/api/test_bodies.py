"""What holds for the bodies of all requests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import ValidationError

import oneoff.api.app  # noqa: F401 - imports all bodies
from oneoff.api.bodies import Body, CreateRun, RetriesBody


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
