"""What gates a deploy and what follows it: of each job its run, from the newest attempt to the last. Called by the
operations and the deployer."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, func, insert, select, update

from oneoff.core.gates import Gate
from oneoff.core.run import RunStatus
from oneoff.store.deploy_tables import deploy_gates
from oneoff.store.tables import deploys, runs


@dataclass(frozen=True, slots=True)
class DeployGate:
    """`run_id` is the newest attempt that is known, None when no run could be accepted. `status` is where that run
    stands; it has an `end` when no attempt follows any more."""

    deploy_id: str
    job_id: str
    job: str  # its name when the deploy was made
    gate: Gate
    run_id: str | None
    end: RunStatus | None = None
    message: str | None = None
    status: RunStatus | None = None


_COLUMNS = (*deploy_gates.c, func.coalesce(deploy_gates.c.status, runs.c.status).label("seen"))
_SELECT = select(*_COLUMNS).outerjoin_from(deploy_gates, runs, deploy_gates.c.run_id == runs.c.id)


def save_new(connection: Connection, gate: DeployGate) -> None:
    row = {
        "deploy_id": gate.deploy_id,
        "job_id": gate.job_id,
        "job": gate.job,
        "gate": gate.gate.value,
        "run_id": gate.run_id,
        "status": None if gate.end is None else gate.end.value,
        "message": gate.message,
    }
    connection.execute(insert(deploy_gates).values(row))


def list_gates(connection: Connection, deploy_ids: Collection[str]) -> list[DeployGate]:
    """Of these deploys, those before first."""
    if not deploy_ids:
        return []
    order = (deploy_gates.c.gate.desc(), deploy_gates.c.job)
    query = _SELECT.where(deploy_gates.c.deploy_id.in_(deploy_ids)).order_by(*order)
    return [
        DeployGate(
            deploy_id=row.deploy_id,
            job_id=row.job_id,
            job=row.job,
            gate=Gate(row.gate),
            run_id=row.run_id,
            end=None if row.status is None else RunStatus(row.status),
            message=row.message,
            status=None if row.seen is None else RunStatus(row.seen),
        )
        for row in connection.execute(query)
    ]


def list_open(connection: Connection) -> Sequence[str]:
    """Ids of the deploys some of whose runs are not known to have ended."""
    query = select(deploy_gates.c.deploy_id).where(deploy_gates.c.status.is_(None)).distinct()
    return connection.execute(query).scalars().all()


def find_open_of_service(connection: Connection, service_id: str) -> DeployGate | None:
    """A run before a deploy that goes on although its deploy has ended."""
    query = (
        select(deploy_gates)
        .join_from(deploy_gates, deploys, deploy_gates.c.deploy_id == deploys.c.id)
        .where(deploys.c.service_id == service_id, deploys.c.finished_at.is_not(None))
        .where(deploy_gates.c.status.is_(None), deploy_gates.c.gate == Gate.BEFORE_DEPLOY.value)
        .limit(1)
    )
    row = connection.execute(query).one_or_none()
    if row is None:
        return None
    return DeployGate(row.deploy_id, row.job_id, row.job, Gate(row.gate), row.run_id)


def save_attempt(connection: Connection, gate: DeployGate, run_id: str, end: RunStatus | None) -> bool:
    """The newest attempt, and its status once no other follows. False when the end was written before."""
    same = (deploy_gates.c.deploy_id == gate.deploy_id, deploy_gates.c.job_id == gate.job_id)
    values = {"run_id": run_id, "status": None if end is None else end.value}
    still = update(deploy_gates).where(*same, deploy_gates.c.status.is_(None))
    return connection.execute(still.values(values)).rowcount == 1
