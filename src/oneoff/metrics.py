"""Every metric of the server: the table behind docs/metrics.md. Added to where things happen, read by
`operations.scrape`.

Labels are of bounded sets only: never the id of a run, never a service, never anything a caller wrote.
"""

from __future__ import annotations

from oneoff.core.events import KINDS
from oneoff.core.run import REASONS, Trigger
from oneoff.core.ticks import TickOutcome
from oneoff.core.webhook import WebhookKind
from oneoff.meters import Counter, Gauge, Histogram, Meter

# A run waits and starts within milliseconds when all is well; from a second on people notice; an hour is a full queue.
_WAITS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60, 300, 1800, 3600)
# From `true` to the 30 days that no run may exceed; 24 h is the longest run of the Pro plan.
_DURATIONS = (0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600, 4 * 3600, 12 * 3600, 86_400, 7 * 86_400, 30 * 86_400)
# A tick is punctual up to 60 s; what is later was caught up after an absence.
_LATENESS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60, 3600, 86_400)
# An fsync takes 0.1 ms on a good disk and 100 ms on a bad one; beyond that something is wrong.
_COMMITS = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5)
_GROUPS = (1, 2, 4, 8, 16, 32, 64, 128, 256)  # 256 is the most that one commit takes
_ANSWERS = (0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5, 30)
_CALLS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30, 600)  # 600 s is the default limit of a start
# A receiver has 15 s.
_WEB = (0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 15)
_PULLS = (0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)

_AGENTS = (
    *("dispatcher", "scheduler", "batcher", "deployer", "rescuer"),
    *("deliverer", "forwarder", "heart", "historian", "janitor"),
)
_TRIGGERS = [(trigger.value,) for trigger in Trigger]
_ENDS = [(s.value, r.value, t.value) for s, reasons in REASONS.items() for r in sorted(reasons) for t in Trigger]

# Runs.
RUNS_ACCEPTED = Counter("oneoff_runs_accepted_total", "Runs accepted, by what made them.", ["trigger"], _TRIGGERS)
RUNS_ENDED = Counter(
    "oneoff_runs_ended_total",
    "Runs that ended, by status and reason (docs/states.md) and by what made them.",
    ["status", "reason", "trigger"],
    _ENDS,
)
RUNS = Gauge(
    "oneoff_runs",
    "Runs that have not ended, by status: of the whole installation, so the same on each of its servers.",
    ["status"],
)
QUEUE_OLDEST_SECONDS = Gauge(
    "oneoff_queue_oldest_seconds",
    "Age of the oldest run that waits for a slot or a concurrency group, 0 when none does. Of the whole installation.",
)
RUN_QUEUE_WAIT_SECONDS = Histogram(
    "oneoff_run_queue_wait_seconds",
    "From when a run could begin (accepted, or the end of its back-off) to its slot.",
    _WAITS,
    ["trigger"],
)
RUN_START_SECONDS = Histogram(
    "oneoff_run_start_seconds",
    "From when a run could begin (accepted, or the end of its back-off) to its command running.",
    _WAITS,
    ["trigger"],
)
RUN_DURATION_SECONDS = Histogram(
    "oneoff_run_duration_seconds",
    "From start to end of runs that started, by the status they ended with.",
    _DURATIONS,
    ["status"],
)
RUNS_RESUMED = Counter(
    "oneoff_runs_resumed_total", "Going runs taken up again after a restart of the server or an interruption."
)
LOG_BYTES = Counter(
    "oneoff_log_bytes_total",
    "Output of runs that ended, what is missing included.",
    ["stream"],
    [("stdout",), ("stderr",)],
)
LOG_MISSING_BYTES = Counter(
    "oneoff_log_missing_bytes_total",
    "Output of runs that ended which is not kept: beyond log_cap_bytes, or the disk was full.",
)

# This node.
SLOTS = Gauge("oneoff_slots", "Slots of this node.")
SLOTS_TAKEN = Gauge("oneoff_slots_taken", "Slots of this node that a run holds.")
IMAGES_PREPARING = Gauge("oneoff_images_preparing", "Runs whose image is being made local; they hold no slot.")
IMAGE_PULL_SECONDS = Histogram(
    "oneoff_image_pull_seconds", "Time of bringing an image here that was not here before.", _PULLS
)
DRIVER_CALL_SECONDS = Histogram(
    "oneoff_driver_call_seconds",
    "Time of calls to the container driver that succeeded: prepare (the image), create, start, stop, remove.",
    _CALLS,
    ["call"],
)
DRIVER_ERRORS = Counter(
    "oneoff_driver_errors_total",
    "Calls to the container driver that failed, by their error (docs/errors.md).",
    ["call", "error"],
)

# Crons.
TICKS = Counter(
    "oneoff_ticks_total",
    "Due instants of crons, by what became of them.",
    ["outcome"],
    [(outcome.value,) for outcome in TickOutcome],
)
TICK_LATENESS_SECONDS = Histogram(
    "oneoff_tick_lateness_seconds",
    "From the due instant of a cron (and its jitter) to its run being accepted, of those that made a run.",
    _LATENESS,
)

# What happened, batches and deploys among it.
EVENTS = Counter("oneoff_events_total", "Events (docs/events.md), by kind.", ["kind"], [(kind,) for kind in KINDS])

# The outside world.
WEBHOOK_ATTEMPTS = Counter(
    "oneoff_webhook_attempts_total",
    "Attempts at deliveries of webhooks, by the form of the webhook and what became of them.",
    ["kind", "outcome"],
    [(kind.value, outcome) for kind in WebhookKind for outcome in ("arrived", "failed")],
)
WEBHOOK_ATTEMPT_SECONDS = Histogram(
    "oneoff_webhook_attempt_seconds", "Time of one attempt, its failure included.", _WEB, ["kind"]
)
LOG_STREAM_LINES = Counter(
    "oneoff_log_stream_lines_total",
    "Lines for log streams: `sent`, some more than once after a broken connection, or `dropped` for good.",
    ["outcome"],
    [("sent",), ("dropped",)],
)
LOG_STREAM_FAILURES = Counter(
    "oneoff_log_stream_failures_total", "Connections of log streams that broke or were refused with lines on their way."
)
LOG_STREAM_LAG_BYTES = Gauge(
    "oneoff_log_stream_lag_bytes", "Output that is stored on this node and not sent to its log streams yet."
)

# The server.
HTTP_REQUESTS = Counter(
    "oneoff_http_requests_total",
    "Requests answered, by method, template of the address, and status. Unknown addresses and methods are `other`.",
    ["method", "route", "status"],
)
HTTP_REQUEST_SECONDS = Histogram(
    "oneoff_http_request_seconds",
    "From a request to the beginning of its answer, so that a live stream counts as soon as it streams.",
    _ANSWERS,
    ["method", "route"],
)
HTTP_REQUESTS_GOING = Gauge("oneoff_http_requests_going", "Requests being answered, open live streams included.")
STORE_COMMIT_SECONDS = Histogram(
    "oneoff_store_commit_seconds", "Time of a write transaction, from its begin until it is durable.", _COMMITS
)
STORE_COMMIT_WRITES = Histogram(
    "oneoff_store_commit_writes", "Callers' writes that one transaction made durable together.", _GROUPS
)
STORE_FAILURES = Counter("oneoff_store_failures_total", "Write transactions that the database could not commit.")
STORE_RETRIES = Counter(
    "oneoff_store_retries_total", "Transactions begun again after a lost race with another one (PostgreSQL)."
)
AGENT_FAILURES = Counter(
    "oneoff_agent_failures_total",
    "Ticks of the server's loops that failed. They are tried again; the server's log has the reason.",
    ["agent"],
    [(name,) for name in _AGENTS],
)
AGENT_LAST_TICK = Gauge(
    "oneoff_agent_last_tick_timestamp_seconds",
    "When a loop of the server last finished a tick. Each ticks at least once a minute when all is well.",
    ["agent"],
)
LOG_LINES = Counter(
    "oneoff_server_log_lines_total",
    "Lines of the server's own log, by level.",
    ["level"],
    [("info",), ("warning",), ("error",)],
)
DATA_FREE_BYTES = Gauge("oneoff_data_free_bytes", "Free disk of the data folder.")
DATA_RESERVE_BYTES = Gauge("oneoff_data_reserve_bytes", "New runs are refused below so much free disk.")
STORE_BYTES = Gauge("oneoff_store_bytes", "Size of the embedded database's files.")
BUILD_INFO = Gauge("oneoff_build_info", "Always 1; what runs here.", ["version", "python", "driver", "engine", "store"])

# The process, by the names that every exporter uses.
PROCESS_CPU_SECONDS = Counter("process_cpu_seconds_total", "User and system time.")
PROCESS_MEMORY = Gauge("process_resident_memory_bytes", "Resident memory.")
PROCESS_VIRTUAL_MEMORY = Gauge("process_virtual_memory_bytes", "Virtual memory.")
PROCESS_START = Gauge("process_start_time_seconds", "Start, since the epoch.")
PROCESS_FDS = Gauge("process_open_fds", "Open files.")
PROCESS_MOST_FDS = Gauge("process_max_fds", "Most open files.")
PROCESS_THREADS = Gauge("process_threads", "Threads.")

METERS: tuple[Meter, ...] = tuple(each for each in globals().values() if isinstance(each, Meter))
