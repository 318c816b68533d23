"""The tables of deploys beside the deploys themselves. Conventions: `tables`."""

from __future__ import annotations

from sqlalchemy import Column, String, Table, Text

from oneoff.store.tables import metadata, partial_index

_OPEN = "status IS NULL"

# Of each deploy the jobs that gate it or follow it, and what became of their runs. History outlives jobs and runs.
deploy_gates = Table(
    "deploy_gates",
    metadata,
    Column("deploy_id", String(32), primary_key=True),
    Column("job_id", String(32), primary_key=True),
    Column("job", String(63), nullable=False),  # its name
    Column("gate", String(20), nullable=False),  # before_deploy, after_deploy
    Column("run_id", String(32)),  # the newest attempt; NULL = it could not be accepted
    Column("status", String(10)),  # of the last attempt, once it has ended
    Column("message", Text),
    partial_index("ix_deploy_gates_open", "deploy_id", _OPEN),
)
