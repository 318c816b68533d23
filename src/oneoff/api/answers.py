"""From what the operations return to what the API answers: the shapes of `shapes`, as plain values, and the answers."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from fractions import Fraction
from functools import lru_cache
from operator import attrgetter
from typing import Any

import orjson
from starlette.responses import Response

from oneoff.api.shapes import LogShape, RunShape
from oneoff.core.clock import from_us, to_text
from oneoff.core.command import Entrypoint
from oneoff.core.instance_types import InstanceClass, InstanceType
from oneoff.core.money import billed_until, format_usd, run_cost
from oneoff.core.retry_text import from_text, to_plain
from oneoff.core.run import TIMES, Run, RunStatus
from oneoff.core.variables import Variable
from oneoff.operations.deploys import Deploy, DeployGate, warning_of
from oneoff.operations.jobs import Job
from oneoff.operations.logs import LogRecord
from oneoff.operations.places import Environment, NodeLoad, Project
from oneoff.operations.reruns import Difference
from oneoff.operations.runs import RunView
from oneoff.operations.services import Service
from oneoff.operations.tokens import Token

# A run's keys in their order, each filled in by one of three ways: as it is, as a time, or by its own line below.
_RUN: dict[str, Any] = dict.fromkeys(RunShape.model_fields)
_LOG_COUNTS = tuple(LogShape.model_fields)
_TIMES = tuple(name for name in TIMES if name in _RUN)
_AS_IN_RUN = tuple(name for name in Run._fields if name in _RUN.keys() - {*TIMES, "waiting_for", "retries"})
_get_as_in_run, _get_times, _get_log_counts = (attrgetter(*names) for names in (_AS_IN_RUN, _TIMES, _LOG_COUNTS))
_ENDED_BY_ITSELF = (RunStatus.SUCCEEDED, RunStatus.FAILED)
_MONTH_SECONDS = 30 * 86_400


def answer(value: Any, status: int = 200) -> Response:
    """JSON as it is: what is answered was made here and needs no validation."""
    return Response(to_json(value), status, media_type="application/json")


def to_json(value: Any) -> bytes:
    """In ASCII, with escapes for all else."""
    with suppress(TypeError):  # an integer of more than 64 bits, or half a character: json tells them
        if (words := orjson.dumps(value)).isascii():
            return words
    return json.dumps(value, separators=(",", ":")).encode()


def to_time(moment: datetime | None) -> str | None:
    """RFC 3339, UTC, without trailing zeros: 2026-11-22T10:26:23.12Z."""
    return None if moment is None else to_text(moment)


def to_run(view: RunView) -> dict[str, Any]:
    """As `RunShape` has it: what is called as in the run is as in the run."""
    run = view.run
    until = billed_until(run)
    answer = _RUN.copy()
    answer.update(zip(_AS_IN_RUN, _get_as_in_run(run), strict=True))
    answer.update(zip(_TIMES, map(to_time, _get_times(run)), strict=True))
    answer.update(
        queue_position=view.queue_position,
        waiting_for=view.waiting_for or run.waiting_for,
        duration_seconds=None if not run.started_at or not until else (until - run.started_at).total_seconds(),
        cost_usd=run_cost(run) if run.status.is_final else None,
        log=dict(zip(_LOG_COUNTS, _get_log_counts(run), strict=True)),
        retries=_to_retries(run.retries),
        retried_by=view.retried_by,
        canceled_by=None if run.status in _ENDED_BY_ITSELF else run.stop_actor,
    )
    return answer


def to_difference(difference: Difference) -> dict[str, Any]:
    def told(pair: tuple[str, str | None] | None) -> dict[str, str | None] | None:
        return None if pair is None else {"then": pair[0], "now": pair[1]}

    return {
        "digest": told(difference.digest),
        "command": told(difference.command),
        "instance_type": told(difference.instance_type),
        "variables": {
            "changed": difference.changed,
            "only_then": difference.only_then,
            "only_now": difference.only_now,
        },
    }


def to_service(service: Service) -> dict[str, Any]:
    return {
        "id": service.id,
        "path": service.path,
        "type": service.type.value,
        "image": service.image,
        "digest": service.digest,
        "instance_type": service.instance_type,
        "networks": list(service.networks),
        "entrypoint": to_entrypoint(service.entrypoint),
        "suspended": service.suspended,
        "created_at": to_time(service.created_at),
        "capabilities": list(service.capabilities),
        "read_only_root": service.read_only_root,
        "user": service.user,
        "sandbox": service.sandbox,
        "registry_username": service.registry_username,
    }


def to_job(job: Job, variables: Mapping[str, Variable], *, reveal: bool = False) -> dict[str, Any]:
    return {
        "id": job.id,
        "name": job.name,
        "service_id": job.service_id,
        "service": job.service,
        "command": job.command.argv,
        "shell": job.command.shell,
        "entrypoint": None if job.entrypoint is None else to_entrypoint(job.entrypoint),
        "variables": to_variables(variables, reveal=reveal),
        "instance_type": job.instance_type,
        "timeout_seconds": job.timeout_seconds,
        "retries": _to_retries(job.retries),
        "retention": None if job.retention is None else json.loads(job.retention),
        "concurrency_group": job.concurrency_group,
        "gate": job.gate,
        "must_end_by": job.must_end_by,
        "warn_seconds": job.warn_seconds,
        "managed_by": job.managed_by,
        "created_at": to_time(job.created_at),
        "updated_at": to_time(job.updated_at),
    }


def to_deploy(deploy: Deploy, service: Service, gates: Sequence[DeployGate] = ()) -> dict[str, Any]:
    return {
        "id": deploy.id,
        "service_id": deploy.service_id,
        "service": service.path,
        "status": deploy.status.value,
        "image": deploy.image,
        "digest": deploy.digest,
        "actor": deploy.actor,
        "created_at": to_time(deploy.created_at),
        "finished_at": to_time(deploy.finished_at),
        "warning": warning_of(deploy, service.path, service.entrypoint),
        "message": deploy.message,
        "canceled_by": deploy.canceled_by,
        "gates": [
            {
                "gate": gate.gate.value,
                "job_id": gate.job_id,
                "job": gate.job,
                "run_id": gate.run_id,
                "status": None if gate.status is None else gate.status.value,
                "message": gate.message,
            }
            for gate in gates
        ],
    }


def to_variables(variables: Mapping[str, Variable], *, reveal: bool) -> dict[str, Any]:
    """Values only when they are asked for: most are harmless, and nobody can tell which."""
    return {
        name: {"value": variable.value if reveal else None, "secret": variable.secret}
        for name, variable in sorted(variables.items())
    }


def to_project(project: Project) -> dict[str, Any]:
    return {"id": project.id, "name": project.name, "created_at": to_time(project.created_at)}


def to_environment(environment: Environment) -> dict[str, Any]:
    return {
        "id": environment.id,
        "project_id": environment.project_id,
        "path": environment.path,
        "created_at": to_time(environment.created_at),
    }


def to_token(token: Token) -> dict[str, Any]:
    return {"id": token.id, "name": token.name, "admin": token.admin, "created_at": to_time(token.created_at)}


def to_node(load: NodeLoad) -> dict[str, Any]:
    node = load.node
    return {
        "node": node.node,
        "driver": node.driver,
        "engine": node.engine,
        "cpus": node.cpus,
        "memory_bytes": node.memory_bytes,
        "slots": node.slots,
        "slots_taken": load.taken,
        "seen_at": to_time(node.seen_at),
    }


def to_instance_type(each: InstanceType) -> dict[str, Any]:
    return {
        "id": each.id,
        "name": each.name,
        "class": each.klass.value,
        "cpus": each.cpus,
        "memory_bytes": each.memory_bytes,
        "price": _price(each),
        "usd_per_hour": format_usd(each.usd_per_second * 3600),
    }


def to_log_record(record: LogRecord) -> dict[str, Any]:
    head = {"position": record.position, "stream": record.stream, "time": to_time(from_us(record.time_us))}
    try:
        return head | {"text": record.data.decode()}
    except UnicodeDecodeError:
        return head | {"base64": base64.b64encode(record.data).decode()}


def to_entrypoint(entrypoint: Entrypoint) -> str | list[str]:
    return entrypoint if isinstance(entrypoint, str) else list(entrypoint)


@lru_cache(maxsize=256)
def _to_retries(text: str | None) -> dict[str, Any] | None:
    return None if text is None else to_plain(from_text(text))


def _price(each: InstanceType) -> str:
    """As the catalogue states it: by month for services, by minute for crons."""
    if each.klass is InstanceClass.SERVICE:
        return f"${_decimal(each.usd_per_second * _MONTH_SECONDS)}/month"
    return f"{_decimal(each.usd_per_second * 60 * 100)} ¢/minute"


def _decimal(amount: Fraction) -> str:
    return f"{float(amount):g}"
