"""Writes the reference pages that come from the code: docs/settings.md, states.md, events.md, metrics.md and
oneoff.schema.json.

    .venv/bin/python tools/reference.py

A test fails when a page is stale.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from oneoff.cli.job_file_schema import schema
from oneoff.core import deploy
from oneoff.core.events import BY_STATUS, KINDS
from oneoff.core.limits import format_bytes, format_duration
from oneoff.core.run import REASONS, TRANSITIONS
from oneoff.meters import Histogram, Meter
from oneoff.metrics import METERS
from oneoff.settings import SETTINGS, environment_name

DOCS = Path(__file__).parents[1] / "docs"
_EVENTS = """\
# Events

What happened, in the order in which it was committed. `oneoff events` lists them, `oneoff events --follow` waits for
more; `GET /api/v1/events` and `/api/v1/events/stream` are [the same over HTTP](api.md). An event is written in the
transaction of what it tells of: neither is there without the other. `seq` grows with each event, and nothing ever
appears behind a reader that has come to it: whoever asks for what lies behind the last `seq` misses nothing. Events
older than the setting `events_kept_seconds` (90 days) are dropped.

Each has `id`, `seq`, `kind`, `subject_id` (the run, cron, deploy … that it is about), `service_id` (of what belongs to
a service), `created_at`, and a `body` with all of the fields below; what is unset is null, times are RFC 3339.

| kind | subject | failure | |
|---|---|---|---|"""


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
        *_diagram(TRANSITIONS),
        "",
        "| status | reasons |",
        "|---|---|",
    ]
    for status, reasons in REASONS.items():
        lines.append(f"| `{status.value}` | {', '.join(f'`{reason.value}`' for reason in sorted(reasons))} |")
    lines += ["", "# The states of a deploy", "", "[What they mean](deploys.md#the-life-of-a-deploy).", ""]
    lines += _diagram(deploy.TRANSITIONS)
    return "\n".join(lines) + "\n"


def _diagram(transitions: Mapping[Any, Collection[Any]]) -> list[str]:
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {next(iter(transitions)).value}"]
    for before, afters in transitions.items():
        lines += [f"    {before.value} --> {after.value}" for after in sorted(afters)]
        if not afters:
            lines.append(f"    {before.value} --> [*]")
    return [*lines, "```"]


def events_page() -> str:
    lines = [_EVENTS]
    for name, kind in KINDS.items():
        failure = "when `status` is `failed`" if name in BY_STATUS else "yes" if kind.is_failure else ""
        lines.append(f"| [`{name}`](#{name.replace('.', '')}) | {kind.subject} | {failure} | {kind.text} |")
    for name, kind in KINDS.items():
        lines += ["", f"## {name}", "", kind.text, "", "| in the body | |", "|---|---|"]
        lines += [f"| `{field}` | {text} |" for field, text in kind.body.items()]
    return "\n".join(lines) + "\n"


def metrics_page() -> str:
    lines = [
        "# Metrics",
        "",
        "What `GET /metrics` answers, in Prometheus' text format; [Monitoring](monitoring.md) says how to use them.",
        "Sizes are bytes, times are seconds. A histogram has a `_bucket`, a `_sum` and a `_count`. Series whose labels",
        "are not known beforehand appear with their first event.",
        "",
        "| metric | type | labels | meaning |",
        "|---|---|---|---|",
        *map(_metric, METERS),
        "",
        "## Buckets",
        "",
        "| histogram | up to |",
        "|---|---|",
    ]
    lines += [
        f"| `{each.name}` | {', '.join(f'{bound:g}' for bound in each.bounds)} |"
        for each in METERS
        if isinstance(each, Histogram)
    ]
    return "\n".join(lines) + "\n"


def _metric(meter: Meter) -> str:
    labels = ", ".join(f"`{label}`" for label in meter.labels)
    return f"| `{meter.name}` | {meter.kind} | {labels} | {meter.text} |"


def _default(name: str, value: Any) -> str:
    match name:
        case "data_dir":
            return "`/var/lib/oneoff` as root, else `~/.local/share/oneoff`"
        case "listen":
            return "`127.0.0.1:8080`"
        case _ if value is None or value == ():
            return ""
        case _ if name.endswith("_bytes"):
            return f"`{format_bytes(value).replace(' ', '')}`"
        case _ if name.endswith("_seconds"):
            return f"`{format_duration(value)}`"
        case _:
            return f"`{value}`"


PAGES = {
    "settings.md": settings_page,
    "states.md": states_page,
    "events.md": events_page,
    "metrics.md": metrics_page,
    "oneoff.schema.json": schema,
}

if __name__ == "__main__":
    for name, page in PAGES.items():
        (DOCS / name).write_text(page())
