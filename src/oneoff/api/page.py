"""The API's description as one HTML page that needs nothing from anywhere. Served by `health` at /docs."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from html import escape
from typing import Any

from oneoff.api.listing import Operation, list_operations, type_of

_STYLE = """
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 64rem; margin: 0 auto; padding: 1rem }
code, h2, h3, nav { font-family: ui-monospace, monospace }
h2, h3, nav { overflow-wrap: anywhere }
code, nav { font-size: .9em }
h2, h3 { font-size: 1rem; border-top: 1px solid #8886; padding-top: .75rem }
table { border-collapse: collapse; width: 100% }
td { text-align: left; vertical-align: top; padding: .15rem .75rem .15rem 0 }
td:first-child { white-space: nowrap }
td:last-child { width: 60%; padding-right: 0; overflow-wrap: anywhere }
nav ul { columns: 28rem; list-style: none; padding: 0 }
nav li { break-inside: avoid }
nav a { display: flex; text-decoration: none }
nav a:hover { text-decoration: underline }
b { display: inline-block; flex: none; width: 4.5rem }
@media (max-width: 40rem) { td:last-child { width: auto } }
"""
_CODE = re.compile(r"`([^`]+)`")
_NAME = re.compile(r"\w+")


def render_page(described: dict[str, Any]) -> str:
    info = described["info"]
    operations = list(list_operations(described))
    shapes = described["components"]["schemas"]
    return "".join(
        (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(info['title'])} API</title><style>{_STYLE}</style></head><body>",
            f"<h1>{escape(info['title'])} API {escape(info['version'])}</h1><p>{_prose(info['description'])}</p>",
            '<p>Machine-readable: <a href="/api/v1/openapi.json">/api/v1/openapi.json</a> (OpenAPI 3.1)</p>',
            "<nav><ul>",
            *(f'<li><a href="#{_anchor(each)}">{_heading(each)}</a></li>' for each in operations),
            "</ul></nav><main>",
            *(_render_operation(each, shapes) for each in operations),
            *(_render_shape(name, shapes) for name in sorted(shapes)),
            "</main></body></html>",
        )
    )


def _render_operation(operation: Operation, shapes: Collection[str]) -> str:
    rows = [
        (f"<code>{escape(p.name)}</code>", escape(p.place), _linked(p.type, shapes), _prose(p.text))
        for p in operation.parameters
    ]
    body = f"<p>Body: {_linked(operation.body, shapes)}</p>" if operation.body else ""
    return (
        f'<h2 id="{_anchor(operation)}">{_heading(operation)}</h2><p>{_prose(operation.text)}</p>'
        f"{_table(rows)}{body}<p>Answer: {_linked(operation.answer, shapes)}</p>"
    )


def _render_shape(name: str, shapes: dict[str, Any]) -> str:
    shape = shapes[name]
    rows = [
        (f"<code>{escape(field)}</code>", _linked(type_of(value), shapes), _prose(str(value.get("description", ""))))
        for field, value in shape.get("properties", {}).items()
    ]
    values = ", ".join(f"<code>{escape(str(value))}</code>" for value in shape.get("enum", ()))
    text = _prose(shape.get("description", ""))
    return f'<h3 id="{escape(name)}">{escape(name)}</h3><p>{text} {values}</p>{_table(rows)}'


def _table(rows: Sequence[Sequence[str]]) -> str:
    """Of cells that are HTML."""
    lines = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table>{lines}</table>" if lines else ""


def _prose(text: str) -> str:
    """With what stands between backticks as code."""
    return _CODE.sub(r"<code>\1</code>", escape(text))


def _linked(words: str, shapes: Collection[str]) -> str:
    """With each name of a shape as a link to it."""
    return _NAME.sub(lambda m: f'<a href="#{m[0]}">{m[0]}</a>' if m[0] in shapes else m[0], _prose(words))


def _heading(operation: Operation) -> str:
    return f"<b>{operation.method}</b> {escape(operation.path)}"


def _anchor(operation: Operation) -> str:
    return escape(f"{operation.method}-{operation.path}".lower().replace("/", "-").replace("{", "").replace("}", ""))
