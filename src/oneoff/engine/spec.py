"""From a run's row to what a driver needs. Pure but for opening sealed boxes; called by the executor."""

from __future__ import annotations

import json
from datetime import datetime, timedelta

from oneoff.core.command import Command, complete_argv
from oneoff.core.image import parse_image_ref
from oneoff.core.run import Run, container_name
from oneoff.core.terms import read_terms
from oneoff.core.variables import builtin_variables
from oneoff.drivers.driver import ContainerSpec, PreparedImage, RegistryCredentials, Resources
from oneoff.engine.context import Context
from oneoff.logs.folder import log_folder
from oneoff.store.runs import StartFacts


def variables_place(run_id: str) -> str:
    """Where a run's variables are sealed for."""
    return f"runs/{run_id}/variables"


def password_place(service_id: str) -> str:
    """Where a service's registry password is sealed for."""
    return f"services/{service_id}/registry_password"


def open_credentials(context: Context, run: Run, facts: StartFacts) -> RegistryCredentials | None:
    if facts.registry_username is None or facts.registry_password_sealed is None:
        return None
    password = context.sealer.open(facts.registry_password_sealed, password_place(run.service_id))
    return RegistryCredentials(facts.registry_username, password.decode())


def open_secret_values(context: Context, run_id: str, box: bytes) -> list[bytes]:
    """What a run's log must not show. Raises WrongSecretKey."""
    opened = json.loads(context.sealer.open(box, variables_place(run_id)))
    return [opened["variables"][name].encode() for name in opened["secret"]]


async def prepare_image(context: Context, run: Run, facts: StartFacts) -> PreparedImage:
    return await context.driver.prepare(parse_image_ref(run.image_ref), open_credentials(context, run, facts))


def deadline_of(run: Run, started_at: datetime) -> datetime:
    """When the run must have ended, whichever limit comes first."""
    limit = started_at + timedelta(seconds=run.timeout_seconds)
    return limit if run.must_end_at is None else min(limit, run.must_end_at)


def make_spec(context: Context, run: Run, facts: StartFacts, image: PreparedImage) -> ContainerSpec:
    size = read_terms(run.terms, run.instance_type)
    opened = json.loads(context.sealer.open(facts.variables_sealed, variables_place(run.id)))
    now = context.clock.now()
    return ContainerSpec(
        run_id=run.id,
        name=run.container_name or container_name(context.instance, run.id),
        image=image,
        argv=complete_argv(Command(run.command, run.shell), run.entrypoint, image.config),
        variables={**opened["variables"], **opened.get("builtins", {}), **builtin_variables(run)},
        resources=Resources(size.memory_bytes, size.cpus),
        networks=facts.networks,
        network_scope=run.service_id,
        hostname=run.id,
        log_dir=log_folder(context.settings.logs_dir, run.id),
        log_cap_bytes=context.settings.log_cap_bytes,
        grace_seconds=run.grace_seconds,
        deadline=deadline_of(run, now),
        capabilities=facts.capabilities,
        read_only_root=facts.read_only_root,
        user=facts.user,
        sandbox=facts.sandbox,
    )
