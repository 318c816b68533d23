"""The tables. Times are microseconds since 1970, UTC, in 64-bit integers: the same on both databases, and exact.

Columns that end in `_sealed` hold AES-256-GCM boxes of `oneoff.sealing`; JSON columns hold text.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _id() -> Column[str]:
    return Column("id", String(32), primary_key=True)


def _owner(name: str, table: str) -> Column[str]:
    return Column(name, String(32), ForeignKey(f"{table}.id"), nullable=False)


installation = Table(
    "installation",
    metadata,
    Column("name", String(40), primary_key=True),  # instance, workspace …
    Column("value", Text, nullable=False),
)

workspaces = Table(
    "workspaces",
    metadata,
    _id(),
    Column("name", String(63), nullable=False),
    Column("plan", String(20), nullable=False),
    Column("created_at", BigInteger, nullable=False),
)

projects = Table(
    "projects",
    metadata,
    _id(),
    _owner("workspace_id", "workspaces"),
    Column("name", String(63), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    UniqueConstraint("workspace_id", "name"),
)

environments = Table(
    "environments",
    metadata,
    _id(),
    _owner("project_id", "projects"),
    Column("name", String(63), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    UniqueConstraint("project_id", "name"),
)

services = Table(
    "services",
    metadata,
    _id(),
    _owner("workspace_id", "workspaces"),
    _owner("environment_id", "environments"),
    Column("name", String(63), nullable=False),
    Column("path", String(200), nullable=False, unique=True),
    Column("type", String(20), nullable=False),
    Column("instance_type", String(20), nullable=False),
    Column("networks", Text, nullable=False),  # JSON list
    Column("entrypoint", Text, nullable=False),  # JSON: "keep", "clear" or a list
    Column("capabilities", Text, nullable=False),  # JSON list, without CAP_
    Column("read_only_root", Boolean, nullable=False),
    Column("user", String(200)),
    Column("sandbox", String(20)),
    Column("suspended", Boolean, nullable=False),
    Column("live_deploy_id", String(32)),
    Column("registry_username", String(200)),
    Column("registry_password_sealed", LargeBinary),
    Column("created_at", BigInteger, nullable=False),
    UniqueConstraint("environment_id", "name"),
)

# One row per variable; `owner_id` is an environment or a service.
variables = Table(
    "variables",
    metadata,
    Column("owner_id", String(32), primary_key=True),
    Column("name", Text, primary_key=True),
    Column("secret", Boolean, nullable=False),
    Column("value_sealed", LargeBinary, nullable=False),
)

deploys = Table(
    "deploys",
    metadata,
    _id(),
    _owner("service_id", "services"),
    Column("status", String(24), nullable=False),
    Column("image", Text, nullable=False),  # as the user wrote it
    Column("image_ref", Text),  # what prepare() takes to get the very same image again
    Column("digest", String(80)),
    Column("image_config", Text),  # JSON of core.image.ImageConfig
    Column("message", Text),
    Column("actor", String(200), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("finished_at", BigInteger),
    Index("ix_deploys_service", "service_id", "id"),
)

runs = Table(
    "runs",
    metadata,
    _id(),
    _owner("workspace_id", "workspaces"),
    Column("service_id", String(32), nullable=False),  # no foreign key: history outlives its service
    Column("service", String(200), nullable=False),
    Column("deploy_id", String(32)),
    Column("job_id", String(32)),
    Column("cron_id", String(32)),
    Column("batch_id", String(32)),
    Column("attempt", Integer, nullable=False, server_default="1"),
    Column("retry_of", String(32)),
    Column("rerun_of", String(32)),
    Column("trigger", String(10), nullable=False),
    Column("actor", String(200), nullable=False),
    Column("status", String(10), nullable=False),
    Column("reason", String(20)),
    Column("message", Text),
    Column("exit_code", Integer),
    Column("signal", Integer),
    Column("oom_seen", Boolean, nullable=False, server_default=text("false")),
    Column("command", Text),  # JSON list, or NULL when `shell` is set
    Column("shell", Text),
    Column("entrypoint", Text, nullable=False),  # JSON
    Column("image", Text, nullable=False),
    Column("image_ref", Text, nullable=False),
    Column("digest", String(80), nullable=False),
    Column("instance_type", String(20), nullable=False),
    Column("timeout_seconds", Integer, nullable=False),
    Column("grace_seconds", Integer, nullable=False),
    Column("variables_sealed", LargeBinary, nullable=False),
    # Where it runs. Written before the engine is called, so that it is found again after a crash.
    Column("node", String(64)),
    Column("driver", String(20)),
    Column("container_name", String(80)),
    Column("engine_id", String(128)),
    Column("lease", String(32)),
    # Who asked for its end, committed before any signal is sent.
    Column("stop_kind", String(10)),
    Column("stop_at", BigInteger),
    Column("stop_actor", String(200)),
    Column("waiting_for", Text),
    Column("created_at", BigInteger, nullable=False),
    Column("starting_at", BigInteger),
    Column("started_at", BigInteger),
    Column("finished_at", BigInteger),
    Column("seen_at", BigInteger),  # the last moment the container was seen; a lost run is billed up to it
    Column("stdout_bytes", BigInteger, nullable=False, server_default="0"),
    Column("stderr_bytes", BigInteger, nullable=False, server_default="0"),
    Column("missing_bytes", BigInteger, nullable=False, server_default="0"),
    Index("ix_runs_service", "service_id", "id"),
    Index("ix_runs_status", "status", "id"),
    Index("ix_runs_trigger", "trigger", "id"),
    # So that a list of one service finds the few of a rare status among a million others.
    Index("ix_runs_service_status", "service_id", "status", "id"),
    Index("ix_runs_service_trigger", "service_id", "trigger", "id"),
)

tokens = Table(
    "tokens",
    metadata,
    _id(),
    _owner("workspace_id", "workspaces"),
    Column("name", String(100), nullable=False),
    Column("sha256", String(64), nullable=False, unique=True),
    Column("admin", Boolean, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("revoked_at", BigInteger),
)

# What a creating POST with an Idempotency-Key answered; written in the transaction that created it.
idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("token_id", String(32), primary_key=True),
    Column("key", String(255), primary_key=True),
    Column("request_sha256", String(64), nullable=False),
    Column("resource_id", String(32), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Index("ix_idempotency_keys_created", "created_at"),
)

nodes = Table(
    "nodes",
    metadata,
    Column("node", String(64), primary_key=True),
    Column("driver", String(20), primary_key=True),
    Column("lease", String(32), nullable=False),
    Column("engine", String(100), nullable=False),
    Column("cpus", Integer, nullable=False),
    Column("memory_bytes", BigInteger, nullable=False),
    Column("slots", Integer, nullable=False),
    Column("seen_at", BigInteger, nullable=False),
)
