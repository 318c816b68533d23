"""Writes docs/api.md and docs/errors.md from the code: `python -m oneoff.api.reference [FOLDER]`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from oneoff import errors
from oneoff.api.app import create_app
from oneoff.api.listing import Operation, list_operations, type_of
from oneoff.api.problems import PLAIN, STATUSES
from oneoff.entrance.refusals import status_of
from oneoff.operations.context import Context

_MADE = "<!-- Made by `python -m oneoff.api.reference`; edit the code instead. -->"


def describe_api() -> dict[str, Any]:
    """The description of an app that is never called."""
    return create_app(cast(Context, _Nothing())).openapi()


def render_api(described: dict[str, Any]) -> str:
    parts = ["# HTTP API", _MADE, described["info"]["description"]]
    parts.append(
        "Every address below `/api/v1` but `openapi.json` takes `Authorization: Bearer TOKEN`. "
        "The codes of errors are in [errors.md](errors.md)."
    )
    parts += [_render_operation(each) for each in list_operations(described)]
    parts.append("## Shapes")
    parts += [_render_shape(name, shape) for name, shape in sorted(described["components"]["schemas"].items())]
    return "\n\n".join(parts) + "\n"


def render_errors() -> str:
    rows = sorted({(each.code, status_of(_blank(each), STATUSES), each.temporary) for each in walk_errors()})
    told = {code for code, _, _ in rows}
    rows += [(code, status, False) for status, (code, _) in PLAIN.items() if code not in told]
    lines = [f"| `{code}` | {status} | {'yes' if temporary else ''} |" for code, status, temporary in sorted(rows)]
    about = (
        "An error is `application/problem+json` (RFC 9457) with `type`, `title`, `status`, `detail` and a stable "
        "`code`; `field` names the field that is wrong. `detail` says what to do next. A temporary one comes with "
        "`Retry-After`: the same request may succeed later."
    )
    table = "\n".join(["| code | status | temporary |", "|---|---|---|", *lines])
    return "\n\n".join(["# Errors", _MADE, about, table]) + "\n"


def walk_errors(root: type[errors.OneoffError] = errors.OneoffError) -> Iterator[type[errors.OneoffError]]:
    """The leaves, and whatever else has a code of its own; not what a module keeps to itself."""
    for each in root.__subclasses__():
        if each.__name__.startswith("_"):
            continue
        below = list(walk_errors(each))
        yield from below
        if not below or each is errors.StartFailed:
            yield each


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "docs")
    (folder / "api.md").write_text(render_api(describe_api()))
    (folder / "errors.md").write_text(render_errors())


class _Nothing:
    """Stands for the context: an app asks nothing of it until it is called."""

    clock = None


def _blank(kind: type[errors.OneoffError]) -> errors.OneoffError:
    return kind.__new__(kind)


def _render_operation(operation: Operation) -> str:
    lines = [f"## {operation.method} {operation.path}", "", operation.text]
    if operation.parameters:
        lines += ["", "| parameter | in | type | |", "|---|---|---|---|"]
        lines += [f"| `{p.name}` | {p.place} | {p.type} | {p.text} |" for p in operation.parameters]
    if operation.body:
        lines += ["", f"Body: {operation.body}."]
    lines += ["", f"Answer: {operation.answer}."]
    return "\n".join(lines)


def _render_shape(name: str, shape: dict[str, Any]) -> str:
    text = shape.get("description", "")
    lines = [f"### {name}"] + (["", text] if text else [])
    if "enum" in shape:
        return "\n".join([*lines, "", ", ".join(f"`{value}`" for value in shape["enum"])])
    lines += ["", "| field | type | |", "|---|---|---|"]
    for field, value in shape.get("properties", {}).items():
        lines.append(f"| `{field}` | {type_of(value)} | {value.get('description', '')} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
