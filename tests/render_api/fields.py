"""The field tables of Render's API, as data, and what holds an answer to them.

Of each field: its type, whether it must be there, and what it may be. Nothing is ever null in today's answers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

Check = Callable[[Any], bool]


@dataclass(frozen=True)
class Field:
    check: Check
    required: bool = True
    nullable: bool = False


def text(value: Any) -> bool:
    return isinstance(value, str)


def word(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def truth(value: Any) -> bool:
    return isinstance(value, bool)


def time(value: Any) -> bool:
    """RFC 3339 with microseconds and Z."""
    return isinstance(value, str) and bool(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", value))


def offset_time(value: Any) -> bool:
    """As the document of 2021 writes it: microseconds and an offset."""
    shown = isinstance(value, str) and re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}[+-]\d\d:\d\d", value)
    return bool(shown) and datetime.fromisoformat(value).tzinfo is not None


def an_id(*prefixes: str) -> Check:
    pattern = re.compile(rf"(?:{'|'.join(prefixes)})-[0-9a-z]{{20}}")
    return lambda value: isinstance(value, str) and bool(pattern.fullmatch(value))


def one_of(*words: str) -> Check:
    return lambda value: value in words


def list_of(check: Check | Mapping[str, Field]) -> Check:
    holds = check if callable(check) else lambda value: not wrong(value, check)
    return lambda value: isinstance(value, list) and all(holds(each) for each in value)


def shape(table: Mapping[str, Field]) -> Check:
    return lambda value: not wrong(value, table)


def may(check: Check) -> Field:
    """A field that may be left out."""
    return Field(check, required=False)


def must(check: Check) -> Field:
    return Field(check)


def or_null(check: Check) -> Field:
    return Field(check, nullable=True)


def wrong(value: Any, table: Mapping[str, Field]) -> list[str]:
    """What of `value` is not as the table says; also fields that the table does not know."""
    if not isinstance(value, dict):
        return ["no object"]
    found = [f"{name} is missing" for name, field in table.items() if field.required and name not in value]
    for name, each in value.items():
        if name not in table:
            found.append(f"{name} is not known")
        elif each is None:
            found += [] if table[name].nullable else [f"{name} is null"]
        elif not table[name].check(each):
            found.append(f"{name} is {each!r}")
    return found


JOB_STATUS = one_of("pending", "running", "succeeded", "failed", "canceled")

JOB = {
    "id": must(an_id("job")),
    "serviceId": must(an_id("srv", "crn")),
    "startCommand": must(text),
    "planId": must(word),
    "createdAt": must(time),
    "status": must(JOB_STATUS),  # optional in the table; clients do better with it
    "startedAt": may(time),
    "finishedAt": may(time),
}
JOB_OF_2021 = {
    "id": must(an_id("job")),
    "serviceId": must(an_id("srv", "crn")),
    "startCommand": must(text),
    "planId": must(word),
    "createdAt": must(offset_time),
    "startedAt": or_null(offset_time),
    "finishedAt": or_null(offset_time),
    "status": or_null(one_of("succeeded", "failed", "canceled")),
}
ERROR = {"id": may(word), "message": must(word)}


def listed(name: str, table: Mapping[str, Field]) -> dict[str, Field]:
    """An item of a list: the thing beside its cursor."""
    return {name: must(shape(table)), "cursor": must(lambda value: bool(re.fullmatch(r"[A-Za-z0-9_-]+", str(value))))}


SUSPENDERS = one_of(
    "admin", "billing", "user", "parent_service", "stuck_crashlooping", "hipaa_enablement", "unknown"
)  # fmt: skip
PLAN = one_of(
    "starter", "starter_plus", "standard", "standard_plus", "pro", "pro_plus", "pro_max", "pro_ultra", "free", "custom"
)  # fmt: skip
REGION = one_of("frankfurt", "oregon", "ohio", "singapore", "virginia")
RUNTIME = one_of("docker", "elixir", "go", "node", "python", "ruby", "rust", "image")
DOCKER_DETAILS = {
    "dockerCommand": must(text),
    "dockerContext": must(text),
    "dockerfilePath": must(text),
    "preDeployCommand": may(text),
}
_DETAILS = {
    "env": must(RUNTIME),
    "runtime": must(RUNTIME),
    "envSpecificDetails": must(shape(DOCKER_DETAILS)),
    "plan": must(PLAN),
    "region": must(REGION),
    "buildPlan": must(one_of("starter", "performance")),
    "sshAddress": may(text),
    "maxShutdownDelaySeconds": may(whole),
}
WORKER = _DETAILS | {"numInstances": must(whole)}
PRIVATE = WORKER | {"url": must(text), "openPorts": must(list_of(lambda value: True))}
WEB = PRIVATE | {"healthCheckPath": must(text)}
CRON = _DETAILS | {"schedule": must(text), "lastSuccessfulRunAt": may(time)}
DETAILS = {"web_service": WEB, "private_service": PRIVATE, "background_worker": WORKER, "cron_job": CRON}
SERVICE = {
    "id": must(an_id("srv", "crn")),
    "type": must(one_of("static_site", *DETAILS)),
    "name": must(word),
    "ownerId": must(an_id("tea")),
    "slug": must(word),
    "repo": may(text),
    "branch": may(text),
    "imagePath": may(word),
    "rootDir": must(text),
    "autoDeploy": must(one_of("yes", "no")),
    "autoDeployTrigger": may(one_of("commit", "checksPass", "off")),
    "notifyOnFail": must(one_of("default", "notify", "ignore")),
    "suspended": must(one_of("suspended", "not_suspended")),
    "suspenders": must(list_of(SUSPENDERS)),
    "environmentId": may(an_id("evm")),
    "createdAt": must(time),
    "updatedAt": must(time),
    "dashboardUrl": must(word),
    "serviceDetails": must(lambda value: isinstance(value, dict)),  # held to DETAILS by its type
}
IMAGE = {"ref": must(word), "sha": may(lambda value: value.startswith("sha256:")), "registryCredential": may(text)}
DEPLOY_STATUS = one_of(
    *("created", "queued", "build_in_progress", "update_in_progress", "live", "deactivated", "build_failed"),
    *("update_failed", "canceled", "pre_deploy_in_progress", "pre_deploy_failed"),
)
DEPLOY = {
    "id": must(an_id("dep")),
    "image": may(shape(IMAGE)),
    "status": may(DEPLOY_STATUS),
    "trigger": may(one_of("api", "manual", "rollback", "other")),
    "createdAt": may(time),
    "startedAt": may(time),
    "finishedAt": may(time),
    "updatedAt": may(time),
}
ENV_VAR = {"key": must(word), "value": must(text)}
LINK = {
    "id": must(an_id("srv", "crn")),
    "name": must(word),
    "type": must(one_of("static", "web", "pserv", "worker", "cron")),
}
GROUP_IN_LIST = {
    "id": must(an_id("evg")),
    "name": must(word),
    "ownerId": must(an_id("tea")),
    "createdAt": must(time),
    "updatedAt": must(time),
    "serviceLinks": must(list_of(LINK)),
    "environmentId": may(an_id("evm")),
}
GROUP = GROUP_IN_LIST | {
    "envVars": must(list_of(ENV_VAR)),
    "secretFiles": must(list_of({"name": must(word), "content": must(text)})),
}
OWNER = {
    "id": must(an_id("tea", "usr", "own")),
    "name": must(word),
    "email": must(text),
    "type": must(one_of("user", "team")),
    "twoFactorAuthEnabled": may(truth),
}
USER = {"id": must(word), "email": must(text), "name": must(word)}
PROJECT = {
    "id": must(an_id("prj")),
    "name": must(word),
    "createdAt": must(time),
    "updatedAt": must(time),
    "owner": must(shape(OWNER)),
    "environmentIds": must(list_of(an_id("evm"))),
}
ENVIRONMENT = {
    "id": must(an_id("evm")),
    "name": must(word),
    "projectId": must(an_id("prj")),
    "databasesIds": must(list_of(word)),
    "redisIds": must(list_of(word)),
    "serviceIds": must(list_of(an_id("srv", "crn"))),
    "envGroupIds": must(list_of(an_id("evg"))),
    "protectedStatus": must(one_of("unprotected", "protected")),
    "networkIsolationEnabled": must(truth),
}
CRON_RUN = {
    "id": must(word),
    "status": must(one_of("pending", "successful", "unsuccessful", "canceled")),
    "startedAt": may(time),
    "finishedAt": may(time),
    "triggeredBy": may(text),
    "canceledBy": may(text),
}


def wrong_service(value: Any) -> list[str]:
    """Of a Service, with its details."""
    return wrong(value, SERVICE) or wrong(value["serviceDetails"], DETAILS[value["type"]])


LABEL = {
    "name": must(
        one_of(
            *("resource", "instance", "host", "statusCode", "method", "level", "type", "text", "path", "task"),
            *("taskRun", "workflowService", "workflowVeresion", "blocked", "sandbox"),
        )
    ),
    "value": must(word),
}
LOG = {"id": must(word), "message": must(text), "timestamp": must(time), "labels": must(list_of(LABEL))}
LOG_PAGE = {
    "hasMore": must(truth),
    "nextStartTime": must(time),
    "nextEndTime": must(time),
    "logs": must(list_of(LOG)),
}

REASON = {
    "evicted": must(truth),
    "evictionReason": may(word),
    "nonZeroExit": may(whole),
    "earlyExit": may(truth),
    "oomKilled": may(shape({"memoryLimit": must(word)})),
    "timedOutSeconds": may(whole),
    "timedOutReason": may(word),
    "unhealthy": may(word),
}
_TRIGGER = dict.fromkeys(
    ("firstBuild", "envUpdated", "manual", "deployedByRender", "clearCache", "rollback"), must(truth)
)
EVENT_DETAILS = {
    "job_run_ended": {"jobId": must(an_id("job")), "status": must(JOB_STATUS), "reason": may(shape(REASON))},
    "cron_job_run_started": {"cronJobRunId": must(word)},
    "cron_job_run_ended": {
        "cronJobRunId": must(word),
        "status": must(one_of("pending", "successful", "unsuccessful", "canceled")),
        "reason": may(shape(REASON)),
        "user": may(lambda value: isinstance(value, dict)),
    },
    "deploy_started": {"deployId": must(an_id("dep")), "trigger": must(shape(_TRIGGER))},
    "deploy_ended": {
        "deployId": must(an_id("dep")),
        "deployStatus": must(one_of("succeeded", "failed", "canceled")),
        "status": must(whole),
        "reason": must(lambda value: isinstance(value, dict)),
    },
    "service_suspended": {},
    "service_resumed": {},
}
EVENT = {
    "id": must(an_id("evt")),
    "timestamp": must(time),
    "serviceId": must(an_id("srv", "crn")),
    "type": must(one_of(*EVENT_DETAILS)),
    "details": must(lambda value: isinstance(value, dict)),  # held to EVENT_DETAILS by its type
}


def wrong_event(value: Any) -> list[str]:
    """Of an Event, with its details."""
    return wrong(value, EVENT) or wrong(value["details"], EVENT_DETAILS[value["type"]])


WEBHOOK = {
    "id": must(an_id("whk")),
    "url": must(word),
    "name": must(word),
    "secret": must(word),
    "enabled": must(truth),
    "eventFilter": must(list_of(word)),
}
WEBHOOK_EVENT = {
    "id": must(word),
    "eventId": must(an_id("evt")),
    "eventType": must(word),
    "sentAt": must(time),
    "statusCode": may(whole),
    "responseBody": may(text),
    "error": may(word),
}

OWNER_STREAM = {"ownerId": may(an_id("tea")), "endpoint": may(word), "preview": may(one_of("send", "drop"))}
RESOURCE_STREAM = {
    "resourceId": may(an_id("srv", "crn")),
    "endpoint": may(word),
    "setting": may(one_of("send", "drop")),
}
