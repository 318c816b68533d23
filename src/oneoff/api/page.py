"""The API's description as one HTML page that needs nothing from anywhere. Served by `health` at /docs."""

from __future__ import annotations

from html import escape
from typing import Any

from oneoff.api.listing import Operation, list_operations, type_of

_STYLE = """
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 0 auto; padding: 1rem }
code, h2, h3 { font-family: ui-monospace, monospace }
h2, h3 { font-size: 1rem; border-top: 1px solid #8886; padding-top: .75rem; overflow-wrap: anywhere }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; vertical-align: top; padding: .15rem .75rem .15rem 0 }
nav ul { columns: 2; list-style: none; padding: 0 }
b { display: inline-block; min-width: 4rem }
"""


def render_page(described: dict[str, Any]) -> str:
    info = described["info"]
    operations = list(list_operations(described))
    schemas = sorted(described["components"]["schemas"].items())
    return "".join(
        (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(info['title'])} API</title><style>{_STYLE}</style></head><body>",
            f"<h1>{escape(info['title'])} API {escape(info['version'])}</h1><p>{escape(info['description'])}</p>",
            '<p>Machine-readable: <a href="/api/v1/openapi.json">/api/v1/openapi.json</a> (OpenAPI 3.1)</p>',
            "<nav><ul>",
            *(f'<li><a href="#{_anchor(each)}">{_heading(each)}</a></li>' for each in operations),
            "</ul></nav><main>",
            *(_render_operation(each) for each in operations),
            *(_render_shape(name, shape) for name, shape in schemas),
            "</main></body></html>",
        )
    )


def _render_operation(operation: Operation) -> str:
    rows = [(p.name, p.place, p.type, p.text) for p in operation.parameters]
    body = f"<p>Body: {_linked(operation.body)}</p>" if operation.body else ""
    return (
        f'<h2 id="{_anchor(operation)}">{_heading(operation)}</h2><p>{escape(operation.text)}</p>'
        f"{_table(rows)}{body}<p>Answer: {_linked(operation.answer)}</p>"
    )


def _render_shape(name: str, shape: dict[str, Any]) -> str:
    fields = shape.get("properties", {}).items()
    rows = [(field, type_of(value), str(value.get("description", ""))) for field, value in fields]
    values = ", ".join(escape(str(value)) for value in shape.get("enum", ()))
    text = escape(shape.get("description", ""))
    return f'<h3 id="{escape(name)}">{escape(name)}</h3><p>{text} {values}</p>{_table(rows)}'


def _table(rows: list[Any]) -> str:
    cells = ("".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows)
    lines = "".join(f"<tr>{line}</tr>" for line in cells)
    return f"<table>{lines}</table>" if lines else ""


def _linked(words: str) -> str:
    """With each name of a shape as a link to it."""
    return " ".join(
        f'<a href="#{escape(word)}">{escape(word)}</a>' if word.endswith(("Shape", "Page")) else escape(word)
        for word in words.split()
    )


def _heading(operation: Operation) -> str:
    return f"<b>{operation.method}</b> {escape(operation.path)}"


def _anchor(operation: Operation) -> str:
    return escape(f"{operation.method}-{operation.path}".lower().replace("/", "-").replace("{", "").replace("}", ""))
