"""Log lines as OTLP/HTTP has them, in its JSON encoding. Pure; `senders.otlp` sends them.

After opentelemetry-proto, logs/v1: 64-bit integers are decimal strings, names lowerCamelCase, enums numbers.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import lru_cache
from itertools import groupby
from typing import Any

from oneoff.core.log_level import Level, level_of
from oneoff.core.log_lines import LogLine
from oneoff.core.log_origin import LogOrigin

# Of the specification's severity numbers, those that its appendix on RFC 5424 names.
_SEVERITIES = {
    Level.DEBUG: (5, "DEBUG"),
    Level.INFO: (9, "INFO"),
    Level.NOTICE: (10, "NOTICE"),
    Level.WARNING: (13, "WARN"),
    Level.ERROR: (17, "ERROR"),
    Level.CRITICAL: (21, "FATAL"),
    Level.ALERT: (22, "ALERT"),
    Level.EMERGENCY: (24, "EMERGENCY"),
}
_SCOPE = {"name": "oneoff"}
NOTHING = b'{"resourceLogs":[]}'


def write_request(lines: Iterable[tuple[LogOrigin, LogLine]], observed_us: int) -> bytes:
    """An ExportLogsServiceRequest. Lines keep their order within a service."""
    observed = str(observed_us * 1_000)
    sorted_lines = sorted(lines, key=lambda each: (each[0].service, each[0].node))  # stable
    resources = [
        {
            "resource": {"attributes": _to_attributes(_resource_of(service, node))},
            "scopeLogs": [{"scope": _SCOPE, "logRecords": [_to_record(*each, observed) for each in group]}],
        }
        for (service, node), group in groupby(sorted_lines, key=lambda each: (each[0].service, each[0].node))
    ]
    return json.dumps({"resourceLogs": resources}, separators=(",", ":")).encode()


def _resource_of(service: str, node: str) -> dict[str, str]:
    """By the names of the semantic conventions."""
    project, environment, name = [*service.split("/"), "web"][:3]
    return {
        "service.name": name,
        "service.namespace": project,
        "deployment.environment.name": environment,
        "oneoff.service": service,
        "host.name": node,
    }


def _to_record(origin: LogOrigin, line: LogLine, observed: str) -> dict[str, Any]:
    number, name = _SEVERITIES[Level.WARNING if line.is_notice else level_of(line.data, line.stream)]
    changing: dict[str, str | int] = {"oneoff.log.position": line.position}
    for key, value in (
        ("oneoff.log.cut_bytes", line.cut_bytes),
        ("oneoff.log.dropped", line.dropped),
        ("oneoff.log.missing_bytes", line.missing_bytes),
    ):
        if value:
            changing[key] = value
    return {
        "timeUnixNano": str(line.time_us * 1_000),
        "observedTimeUnixNano": observed,
        "severityNumber": number,
        "severityText": name,
        "body": {"stringValue": _to_text(line)},
        "attributes": [*_attributes_of(origin, line.stream), *_to_attributes(changing)],
    }


@lru_cache(maxsize=1_024)
def _attributes_of(origin: LogOrigin, stream: str) -> list[dict[str, Any]]:
    """Those that are the same for all lines of a stream."""
    told: dict[str, str | int] = {
        "oneoff.run.id": origin.run_id,
        "log.iostream": stream,
        "oneoff.attempt": origin.attempt,
    }
    return _to_attributes(told if origin.job is None else {**told, "oneoff.job": origin.job})


def _to_text(line: LogLine) -> str:
    """Bytes that are not UTF-8 become U+FFFD: receivers show a body of bytes as base64, which nobody can search."""
    text = line.data.decode(errors="replace")
    return f"{text} [{line.cut_bytes} bytes more]" if line.cut_bytes else text


def _to_attributes(values: dict[str, str] | dict[str, str | int]) -> list[dict[str, Any]]:
    return [{"key": name, "value": _to_value(value)} for name, value in values.items()]


def _to_value(value: str | int) -> dict[str, str]:
    return {"intValue": str(value)} if isinstance(value, int) else {"stringValue": value}
