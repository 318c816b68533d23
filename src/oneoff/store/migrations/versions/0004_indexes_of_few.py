"""Indexes of the runs of jobs, crons and batches leave out those of none: accepting a run writes four entries less."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    for owner in ("job", "cron", "batch"):
        _make_anew(f"ix_runs_{owner}", [f"{owner}_id", "id"], f"{owner}_id IS NOT NULL")
    _make_anew("ix_runs_going_of_job", ["job_id", "finished_at"], "finished_at IS NULL AND job_id IS NOT NULL")


def _make_anew(name: str, columns: list[str], where: str) -> None:
    op.drop_index(name, table_name="runs")
    op.create_index(name, "runs", columns, unique=False, sqlite_where=sa.text(where), postgresql_where=sa.text(where))
