"""Takes an OpenAPI description apart into what is shown of it. Used by `page` and `reference`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Parameter:
    name: str
    place: str
    type: str
    text: str


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one address; `body` and `answer` in words."""

    method: str
    path: str
    text: str
    parameters: tuple[Parameter, ...]
    body: str
    answer: str


def list_operations(described: dict[str, Any]) -> Iterator[Operation]:
    """In the order of the description."""
    for path, item in described["paths"].items():
        for method, operation in item.items():
            yield Operation(
                method.upper(),
                path,
                " ".join(operation.get("description", "").split()),
                tuple(_to_parameter(each) for each in operation.get("parameters", ())),
                _body(operation.get("requestBody", {})),
                ", ".join(_answers(operation)),
            )


def type_of(schema: dict[str, Any]) -> str:
    """In a few words: `text or null`, `list of RunShape`."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(type_of(each) for each in schema["anyOf"]))
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    kind = schema.get("type", "anything")
    if kind == "array":
        return f"list of {type_of(schema.get('items', {}))}"
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"object of {type_of(schema['additionalProperties'])}"
    if kind == "string":
        return "time" if schema.get("format") == "date-time" else "text"
    return str(kind)


def _to_parameter(parameter: dict[str, Any]) -> Parameter:
    schema = parameter.get("schema", {})
    text = parameter.get("description", "")
    if (default := schema.get("default")) not in (None, [], ""):
        text = f"{text} Default {default}.".strip()
    return Parameter(parameter["name"], parameter["in"], type_of(schema), text)


def _body(carrier: dict[str, Any]) -> str:
    contents = _contents(carrier)
    return contents if not contents or carrier.get("required") else f"{contents} or none"


def _contents(carrier: dict[str, Any]) -> str:
    kinds = []
    for media, content in carrier.get("content", {}).items():
        kind = type_of(content.get("schema", {}))
        kinds.append(kind if media == "application/json" else f"`{media}`")
    return " or ".join(kinds)


def _answers(operation: dict[str, Any]) -> Iterator[str]:
    for status, response in operation["responses"].items():
        if not status.startswith("2"):
            continue
        contents = _contents(response)
        yield f"{status} with {contents}" if contents else status
