"""What remains of runs that the history has dropped: their seconds, for the bill."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, String, Table

from oneoff.store.tables import metadata

usage = Table(
    "usage",
    metadata,
    Column("workspace_id", String(32), primary_key=True),
    Column("day", Integer, primary_key=True),  # of the end, UTC, in days since 1970
    Column("service_id", String(32), primary_key=True),
    Column("job_id", String(32), primary_key=True),  # "" = ad hoc
    Column("instance_type", String(20), primary_key=True),
    Column("terms", String(100), primary_key=True),  # as in the run; "" = it had none
    Column("service", String(200), nullable=False),
    Column("runs", BigInteger, nullable=False),
    Column("seconds", BigInteger, nullable=False),
    Index("ix_usage_day", "day"),
)
