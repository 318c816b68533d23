"""The tables of log streams: where logs are sent, and how far they have been."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, LargeBinary, String, Table, Text

from oneoff.store.tables import metadata

# `scope_id` is a workspace or a service: at most one stream of each.
log_streams = Table(
    "log_streams",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("workspace_id", String(32), nullable=False),
    Column("scope_id", String(32), nullable=False, unique=True),
    Column("setting", String(4), nullable=False),  # send, drop
    Column("kind", String(10)),  # syslog, otlp; NULL with `drop`
    Column("endpoint", Text),
    Column("protocol", String(4)),
    Column("framing", String(8)),
    Column("token_sealed", LargeBinary),
    Column("ca_pem", Text),
    Column("version", String(24), nullable=False),  # another one after each change
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
)

# What each server saw of a stream. Rows go with their stream.
log_stream_states = Table(
    "log_stream_states",
    metadata,
    Column("stream_id", String(32), primary_key=True),
    Column("node", String(64), primary_key=True),
    Column("connected_since", BigInteger),
    Column("failing_since", BigInteger),
    Column("told_at", BigInteger),  # when the event of its failing was recorded
    Column("last_error", Text),
    Column("last_error_at", BigInteger),
    Column("lines_sent", BigInteger, nullable=False),
    Column("lines_dropped", BigInteger, nullable=False),
    Column("lag_bytes", BigInteger, nullable=False),
    Column("oldest_unsent_at", BigInteger),
    Column("updated_at", BigInteger, nullable=False),
)

# How far the log of a run was sent. Only of runs in work, and of those sent minutes ago: see store/log_positions.py.
log_positions = Table(
    "log_positions",
    metadata,
    Column("run_id", String(32), primary_key=True),
    Column("stream_id", String(32), nullable=False),  # the one in force when the run was made
    Column("node", String(64)),  # NULL until it is known where it runs
    Column("position", BigInteger, nullable=False),  # every line that ends up to here was sent
    Column("open_from", BigInteger, nullable=False),  # where the earliest line begins that had no end then
    Column("dropped_lines", Integer, nullable=False),  # still to be told of
    Column("is_complete", Boolean, nullable=False),
    Column("origin", Text, nullable=False),  # JSON of core.log_origin.LogOrigin
    Index("ix_log_positions_stream", "stream_id", "node", "is_complete", "run_id"),
)

# Of each node the id before which every run has a position, or needs none.
log_marks = Table(
    "log_marks",
    metadata,
    Column("node", String(64), primary_key=True),
    Column("run_id", String(32), nullable=False),
)
