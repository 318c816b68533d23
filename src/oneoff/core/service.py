"""What a service is called and what kinds there are. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from oneoff.errors import CapabilityNotAllowed, InvalidName, InvalidPath

DEFAULT_NAME = "web"
ALLOWED_CAPABILITIES = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "SETUID", "SETGID")
_NAME = re.compile(r"[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?")


class ServiceType(StrEnum):
    WEB_SERVICE = "web_service"
    PRIVATE_SERVICE = "private_service"
    BACKGROUND_WORKER = "background_worker"
    CRON_JOB = "cron_job"


@dataclass(frozen=True, slots=True)
class ServicePath:
    """`shop/production/web`; `service` is None in `shop/production`, which is enough for an only service."""

    project: str
    environment: str
    service: str | None = None

    def __str__(self) -> str:
        return "/".join(part for part in (self.project, self.environment, self.service) if part)


def parse_path(text: str) -> ServicePath:
    """Raises InvalidPath for a wrong number of parts, InvalidName for a part that breaks the rules."""
    parts = text.split("/")
    if len(parts) not in (2, 3):
        raise InvalidPath(text)
    for what, part in zip(("project", "environment", "service"), parts, strict=False):
        if not _NAME.fullmatch(part):
            raise InvalidName(what, part)
    return ServicePath(*parts)


def check_capabilities(asked: list[str]) -> tuple[str, ...]:
    """Names without the CAP_ prefix, in a fixed order. Raises CapabilityNotAllowed."""
    names = {name.upper().removeprefix("CAP_") for name in asked}
    for name in sorted(names):
        if name not in ALLOWED_CAPABILITIES:
            raise CapabilityNotAllowed(name, ALLOWED_CAPABILITIES)
    return tuple(name for name in ALLOWED_CAPABILITIES if name in names)
