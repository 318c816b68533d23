"""What fires, bounds and bills runs, and what the outside world hears of them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    _batches()
    _gates()
    _limits()
    _events()
    _webhooks()
    _log_streams()


def _batches() -> None:
    """Batches and their items. Their tables were made before anything wrote them."""
    op.drop_table("batches")
    op.create_table(
        "batches",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("workspace_id", sa.String(length=32), nullable=False),
        sa.Column("service_id", sa.String(length=32), nullable=False),
        sa.Column("job_id", sa.String(length=32), nullable=True),
        sa.Column("status", sa.String(length=10), nullable=False),
        sa.Column("max_parallel", sa.Integer(), nullable=False),
        sa.Column("stop_on_failure", sa.Boolean(), nullable=False),
        sa.Column("item_count", sa.Integer(), nullable=False),
        sa.Column("index_count", sa.Integer(), nullable=False),
        *(sa.Column(name, sa.Integer(), nullable=False) for name in ("going", "succeeded", "failed", "canceled")),
        sa.Column("template", sa.Text(), nullable=False),
        sa.Column("request_sealed", sa.LargeBinary(), nullable=False),
        sa.Column("rerun_of", sa.String(length=32), nullable=True),
        sa.Column("actor", sa.String(length=200), nullable=False),
        sa.Column("canceled_by", sa.String(length=200), nullable=True),
        sa.Column("stopped_index", sa.Integer(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["workspace_id"], ["workspaces.id"], name=op.f("fk_batches_workspace_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_batches")),
    )
    for name in ("service", "job"):
        op.create_index(f"ix_batches_{name}", "batches", [f"{name}_id", "id"], unique=False)
    op.create_index("ix_batches_status", "batches", ["status", "id"], unique=False)
    in_batch = sa.text("batch_id IS NOT NULL")
    op.create_index(
        "uq_runs_batch_item",
        "runs",
        ["batch_id", "batch_index", "attempt"],
        unique=True,
        sqlite_where=in_batch,
        postgresql_where=in_batch,
    )


def _gates() -> None:
    """Gates of deploys."""
    op.add_column("deploys", sa.Column("canceled_by", sa.String(200)))
    unfinished, is_open = sa.text("finished_at IS NULL"), sa.text("status IS NULL")
    op.create_index(
        "ix_deploys_unfinished", "deploys", ["service_id"], sqlite_where=unfinished, postgresql_where=unfinished
    )
    op.create_table(
        "deploy_gates",
        sa.Column("deploy_id", sa.String(32), nullable=False),
        sa.Column("job_id", sa.String(32), nullable=False),
        sa.Column("job", sa.String(63), nullable=False),
        sa.Column("gate", sa.String(20), nullable=False),
        sa.Column("run_id", sa.String(32)),
        sa.Column("status", sa.String(10)),
        sa.Column("message", sa.Text),
        sa.PrimaryKeyConstraint("deploy_id", "job_id", name="pk_deploy_gates"),
    )
    op.create_index(
        "ix_deploy_gates_open", "deploy_gates", ["deploy_id"], sqlite_where=is_open, postgresql_where=is_open
    )


def _limits() -> None:
    """What a run's instance type was when it was made; indexes of ended runs; what remains of dropped ones."""
    op.add_column("runs", sa.Column("terms", sa.String(length=100), nullable=True))
    ended = "finished_at IS NOT NULL"
    indexes = {
        "ix_runs_ended_of_job": (["job_id", "finished_at", "status"], f"{ended} AND job_id IS NOT NULL"),
        "ix_runs_ended_ad_hoc": (["service_id", "finished_at", "status", "job_id"], f"{ended} AND job_id IS NULL"),
        "ix_runs_finished": (["finished_at"], ended),
    }
    for name, (columns, where) in indexes.items():
        condition = sa.text(where)
        op.create_index(name, "runs", columns, unique=False, sqlite_where=condition, postgresql_where=condition)
    op.create_table(
        "usage",
        sa.Column("workspace_id", sa.String(length=32), nullable=False),
        sa.Column("day", sa.Integer(), nullable=False),
        sa.Column("service_id", sa.String(length=32), nullable=False),
        sa.Column("job_id", sa.String(length=32), nullable=False),
        sa.Column("instance_type", sa.String(length=20), nullable=False),
        sa.Column("terms", sa.String(length=100), nullable=False),
        sa.Column("service", sa.String(length=200), nullable=False),
        sa.Column("runs", sa.BigInteger(), nullable=False),
        sa.Column("seconds", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(
            *("workspace_id", "day", "service_id", "job_id", "instance_type", "terms"), name=op.f("pk_usage")
        ),
    )
    op.create_index("ix_usage_day", "usage", ["day"], unique=False)


def _events() -> None:
    """The order in which events were committed; those of before in the order of their ids. Since when a job fails."""
    op.execute("CREATE TABLE events_before AS SELECT * FROM events")
    op.drop_table("events")
    op.create_table(
        "events",
        sa.Column(
            "seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), sa.Identity(always=False), nullable=False
        ),
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("workspace_id", sa.String(length=32), nullable=False),
        sa.Column("service_id", sa.String(length=32), nullable=True),
        sa.Column("kind", sa.String(length=40), nullable=False),
        sa.Column("subject_id", sa.String(length=32), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["workspace_id"], ["workspaces.id"], name=op.f("fk_events_workspace_id")),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_events")),
        sa.UniqueConstraint("id", name=op.f("uq_events_id")),
        sqlite_autoincrement=True,
    )
    for name in ("kind", "subject", "service"):
        column = name if name == "kind" else f"{name}_id"
        op.create_index(f"ix_events_{name}", "events", [column, "seq"], unique=False)
    names = "id, workspace_id, kind, subject_id, body, created_at"
    op.execute(f"INSERT INTO events ({names}) SELECT {names} FROM events_before ORDER BY id")  # noqa: S608 - constant
    op.drop_table("events_before")
    op.add_column("jobs", sa.Column("failing_since", sa.BigInteger(), nullable=True))


def _webhooks() -> None:
    """Who is told of events, and what became of it."""
    op.create_table(
        "webhooks",
        *(sa.Column(name, sa.String(length=size), nullable=False) for name, size in (("id", 32), ("workspace_id", 32))),
        *(sa.Column(name, sa.String(length=size), nullable=False) for name, size in (("kind", 10), ("form", 20))),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("shown", sa.Text(), nullable=False),
        sa.Column("target_sealed", sa.LargeBinary(), nullable=False),
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("kinds", "types", "service_ids")),
        *(sa.Column(name, sa.Boolean(), nullable=False) for name in ("failures_only", "enabled")),
        sa.Column("disabled_at", sa.BigInteger(), nullable=True),
        sa.Column("disabled_reason", sa.Text(), nullable=True),
        sa.Column("secret_sealed", sa.LargeBinary(), nullable=False),
        sa.Column("old_secret_sealed", sa.LargeBinary(), nullable=True),
        sa.Column("old_secret_until", sa.BigInteger(), nullable=True),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("failing_since", sa.BigInteger(), nullable=True),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in ("created_at", "updated_at")),
        sa.ForeignKeyConstraint(["workspace_id"], ["workspaces.id"], name=op.f("fk_webhooks_workspace_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhooks")),
    )
    op.create_index("ix_webhooks_workspace", "webhooks", ["workspace_id", "id"], unique=False)
    _webhook_deliveries()


def _webhook_deliveries() -> None:
    op.create_table(
        "webhook_deliveries",
        *(sa.Column(name, sa.String(length=32), nullable=False) for name in ("id", "webhook_id", "event_id")),
        sa.Column("event_kind", sa.String(length=40), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("status", sa.String(length=10), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in ("next_attempt_at", "created_at")),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["webhook_id"], ["webhooks.id"], name=op.f("fk_webhook_deliveries_webhook_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_deliveries")),
    )
    due = ["webhook_id", "status", "next_attempt_at"]
    op.create_index("ix_webhook_deliveries_due", "webhook_deliveries", due, unique=False)
    op.create_index("ix_webhook_deliveries_webhook", "webhook_deliveries", ["webhook_id", "id"], unique=False)
    op.create_table(
        "webhook_attempts",
        sa.Column("delivery_id", sa.String(length=32), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("duration_ms", sa.Integer(), nullable=False),
        sa.Column("status_code", sa.Integer(), nullable=True),
        *(sa.Column(name, sa.Text(), nullable=True) for name in ("error", "answer")),
        sa.PrimaryKeyConstraint("delivery_id", "number", name=op.f("pk_webhook_attempts")),
    )


def _log_streams() -> None:
    """Where logs are sent, and how far they have been."""
    op.create_table(
        "log_streams",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("workspace_id", sa.String(length=32), nullable=False),
        sa.Column("scope_id", sa.String(length=32), nullable=False),
        sa.Column("setting", sa.String(length=4), nullable=False),
        sa.Column("kind", sa.String(length=10), nullable=True),
        sa.Column("endpoint", sa.Text(), nullable=True),
        sa.Column("protocol", sa.String(length=4), nullable=True),
        sa.Column("framing", sa.String(length=8), nullable=True),
        sa.Column("token_sealed", sa.LargeBinary(), nullable=True),
        sa.Column("ca_pem", sa.Text(), nullable=True),
        sa.Column("version", sa.String(length=24), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_log_streams")),
        sa.UniqueConstraint("scope_id", name=op.f("uq_log_streams_scope_id")),
    )
    op.create_table(
        "log_stream_states",
        sa.Column("stream_id", sa.String(length=32), nullable=False),
        sa.Column("node", sa.String(length=64), nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=True) for name in ("connected_since", "failing_since", "told_at")),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("last_error_at", sa.BigInteger(), nullable=True),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in ("lines_sent", "lines_dropped", "lag_bytes")),
        sa.Column("oldest_unsent_at", sa.BigInteger(), nullable=True),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("stream_id", "node", name=op.f("pk_log_stream_states")),
    )
    _log_positions()


def _log_positions() -> None:
    op.create_table(
        "log_positions",
        sa.Column("run_id", sa.String(length=32), nullable=False),
        sa.Column("stream_id", sa.String(length=32), nullable=False),
        sa.Column("node", sa.String(length=64), nullable=True),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("open_from", sa.BigInteger(), nullable=False),
        sa.Column("dropped_lines", sa.Integer(), nullable=False),
        sa.Column("is_complete", sa.Boolean(), nullable=False),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_log_positions")),
    )
    op.create_index("ix_log_positions_stream", "log_positions", ["stream_id", "node", "is_complete", "run_id"])
    op.create_table(
        "log_marks",
        sa.Column("node", sa.String(length=64), nullable=False),
        sa.Column("run_id", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("node", name=op.f("pk_log_marks")),
    )
