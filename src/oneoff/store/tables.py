"""The tables. Times are microseconds since 1970, UTC, in 64-bit integers: the same on both databases, and exact.

Columns that end in `_sealed` hold AES-256-GCM boxes of `oneoff.sealing`; JSON columns hold text.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Identity,
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

_GOING = "finished_at IS NULL"
_ENDED = "finished_at IS NOT NULL"
_IN_BATCH = "batch_id IS NOT NULL"
_OF_JOB = "job_id IS NOT NULL"


def _id() -> Column[str]:
    return Column("id", String(32), primary_key=True)


def partial_index(name: str, columns: str, where: str, *, unique: bool = False) -> Index:
    """Of the rows where `where` holds. PostgreSQL is told that by `conditions_for_postgres`: a word about it here would
    load all that SQLAlchemy knows of it, 1.4 MB, also for those on SQLite."""
    return Index(name, *columns.split(), unique=unique, sqlite_where=text(where), info={"where": where})


def conditions_for_postgres() -> None:
    for table in metadata.tables.values():
        for index in table.indexes:
            if (where := index.info.get("where")) is not None:
                index.dialect_kwargs["postgresql_where"] = text(where)


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
    Column("crons_paused", Boolean, nullable=False, server_default=text("false")),
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
    Column("crons_paused", Boolean, nullable=False, server_default=text("false")),
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
    Column("canceled_by", String(200)),
    Column("created_at", BigInteger, nullable=False),
    Column("finished_at", BigInteger),
    Index("ix_deploys_service", "service_id", "id"),
    partial_index("ix_deploys_unfinished", "service_id", _GOING),
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
    Column("terms", String(100)),  # size and price of it when the run was made: core.terms
    Column("timeout_seconds", Integer, nullable=False),
    Column("grace_seconds", Integer, nullable=False),
    Column("variables_sealed", LargeBinary, nullable=False),
    Column("scheduled_for", BigInteger),  # the due instant of its tick
    Column("batch_index", Integer),
    Column("retries", Text),  # JSON of core.retry.RetryPolicy, as it was when the first attempt was accepted
    Column("concurrency_group", String(63)),
    Column("not_before", BigInteger),  # a retry that waits for its back-off
    Column("must_end_at", BigInteger),
    Column("warn_seconds", Integer),  # so long before its time limit a warning event is recorded
    Column("warned_at", BigInteger),
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
    # With the trigger behind the order: a list by both, which may find few among very many, reads no rows in vain.
    Index("ix_runs_status", "status", "id", "trigger"),
    Index("ix_runs_trigger", "trigger", "id"),
    # Most runs are of no job, cron or batch: what accepting one writes is what it costs.
    partial_index("ix_runs_job", "job_id id", _OF_JOB),
    partial_index("ix_runs_cron", "cron_id id", "cron_id IS NOT NULL"),
    partial_index("ix_runs_batch", "batch_id id", _IN_BATCH),
    # An item of a batch is never run twice, whatever two servers do at once.
    partial_index("uq_runs_batch_item", "batch_id batch_index attempt", _IN_BATCH, unique=True),
    # What history and usage ask: ended runs, of a job or ad hoc of a service, and of a time. Each is in two of these.
    partial_index("ix_runs_ended_of_job", "job_id finished_at status", f"{_ENDED} AND {_OF_JOB}"),
    partial_index("ix_runs_ended_ad_hoc", "service_id finished_at status job_id", f"{_ENDED} AND job_id IS NULL"),
    partial_index("ix_runs_finished", "finished_at", _ENDED),
    # What overlap policies ask at each tick: the few runs of a job that have not ended. By two columns, so that SQLite
    # takes it, and not the one of all runs of the job.
    partial_index("ix_runs_going_of_job", "job_id finished_at", f"{_GOING} AND {_OF_JOB}"),
    # So that a list of one service finds the few of a rare status among a million others.
    Index("ix_runs_service_status", "service_id", "status", "id", "trigger"),
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

jobs = Table(
    "jobs",
    metadata,
    _id(),
    _owner("workspace_id", "workspaces"),
    _owner("service_id", "services"),
    Column("name", String(63), nullable=False),
    Column("command", Text),  # JSON list, or NULL when `shell` is set
    Column("shell", Text),
    Column("entrypoint", Text),  # JSON; NULL = as the service has it
    Column("variables_sealed", LargeBinary, nullable=False),
    Column("instance_type", String(20)),
    Column("timeout_seconds", Integer),
    Column("retries", Text),  # JSON of core.retry.RetryPolicy
    Column("retention", Text),  # JSON of core.retention.Retention; NULL = as the plan has it
    Column("concurrency_group", String(63)),
    Column("gate", String(20)),  # before_deploy, after_deploy
    Column("must_end_by", String(40)),  # "08:00 Europe/Berlin"
    Column("warn_seconds", Integer),
    Column("managed_by", Text),  # the job file that made it
    Column("failing_since", BigInteger),  # the first failure after its last success; NULL = its last end was one
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    UniqueConstraint("service_id", "name"),
)

concurrency_groups = Table(
    "concurrency_groups",
    metadata,
    Column("workspace_id", String(32), primary_key=True),
    Column("name", String(63), primary_key=True),
    Column("most", Integer, nullable=False),
)

crons = Table(
    "crons",
    metadata,
    _id(),
    _owner("workspace_id", "workspaces"),
    _owner("job_id", "jobs"),
    Column("name", String(63), nullable=False),
    Column("expression", String(200), nullable=False),
    Column("zone", String(64), nullable=False),
    Column("overlap", String(10), nullable=False),
    Column("dst_policy", String(10), nullable=False),
    Column("catch_up", String(10), nullable=False),
    Column("catch_up_seconds", Integer, nullable=False),
    Column("jitter_seconds", Integer, nullable=False),
    Column("starts_at", BigInteger),
    Column("ends_at", BigInteger),
    Column("paused", Boolean, nullable=False),
    Column("hold_during_deploy", Boolean, nullable=False),
    Column("alert_after_ticks", Integer),  # no success for so many expected ticks raises an event
    Column("alerted_at", BigInteger),
    Column("managed_by", Text),
    Column("cursor", BigInteger, nullable=False),  # every instant up to here is in the ledger
    Column("next_due_at", BigInteger),  # the first instant behind the cursor, with its jitter; NULL = none
    Column("version", Integer, nullable=False, server_default="1"),  # guards the cursor against a second scheduler
    Column("created_at", BigInteger, nullable=False),
    UniqueConstraint("job_id", "name"),
    Index("ix_crons_next_due", "next_due_at"),
)

# Every due instant of a cron and what became of it. A stretch is one row from `due_at` to `until`.
ticks = Table(
    "ticks",
    metadata,
    Column("cron_id", String(32), primary_key=True),  # no foreign key: the ledger outlives its cron
    Column("due_at", BigInteger, primary_key=True),
    Column("outcome", String(20), nullable=False),
    Column("run_id", String(32)),
    Column("until", BigInteger),
    Column("count", Integer, nullable=False, server_default="1"),
    Column("message", Text),
    Column("decided_at", BigInteger, nullable=False),
)

batches = Table(
    "batches",
    metadata,
    _id(),
    _owner("workspace_id", "workspaces"),
    Column("service_id", String(32), nullable=False),
    Column("job_id", String(32)),
    Column("status", String(10), nullable=False),
    Column("max_parallel", Integer, nullable=False),
    Column("stop_on_failure", Boolean, nullable=False),
    Column("item_count", Integer, nullable=False),
    Column("index_count", Integer, nullable=False),  # ONEOFF_BATCH_COUNT; a rerun of some items keeps it
    # Items by status, kept beside the items so that lists need not count; those that wait are the rest.
    Column("going", Integer, nullable=False),
    Column("succeeded", Integer, nullable=False),
    Column("failed", Integer, nullable=False),
    Column("canceled", Integer, nullable=False),
    Column("template", Text, nullable=False),  # JSON of core.batch.Template: what the runs of all items share
    Column("request_sealed", LargeBinary, nullable=False),  # the variables that they share, as JSON
    Column("rerun_of", String(32)),
    Column("actor", String(200), nullable=False),
    Column("canceled_by", String(200)),
    Column("stopped_index", Integer),  # the item whose failure stopped it
    Column("created_at", BigInteger, nullable=False),
    Column("finished_at", BigInteger),
    Index("ix_batches_service", "service_id", "id"),
    Index("ix_batches_job", "job_id", "id"),
    Index("ix_batches_status", "status", "id"),
)

batch_items = Table(
    "batch_items",
    metadata,
    Column("batch_id", String(32), primary_key=True),
    Column("index", Integer, primary_key=True),
    Column("item_sealed", LargeBinary, nullable=False),  # arguments and variables as JSON
    Column("run_id", String(32)),  # its newest attempt; NULL = was never in the queue
    Column("status", String(10), nullable=False),
    Index("ix_batch_items_status", "batch_id", "status", "index"),
)

# `seq` grows in the order of commits: whoever has read up to one of them has missed nothing before it.
events = Table(
    "events",
    metadata,
    Column("seq", BigInteger().with_variant(Integer, "sqlite"), Identity(), primary_key=True),
    Column("id", String(32), nullable=False, unique=True),
    _owner("workspace_id", "workspaces"),
    Column("service_id", String(32)),  # no foreign key: events outlive their service
    Column("kind", String(40), nullable=False),
    Column("subject_id", String(32), nullable=False),
    Column("body", Text, nullable=False),  # JSON
    Column("created_at", BigInteger, nullable=False),
    Index("ix_events_kind", "kind", "seq"),
    Index("ix_events_subject", "subject_id", "seq"),
    Index("ix_events_service", "service_id", "seq"),
    sqlite_autoincrement=True,  # the number of a row that expired is not given again
)
