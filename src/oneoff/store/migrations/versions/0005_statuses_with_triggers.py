"""Indexes of runs by status know the trigger, too: a list by both reads the index alone."""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    for name, before in (("ix_runs_status", []), ("ix_runs_service_status", ["service_id"])):
        op.drop_index(name, table_name="runs")
        op.create_index(name, "runs", [*before, "status", "id", "trigger"], unique=False)
