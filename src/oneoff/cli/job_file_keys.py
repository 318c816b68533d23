"""What may stand in a job file: each key, the field of the API that it becomes, and the kind of its value. The reader,
the schema for editors and the documentation's test go by these tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Key:
    """`kind` is a method of the reader."""

    field: str
    kind: str
    text: str


FILE: Mapping[str, Key] = {
    "service": Key("service", "text", "The path of the service that the file belongs to, such as shop/production."),
    "groups": Key("groups", "groups", "Concurrency groups: so many runs of each at once."),
    "jobs": Key("jobs", "jobs", "By name; PATH:NAME for a job of another service."),
}
JOB: Mapping[str, Key] = {
    "command": Key("command", "words", "A list, executed as it is."),
    "shell": Key("shell", "text", "A text for /bin/sh -c, instead of command."),
    "entrypoint": Key("entrypoint", "entrypoint", "The image's: keep, clear, or a list in its place."),
    "instance_type": Key("instance_type", "text", "CPU and memory; by default the service's."),
    "timeout": Key("timeout_seconds", "duration", "Time limit of each run; by default the plan's maximum."),
    "retries": Key("retries", "retries", "So many, or a mapping; none by default."),
    "retention": Key("retention", "retention", "How much of its history is kept; by default what the plan keeps."),
    "group": Key("concurrency_group", "text", "The concurrency group of its runs."),
    "gate": Key("gate", "text", "before_deploy or after_deploy: it runs with each deploy, in the new image."),
    "must_end_by": Key("must_end_by", "text", "A time of day, such as 08:00 Europe/Berlin."),
    "warn": Key("warn_seconds", "duration", "An event so long before the end of its time."),
    "variables": Key("variables", "variables", "The job's own, on top of the service's."),
    "crons": Key("crons", "crons", "By name: a schedule, or a mapping."),
}
RETRIES: Mapping[str, Key] = {
    "count": Key("count", "number", "So many attempts after the first."),
    "delay": Key("delay_seconds", "duration", "Before the first retry."),
    "back_off": Key("back_off", "text", "exponential (the default) or fixed."),
    "most_delay": Key("most_delay_seconds", "duration", "The longest delay."),
    "exit_codes": Key("exit_codes", "numbers", "Only ends with one of these."),
    "reasons": Key("reasons", "names", "Only ends for these reasons."),
}
RETENTION: Mapping[str, Key] = {
    "runs": Key("runs", "number", "So many ended runs, and as many failed ones."),
    "days": Key("days", "number", "Failed ones twice as long."),
}
CRON: Mapping[str, Key] = {
    "schedule": Key("expression", "text", "Five fields, or @daily and such; in quotes."),
    "time_zone": Key("time_zone", "text", "An IANA name; UTC by default."),
    "overlap": Key("overlap", "text", "skip (the default), allow, queue or replace."),
    "dst_policy": Key("dst_policy", "text", "debian (the default), skip or every."),
    "catch_up": Key("catch_up", "text", "none, latest (the default) or all."),
    "catch_up_window": Key("catch_up_window_seconds", "duration", "A day by default."),
    "jitter": Key("jitter_seconds", "duration", "Fires up to so much later."),
    "starts_at": Key("starts_at", "text", "It has no instants before, such as 2026-03-01T00:00:00Z."),
    "ends_at": Key("ends_at", "text", "It has no instants from then on."),
    "hold_during_deploy": Key("hold_during_deploy", "flag", "Wait while a deploy of the service is going."),
    "alert_after_ticks": Key("alert_after_ticks", "number", "No success for so many ticks raises an event."),
}
# What people write from other systems, or from the API.
SYNONYMS: Mapping[str, str] = {
    **dict.fromkeys(("env", "environment", "vars"), "variables"),
    **dict.fromkeys(("concurrency_group", "concurrency"), "group"),
    **dict.fromkeys(("expression", "cron"), "schedule"),
    **dict.fromkeys(("zone", "tz", "timezone", "timeZone"), "time_zone"),
    **dict.fromkeys(("time_limit", "timeout_seconds", "timeoutSeconds"), "timeout"),
    "cmd": "command",
    "run": "shell",
    "script": "shell",
    "end_by": "must_end_by",
    "limit": "timeout",
    "concurrency_policy": "overlap",
    "concurrencyPolicy": "overlap",
    "alert_after": "alert_after_ticks",
    "dst": "dst_policy",
    "size": "instance_type",
    "plan": "instance_type",
}
