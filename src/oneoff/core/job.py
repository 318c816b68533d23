"""A saved job: what runs, with which limits. Running it never changes it. Pure; the operations use it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from oneoff.core.command import Command, Entrypoint, make_command
from oneoff.errors import InvalidName

_NAME = re.compile(r"[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Job:
    """None = as the service, or the plan, has it. `retries` is JSON of `core.retry.RetryPolicy`,
    `retention` of `core.retention.Wish`; `must_end_by` a time
    of day and its zone."""

    id: str
    workspace_id: str
    service_id: str
    service: str  # the service's path
    name: str
    command: Command
    entrypoint: Entrypoint | None
    instance_type: str | None
    timeout_seconds: int | None
    retries: str | None
    retention: str | None
    concurrency_group: str | None
    gate: str | None  # of core.gates.Gate: when it runs in the life of a deploy
    must_end_by: str | None
    warn_seconds: int | None
    managed_by: str | None  # the job file that made it
    variables_sealed: bytes = field(repr=False)
    created_at: datetime
    updated_at: datetime

    @property
    def path(self) -> str:
        """`shop/production/web:migrate`, unique in a workspace."""
        return f"{self.service}:{self.name}"


def check_job_name(name: str) -> str:
    """The same rule as for services. Raises InvalidName."""
    if not _NAME.fullmatch(name):
        problem = InvalidName("job", name)
        problem.field = "name"
        raise problem
    return name


def with_arguments(command: Command, arguments: Sequence[str]) -> Command:
    """The command with more arguments behind its own. A shell command gets them quoted, so that each arrives as one
    word of its last command. Raises InvalidCommand."""
    if not arguments:
        return command
    if command.argv is not None:
        return make_command((*command.argv, *arguments), None)
    return make_command(None, f"{command.shell} {shlex.join(arguments)}")
