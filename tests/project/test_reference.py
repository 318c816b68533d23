"""Reference pages say what the code does now, and the words of the product are in the glossary."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


def load_tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reference", ROOT / "tools" / "reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["settings.md", "states.md", "events.md", "metrics.md", "oneoff.schema.json"])
def test_a_reference_page_is_not_stale(name: str) -> None:
    assert (ROOT / "docs" / name).read_text() == load_tool().PAGES[name](), "run .venv/bin/python tools/reference.py"
