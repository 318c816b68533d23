"""Everything that can be wrong with the platform or the caller. A failing user command is an outcome, not an error.

    OneoffError
    ├── InvalidInput                  the caller sent something that breaks a rule
    │   ├── InvalidName  InvalidPath  InvalidCommand  InvalidVariables  InvalidDuration  InvalidImageRef
    │   ├── InvalidCursor  InvalidBody
    │   ├── InvalidCron  UnknownTimeZone  InvalidSchedule  InvalidRetries  InvalidTimeOfDay  InvalidGroup
    │   ├── CronTooFrequent  UnknownEventKind  InvalidBatch  InvalidItem
    │   ├── InvalidWebhook  AddressNotAllowed  JobFileInvalid  InvalidLogStream
    │   ├── LogStreamUnreachable
    │   ├── TimeLimitTooLong  UnknownInstanceType  InstanceTypeTooLarge  CapabilityNotAllowed  UnknownPlan
    │   └── SettingsInvalid
    ├── NotFound                      service, run, deploy, project, environment, token
    ├── Conflict
    │   ├── AlreadyExists  AmbiguousPath  NoLiveImage  ServiceBusy  LastAdminToken  ServiceHasJobs  JobHasCrons
    │   ├── RunNotGoing  BatchGoing  NothingToRerun  TooManyWebhooks  ManagedElsewhere  PlanOutdated
    │   └── IdempotencyKeyReused
    ├── NotAuthenticated  NotAllowed
    ├── PlanRefused                   the workspace's plan does not have it
    │   └── PlanHasNoJobs  PlanTokensUsedUp  PlanNotOffered
    ├── TooManyRequests               of one token, in this minute; temporary
    ├── DiskFull                      new runs are refused, going ones are kept
    ├── StoreUnavailable  WrongSecretKey  DataFolderLocked  InstallationLocked
    └── DriverError
        ├── DriverUnavailable         cannot work on this machine; says the mend
        ├── EngineUnavailable         did not answer; temporary
        ├── ImageUnavailable
        ├── StartFailed
        │   └── CommandNotFound  CommandNotExecutable
        ├── ContainerExists  ContainerBusy  ContainerGone  AlreadyStarted
        └── ExitUnknown

Each leaf has a stable `code`, builds its message from its arguments and says what to do next. `temporary` tells whether
the same call may succeed later. `oneoff.api.problems` maps them to HTTP statuses.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar


class OneoffError(Exception):
    """Base of all. `str(error)` is a sentence for people; `code` is for programs."""

    code: ClassVar[str] = "internal_error"
    temporary: ClassVar[bool] = False


class InvalidInput(OneoffError):
    """The caller sent something that breaks a rule. `field` names the offending field of the request, if one does."""

    code = "invalid_input"
    field: str | None = None


class InvalidName(InvalidInput):
    code = "invalid_name"

    def __init__(self, what: str, name: str) -> None:
        super().__init__(
            f"{name!r} cannot be the name of {'an' if what[0] in 'aeiou' else 'a'} {what}: use 1 to 63 of a-z, 0-9 "
            "and '-', beginning with a letter and not ending with '-'"
        )
        self.field = "path"


class InvalidPath(InvalidInput):
    code = "invalid_path"

    def __init__(self, path: str) -> None:
        super().__init__(f"{path!r} is no service path: write project/environment or project/environment/service")
        self.field = "path"


class InvalidCommand(InvalidInput):
    code = "invalid_command"

    def __init__(self, why: str, field: str = "command") -> None:
        super().__init__(why)
        self.field = field


class InvalidVariables(InvalidInput):
    code = "invalid_variables"

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.field = "variables"


class InvalidDuration(InvalidInput):
    code = "invalid_duration"

    def __init__(self, text: str) -> None:
        super().__init__(f"{text!r} is no duration: write for example 90s, 10m, 1h30m or 30d")
        self.field = "timeout_seconds"


class InvalidImageRef(InvalidInput):
    code = "invalid_image"

    def __init__(self, text: str, why: str) -> None:
        super().__init__(
            f"{text!r} is no image: {why}. Write registry.example.com/shop/web:42, oci:DIR:TAG, docker-archive:FILE "
            "or docker-daemon:REF"
        )
        self.field = "image"


class InvalidCursor(InvalidInput):
    code = "invalid_cursor"

    def __init__(self, cursor: str) -> None:
        super().__init__(f"{cursor!r} is no cursor of this list: take next_cursor of the page before, unchanged")
        self.field = "cursor"


class InvalidBody(InvalidInput):
    code = "invalid_body"

    def __init__(self, why: str, field: str | None = None) -> None:
        super().__init__(why)
        self.field = field


class JobFileInvalid(InvalidInput):
    """`problems`: a place such as jobs.3.crons.0.expression, and what is wrong there."""

    code = "job_file_invalid"

    def __init__(self, problems: Sequence[tuple[str, str]]) -> None:
        super().__init__("; ".join(f"{place}: {text}" for place, text in problems))
        self.problems = problems


class InvalidCron(InvalidInput):
    """`part` is the field of the expression that is wrong ("minute", …), None when it is the whole of it."""

    code = "invalid_cron"

    def __init__(self, text: str, why: str, part: str | None = None) -> None:
        super().__init__(f"{text!r} is no cron expression: {f'in {part}, {why}' if part else why}")
        self.field = "expression"
        self.part = part


class UnknownTimeZone(InvalidInput):
    code = "unknown_time_zone"

    def __init__(self, name: str, similar: Iterable[str] = ()) -> None:
        meant = " or ".join(similar)
        super().__init__(
            f"there is no time zone {name!r}: "
            + (f"do you mean {meant}?" if meant else "write an IANA name such as Europe/Berlin, or UTC")
        )
        self.field = "time_zone"


class InvalidSchedule(InvalidInput):
    """What a cron says beside its expression: dates, jitter, catch-up."""

    code = "invalid_schedule"

    def __init__(self, why: str, field: str) -> None:
        super().__init__(why)
        self.field = field


class InvalidRetries(InvalidInput):
    code = "invalid_retries"

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.field = "retries"


class InvalidTimeOfDay(InvalidInput):
    code = "invalid_time_of_day"

    def __init__(self, text: str) -> None:
        super().__init__(f"{text!r} is no time of day: write hours and minutes, 00:00 to 23:59, for example 06:30")
        self.field = "must_end_by"


class InvalidGroup(InvalidInput):
    code = "invalid_group"

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.field = "concurrency_group"


class InvalidWebhook(InvalidInput):
    code = "invalid_webhook"

    def __init__(self, why: str, field: str) -> None:
        super().__init__(why)
        self.field = field


class AddressNotAllowed(InvalidInput):
    """Of a receiver outside; `why` if it is not that it lies inside."""

    code = "address_not_allowed"

    def __init__(self, host: str, address: str, why: str = "it lies in a private or reserved network") -> None:
        leads = host if host == address else f"{host} leads to {address}"
        super().__init__(f"{leads}: {why}; the operator can allow it (setting webhook_networks)")
        self.field = "url"


class UnknownEventKind(InvalidInput):
    code = "unknown_event_kind"

    def __init__(self, kind: str, known: Iterable[str]) -> None:
        super().__init__(f"there is no kind of event {kind!r}: write one of {', '.join(known)}, or for example run.*")
        self.field = "kind"


class CronTooFrequent(InvalidInput):
    """`gap` and `least` are durations as people write them; `when` shows two instants that are so close; `would_do` are
    names of plans."""

    code = "cron_too_frequent"

    def __init__(self, text: str, gap: str, least: str, plan: str, when: str, would_do: Iterable[str] = ()) -> None:
        super().__init__(
            f"{text!r} fires twice within {gap} ({when}), and the {plan} plan allows one instant every {least}: "
            f"choose instants farther apart{_or_another_plan(would_do)}"
        )
        self.field = "expression"


class InvalidBatch(InvalidInput):
    code = "invalid_batch"

    def __init__(self, why: str, field: str | None = None) -> None:
        super().__init__(why)
        self.field = field


class InvalidItem(InvalidInput):
    """`index` counts from 0, as ONEOFF_BATCH_INDEX does; `more` is how many others are wrong as well."""

    code = "invalid_item"

    def __init__(self, index: int, why: str, more: int = 0) -> None:
        others = f" ({more} more items are wrong as well)" if more else ""
        super().__init__(f"item {index} (counted from 0): {why}{others}")
        self.field = f"items.{index}"


class InvalidLogStream(InvalidInput):
    code = "invalid_log_stream"

    def __init__(self, why: str, field: str) -> None:
        super().__init__(why)
        self.field = field


class LogStreamUnreachable(InvalidInput):
    """Found when a stream is saved or tested; `why` in the words of the network or of the receiver."""

    code = "log_stream_unreachable"

    def __init__(self, endpoint: str, why: str) -> None:
        super().__init__(
            f"{endpoint} does not take logs: {why}. Mend the address, the token or the receiver; or save it as it is, "
            "with --no-check (check=false)"
        )
        self.field = "endpoint"


class TimeLimitTooLong(InvalidInput):
    code = "time_limit_too_long"

    def __init__(self, asked: str, most: str, whose: str, mend: str, would_do: Iterable[str] = ()) -> None:
        super().__init__(
            f"a time limit of {asked} is beyond the maximum of {most} of {whose}: {mend}{_or_another_plan(would_do)}"
        )
        self.field = "timeout_seconds"


class UnknownInstanceType(InvalidInput):
    code = "unknown_instance_type"

    def __init__(self, asked: str, allowed: Iterable[str]) -> None:
        super().__init__(
            f"{asked!r} is no instance type for this service: use one of {', '.join(allowed)} "
            "(`oneoff instance-types` shows them)"
        )
        self.field = "instance_type"


class InstanceTypeTooLarge(InvalidInput):
    code = "instance_type_too_large"

    def __init__(self, asked: str, node: str, fitting: Iterable[str]) -> None:
        fits = ", ".join(fitting) or "none of the catalogue"
        super().__init__(f"{asked} can never run here: the node has {node}. Types that fit: {fits}")
        self.field = "instance_type"


class UnknownPlan(InvalidInput):
    code = "unknown_plan"

    def __init__(self, asked: str, offered: Iterable[str]) -> None:
        super().__init__(f"{asked!r} is no plan of this server: use one of {', '.join(offered)}")
        self.field = "plan"


class CapabilityNotAllowed(InvalidInput):
    code = "capability_not_allowed"

    def __init__(self, asked: str, allowed: Iterable[str]) -> None:
        super().__init__(f"{asked!r} cannot be allowed: a service may get some of {', '.join(allowed)}, nothing else")
        self.field = "capabilities"


class SettingsInvalid(InvalidInput):
    """All problems of the settings at once."""

    code = "settings_invalid"

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("the settings are wrong:\n" + "\n".join(f"  - {problem}" for problem in self.problems))


class NotFound(OneoffError):
    code = "not_found"

    def __init__(self, what: str, key: str, hint: str = "") -> None:
        self.key, self.hint = key, hint
        super().__init__(f"there is no {what} {key!r}" + (f": {hint}" if hint else ""))


class Conflict(OneoffError):
    code = "conflict"


class AlreadyExists(Conflict):
    code = "already_exists"

    def __init__(self, what: str, key: str, hint: str) -> None:
        super().__init__(f"{what} {key!r} exists already: {hint}")


class AmbiguousPath(Conflict):
    code = "ambiguous_path"

    def __init__(self, path: str, candidates: Iterable[str]) -> None:
        super().__init__(f"{path!r} has more than one service: say which, one of {', '.join(candidates)}")


class NoLiveImage(Conflict):
    code = "no_live_image"

    def __init__(self, path: str) -> None:
        super().__init__(f"{path} has no live image yet: deploy one first with `oneoff deploy {path} --image REF`")


class ServiceBusy(Conflict):
    code = "service_busy"

    def __init__(self, path: str, going: int) -> None:
        super().__init__(
            f"{path} has {going} runs going, or waiting in a batch: wait for them or cancel them "
            f"(`oneoff runs list {path}`, `oneoff batch list {path}`), then try again"
        )


class RunNotGoing(Conflict):
    code = "run_not_going"

    def __init__(self, run_id: str, state: str) -> None:
        super().__init__(f"{run_id} is {state}, so it can get no more time: `oneoff rerun {run_id}` runs it once more")


class BatchGoing(Conflict):
    code = "batch_going"

    def __init__(self, batch_id: str) -> None:
        super().__init__(
            f"{batch_id} has not ended yet: wait for it (`oneoff batch wait {batch_id}`) or cancel it "
            f"(`oneoff batch cancel {batch_id}`), then run the failed items again"
        )


class NothingToRerun(Conflict):
    code = "nothing_to_rerun"

    def __init__(self, batch_id: str, canceled: int) -> None:
        mend = f"; --with-canceled (with_canceled=true) takes the {canceled} canceled items" if canceled else ""
        super().__init__(f"no item of {batch_id} failed, so there is nothing to run again{mend}")


class ServiceHasJobs(Conflict):
    code = "service_has_jobs"

    def __init__(self, path: str, jobs: int) -> None:
        super().__init__(
            f"{path} has saved jobs ({jobs}): delete them first, or together with the service by "
            f"`oneoff service delete {path} --with-jobs` (with_jobs=true)"
        )


class JobHasCrons(Conflict):
    code = "job_has_crons"

    def __init__(self, path: str, crons: int) -> None:
        super().__init__(
            f"{path} has crons ({crons}): delete them first, or together with the job by "
            f"`oneoff job delete {path} --with-crons` (with_crons=true)"
        )


class ManagedElsewhere(Conflict):
    code = "managed_elsewhere"

    def __init__(self, kind: str, name: str, managed_by: str | None) -> None:
        who = "by hand" if managed_by is None else f"by {managed_by}"
        super().__init__(f"{kind} {name} was made {who}: give it another name, or let this file take it with --adopt")


class PlanOutdated(Conflict):
    code = "plan_outdated"

    def __init__(self) -> None:
        super().__init__("something changed since the plan was made: look at it again")


class TooManyWebhooks(Conflict):
    code = "too_many_webhooks"

    def __init__(self, most: int) -> None:
        super().__init__(f"there are {most} webhooks already: delete one (`oneoff webhook list` shows them)")


class LastAdminToken(Conflict):
    code = "last_admin_token"

    def __init__(self) -> None:
        super().__init__("this is the last admin token: create another one first with `oneoff token create --admin`")


class IdempotencyKeyReused(Conflict):
    code = "idempotency_key_reused"

    def __init__(self, key: str) -> None:
        super().__init__(
            f"Idempotency-Key {key!r} was used for a different request: use a new key, or send the same body again"
        )


class NotAuthenticated(OneoffError):
    code = "not_authenticated"

    def __init__(self, why: str) -> None:
        super().__init__(f"{why}: send `Authorization: Bearer TOKEN`, set ONEOFF_TOKEN, or `oneoff login`")


class NotAllowed(OneoffError):
    code = "not_allowed"

    def __init__(self, what: str) -> None:
        super().__init__(f"this token may not {what}: ask an admin for a token that may")


class PlanRefused(OneoffError):
    """The workspace's plan does not have what was asked for."""

    code = "plan_refused"


class PlanHasNoJobs(PlanRefused):
    code = "plan_has_no_jobs"

    def __init__(self, plan: str, having: Iterable[str]) -> None:
        names = " or ".join(having)
        mend = f"change to {names} with `oneoff plan set`" if names else "no plan of this server has them"
        super().__init__(f"the {plan} plan has no jobs and runs: {mend}")


class PlanTokensUsedUp(PlanRefused):
    code = "plan_tokens_used_up"

    def __init__(self, plan: str, most: int, would_do: Iterable[str] = ()) -> None:
        super().__init__(
            f"the {plan} plan allows {most} {'token' if most == 1 else 'tokens'}, and all are in use: "
            f"revoke one with `oneoff token revoke`{_or_another_plan(would_do)}"
        )


class PlanNotOffered(PlanRefused):
    """The plan of the workspace is not in the operator's file any more."""

    code = "plan_not_offered"

    def __init__(self, plan: str, offered: Iterable[str]) -> None:
        names = ", ".join(offered)
        super().__init__(
            f"the workspace has the plan {plan!r}, which this server offers no more: an admin changes to one of "
            f"{names} with `oneoff plan set`, or the operator puts it back into the file of plans (setting plans_file)"
        )


class TooManyRequests(OneoffError):
    code = "too_many_requests"
    temporary = True

    def __init__(self, plan: str, most: int, wait_seconds: int, would_do: Iterable[str] = ()) -> None:
        self.most, self.wait_seconds = most, wait_seconds
        super().__init__(
            f"this token has made the {most} requests a minute of the {plan} plan: "
            f"go on in {wait_seconds} s{_or_another_plan(would_do)}"
        )


class DiskFull(OneoffError):
    code = "disk_full"
    temporary = True

    def __init__(self, folder: str, free: str, needed: str) -> None:
        super().__init__(
            f"no new runs or deploys: {folder} has {free} free and {needed} are kept in reserve. Free some space or "
            "give the folder a larger disk; going runs are not affected"
        )


class StoreUnavailable(OneoffError):
    code = "store_unavailable"
    temporary = True

    def __init__(self, why: str) -> None:
        super().__init__(f"the store does not answer: {why}. Nothing was written; try again")


class SchemaTooNew(OneoffError):
    code = "schema_too_new"

    def __init__(self, found: str, known: str) -> None:
        super().__init__(
            f"a newer Oneoff has written this database: its schema is {found} and this one knows {known}. Install the "
            "newer version again; nothing was changed"
        )


class DataFolderLocked(OneoffError):
    code = "data_folder_locked"

    def __init__(self, folder: str, pid: str) -> None:
        super().__init__(
            f"another server (pid {pid}) works on {folder}: stop it, or give this one a folder of its own with --data"
        )


class InstallationLocked(OneoffError):
    code = "installation_locked"

    def __init__(self, pid: str) -> None:
        super().__init__(
            f"another server (pid {pid}) on this machine works on the same database: stop it, or give this one a "
            "database of its own with --database"
        )


class WrongSecretKey(OneoffError):
    code = "wrong_secret_key"

    def __init__(self, place: str) -> None:
        super().__init__(
            f"{place} does not open: it was sealed with another secret.key, or is damaged. Put the secret.key of the "
            "backup or of the first server of this database into the data folder"
        )


class DriverError(OneoffError):
    """Something between us and the engine. `detail` holds the engine's own words where there are any."""

    code = "driver_error"

    def __init__(self, message: str, detail: str = "") -> None:
        super().__init__(message if not detail else f"{message}: {detail}")
        self.detail = detail


class DriverUnavailable(DriverError):
    """It cannot work on this machine. The message gives the reason and the command that mends it."""

    code = "driver_unavailable"


class EngineUnavailable(DriverError):
    """The engine did not answer, or its answer was cut short."""

    code = "engine_unavailable"
    temporary = True


class ImageUnavailable(DriverError):
    code = "image_unavailable"

    def __init__(self, image: str, detail: str) -> None:
        super().__init__(f"image {image} cannot be had", detail)


class StartFailed(DriverError):
    """The container could not be made or started; `exit_code` is 126 or 127 when the command was at fault."""

    code = "start_failed"
    exit_code: int | None = None


class NetworkUnavailable(StartFailed):
    """`what` says which; `mend` what makes it; `there` names those that could be joined, where they are known."""

    code = "network_unavailable"

    def __init__(self, what: str, mend: str, there: Iterable[str] = ()) -> None:
        names = ", ".join(there)
        super().__init__(f"there is no {what}: {mend}" + (f". There are: {names}" if names else ""))


class CommandNotFound(StartFailed):
    code = "command_not_found"
    exit_code = 127

    def __init__(self, argv0: str, hint: str = "") -> None:
        super().__init__(f"{argv0!r} was not found in the image" + (f": {hint}" if hint else ""))


class CommandNotExecutable(StartFailed):
    code = "command_not_executable"
    exit_code = 126

    def __init__(self, argv0: str, why: str) -> None:
        super().__init__(f"{argv0!r} cannot be executed in the image: {why}")


class ContainerExists(DriverError):
    code = "container_exists"

    def __init__(self, name: str) -> None:
        super().__init__(f"a container {name} exists already")


class ContainerBusy(DriverError):
    code = "container_busy"

    def __init__(self, name: str) -> None:
        super().__init__(f"container {name} was started, so it cannot be removed without force")


class ContainerGone(DriverError):
    code = "container_gone"

    def __init__(self, name: str) -> None:
        super().__init__(f"the engine does not know container {name}")


class AlreadyStarted(DriverError):
    code = "already_started"

    def __init__(self, name: str) -> None:
        super().__init__(f"container {name} was started before and is not started twice")


class ExitUnknown(DriverError):
    """It started, and how it ended cannot be known."""

    code = "exit_unknown"

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"how container {name} ended cannot be known", why)


def _or_another_plan(names: Iterable[str]) -> str:
    """The end of a refusal: which plans would do."""
    joined = " or ".join(names)
    return f", or change to {joined} with `oneoff plan set`" if joined else ""
