"""A service as Render shows it. What Oneoff does not have is told by the value that means nothing: see docs."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from oneoff.core.command import Command
from oneoff.core.image import Transport, parse_image_ref
from oneoff.core.service import ServiceType
from oneoff.operations.services import Service
from oneoff.render_api.answers import to_time, without_unset

REGION = "oregon"  # the table knows no machine of one's own: the first one that clients know
RUNTIME = "image"
_HUB = "docker.io"
SHORT_TYPES = {
    ServiceType.WEB_SERVICE: "web",
    ServiceType.PRIVATE_SERVICE: "pserv",
    ServiceType.BACKGROUND_WORKER: "worker",
    ServiceType.CRON_JOB: "cron",
}


@dataclass(frozen=True, slots=True)
class CronFacts:
    """Of a cron job what lies beside its service: its job's command, its schedule, its last success."""

    command: Command | None = None
    schedule: str = ""
    last_success_at: datetime | None = None


def to_service(service: Service, dashboard_url: str, plan: str, cron: CronFacts | None = None) -> dict[str, Any]:
    return without_unset(
        {
            "id": service.id,
            "autoDeploy": "no",
            "autoDeployTrigger": "off",
            "createdAt": to_time(service.created_at),
            "dashboardUrl": dashboard_url,
            "environmentId": service.environment_id,
            "imagePath": None if service.image is None else to_image_path(service.image),
            "name": service.name,
            "notifyOnFail": "default",
            "ownerId": service.workspace_id,
            "rootDir": "",
            "slug": to_slug(service.path),
            "suspended": "suspended" if service.suspended else "not_suspended",
            "suspenders": ["user"] if service.suspended else [],
            "type": service.type.value,
            "updatedAt": to_time(service.created_at),
            "serviceDetails": _to_details(service, plan, cron or CronFacts()),
        }
    )


def to_image_path(image: str) -> str:
    """With the registry and the tag that go without saying: nginx -> docker.io/library/nginx:latest."""
    ref = parse_image_ref(image)
    if ref.transport is not Transport.REGISTRY or ref.registry is not None:
        return str(ref)
    return f"{_HUB}/{'' if '/' in ref.name else 'library/'}{ref}"


def to_slug(path: str) -> str:
    return path.replace("/", "-")


def _to_details(service: Service, plan: str, cron: CronFacts) -> dict[str, Any]:
    details: dict[str, Any] = {
        "buildPlan": "starter",
        "env": RUNTIME,
        "envSpecificDetails": {
            "dockerCommand": "" if cron.command is None else to_command_text(cron.command),
            "dockerContext": "",
            "dockerfilePath": "",
        },
        "plan": plan,
        "region": REGION,
        "runtime": RUNTIME,
    }
    if service.type is ServiceType.CRON_JOB:
        success = None if cron.last_success_at is None else to_time(cron.last_success_at)
        return without_unset(details | {"schedule": cron.schedule, "lastSuccessfulRunAt": success})
    details["numInstances"] = 1
    if service.type is not ServiceType.BACKGROUND_WORKER:
        details |= {"openPorts": [], "url": ""}
    if service.type is ServiceType.WEB_SERVICE:
        details["healthCheckPath"] = ""
    return details


def to_command_text(command: Command) -> str:
    return command.shell if command.shell is not None else shlex.join(command.argv or ())
