"""The tables of webhooks; see `tables`."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Index, Integer, LargeBinary, String, Table, Text

from oneoff.store.tables import metadata

webhooks = Table(
    "webhooks",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("workspace_id", String(32), ForeignKey("workspaces.id"), nullable=False),
    Column("kind", String(10), nullable=False),  # webhook, slack, email
    Column("form", String(20), nullable=False),  # of the bodies that it is sent
    Column("name", String(100), nullable=False),
    Column("shown", Text, nullable=False),  # where it leads, without what is secret in it
    Column("target_sealed", LargeBinary, nullable=False),  # the address, or JSON list of recipients
    Column("kinds", Text, nullable=False),  # JSON list: run.ended, run.*, *
    Column("types", Text, nullable=False),  # JSON list: of the bodies in its form; none = all
    Column("service_ids", Text, nullable=False),  # JSON list; none = all
    Column("failures_only", Boolean, nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("disabled_at", BigInteger),
    Column("disabled_reason", Text),
    Column("secret_sealed", LargeBinary, nullable=False),
    Column("old_secret_sealed", LargeBinary),
    Column("old_secret_until", BigInteger),
    Column("position", BigInteger, nullable=False),  # every event up to here was looked at
    Column("failing_since", BigInteger),  # the first failed attempt after the last success
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Index("ix_webhooks_workspace", "workspace_id", "id"),
)

# One event for one webhook, with the very body that every attempt sends.
webhook_deliveries = Table(
    "webhook_deliveries",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("webhook_id", String(32), ForeignKey("webhooks.id"), nullable=False),
    Column("event_id", String(32), nullable=False),
    Column("event_kind", String(40), nullable=False),
    Column("body", Text, nullable=False),
    Column("status", String(10), nullable=False),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("next_attempt_at", BigInteger, nullable=False),  # while one goes on: when it must have ended
    Column("created_at", BigInteger, nullable=False),
    Column("finished_at", BigInteger),
    Index("ix_webhook_deliveries_due", "webhook_id", "status", "next_attempt_at"),
    Index("ix_webhook_deliveries_webhook", "webhook_id", "id"),
)

webhook_attempts = Table(
    "webhook_attempts",
    metadata,
    Column("delivery_id", String(32), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("started_at", BigInteger, nullable=False),
    Column("duration_ms", Integer, nullable=False),
    Column("status_code", Integer),
    Column("error", Text),
    Column("answer", Text),  # how it begins
)
