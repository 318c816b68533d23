"""Writes the reference pages that come from the code: docs/settings.md and docs/states.md.

    .venv/bin/python tools/reference.py

A test fails when a page is stale.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from oneoff.core.limits import format_bytes, format_duration
from oneoff.core.run import REASONS, TRANSITIONS
from oneoff.settings import SETTINGS, environment_name

DOCS = Path(__file__).parents[1] / "docs"


def settings_page() -> str:
    lines = [
        "# Settings",
        "",
        "Each is taken from the option of `oneoff serve` where there is one, then from the environment, then from the",
        "config file (`/etc/oneoff/config.toml`, or `--config FILE`), then from its default. Problems are shown",
        "together.",
        "",
        "| config file | environment | default | meaning |",
        "|---|---|---|---|",
    ]
    for each in SETTINGS:
        default = _default(each.name, each.default if each.default is not None else None)
        lines.append(f"| `{each.name}` | `{environment_name(each.name)}` | {default} | {each.metadata['text']} |")
    return "\n".join(lines) + "\n"


def states_page() -> str:
    lines = [
        "# The states of a run",
        "",
        "Each transition is one guarded update of the run's row; an end is final.",
        "",
        "```mermaid",
        "stateDiagram-v2",
        "    [*] --> queued",
    ]
    for before, afters in TRANSITIONS.items():
        lines += [f"    {before.value} --> {after.value}" for after in sorted(afters)]
        if not afters:
            lines.append(f"    {before.value} --> [*]")
    lines += ["```", "", "| status | reasons |", "|---|---|"]
    for status, reasons in REASONS.items():
        lines.append(f"| `{status.value}` | {', '.join(f'`{reason.value}`' for reason in sorted(reasons))} |")
    return "\n".join(lines) + "\n"


def _default(name: str, value: Any) -> str:
    match name:
        case "data_dir":
            return "`/var/lib/oneoff` as root, else `~/.local/share/oneoff`"
        case "listen":
            return "`127.0.0.1:8080`"
        case _ if value is None:
            return ""
        case _ if name.endswith("_bytes"):
            return f"`{format_bytes(value).replace(' ', '')}`"
        case _ if name.endswith("_seconds"):
            return f"`{format_duration(value)}`"
        case _:
            return f"`{value}`"


PAGES = {"settings.md": settings_page, "states.md": states_page}

if __name__ == "__main__":
    for name, page in PAGES.items():
        (DOCS / name).write_text(page())
