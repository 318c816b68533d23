"""Answers as Render gives them: JSON with a final newline, lists with a cursor beside each item, times with
microseconds."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from starlette.responses import Response

from oneoff.render_api.cursors import to_cursor

MEDIA_TYPE = "application/json; charset=utf-8"


def answer(value: Any, status: int = 200) -> Response:
    return Response(to_json(value) + b"\n", status, media_type=MEDIA_TYPE)


def answer_nothing(status: int) -> Response:
    return Response(status_code=status)


def to_json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")


def to_listed(name: str, kind: str, items: Iterable[tuple[str, dict[str, Any]]]) -> list[dict[str, Any]]:
    """`[{"job": {…}, "cursor": "…"}]` of keys and shapes; `kind` is that of the list's cursors."""
    return [{name: shape, "cursor": to_cursor(kind, key)} for key, shape in items]


def to_time(moment: datetime) -> str:
    """2025-01-13T16:41:48.081145Z"""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


def without_unset(shape: dict[str, Any]) -> dict[str, Any]:
    """Today's typed clients refuse null: what is not set is left out."""
    return {name: value for name, value in shape.items() if value is not None}
