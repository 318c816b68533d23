"""Log lines as OTLP/HTTP has them, in its JSON encoding. Pure; `senders.otlp` sends them.

After opentelemetry-proto, logs/v1: 64-bit integers are decimal strings, names lowerCamelCase, enums numbers.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
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
    attributes: dict[str, str | int] = {
        "oneoff.run.id": origin.run_id,
        "oneoff.log.position": line.position,
        "log.iostream": line.stream,
        "oneoff.attempt": origin.attempt,
    }
    if origin.job is not None:
        attributes["oneoff.job"] = origin.job
    if line.cut_bytes:
        attributes["oneoff.log.cut_bytes"] = line.cut_bytes
    if line.dropped:
        attributes["oneoff.log.dropped"] = line.dropped
    if line.missing_bytes:
        attributes["oneoff.log.missing_bytes"] = line.missing_bytes
    return {
        "timeUnixNano": str(line.time_us * 1_000),
        "observedTimeUnixNano": observed,
        "severityNumber": number,
        "severityText": name,
        "body": {"stringValue": _to_text(line)},
        "attributes": _to_attributes(attributes),
    }


def _to_text(line: LogLine) -> str:
    """Bytes that are not UTF-8 become U+FFFD: receivers show a body of bytes as base64, which nobody can search."""
    text = line.data.decode(errors="replace")
    return f"{text} [{line.cut_bytes} bytes more]" if line.cut_bytes else text


def _to_attributes(values: dict[str, str] | dict[str, str | int]) -> list[dict[str, Any]]:
    return [{"key": name, "value": _to_value(value)} for name, value in values.items()]


def _to_value(value: str | int) -> dict[str, str]:
    return {"intValue": str(value)} if isinstance(value, int) else {"stringValue": value}
