"""Bodies that requests bring. Form only: the rules are those of core and the operations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints
from pydantic_core import PydanticCustomError

from oneoff.core.gates import Gate
from oneoff.core.retry import RETRIED_BY_DEFAULT, BackOff
from oneoff.core.run import Reason
from oneoff.core.service import ServiceType
from oneoff.drivers.driver import RegistryCredentials
from oneoff.operations.variables import VariableChange

_MOST_TEXT = 1 << 21  # characters; what the kernel or a rule of ours refuses is smaller and told better


def _refuse_others(given: Any) -> Any:
    """Pydantic takes true as 1 and "60" as 60."""
    if isinstance(given, bool | str):
        raise PydanticCustomError("int_type", "Input should be a valid integer")
    return given


Integer = Annotated[int, BeforeValidator(_refuse_others)]
Text = Annotated[str, StringConstraints(max_length=_MOST_TEXT)]
Name = Annotated[str, StringConstraints(max_length=300)]
Image = Annotated[str, StringConstraints(min_length=1, max_length=2_000)]
Arguments = Annotated[list[Text], Field(max_length=100_000)]


_GROUP = "Runs of one group are going at once up to its limit, which is 1 until PUT /concurrency-groups/{name} sets it."


_GATE = (
    "`before_deploy`: each deploy of the service runs it in the new image, which goes live only when it succeeded; "
    "`after_deploy`: it runs when the new image is live."
)
_END_BY = (
    "A time of day and its zone, `08:00 Europe/Berlin`: the run is ended at the first such moment after its creation."
)
_WARNING = "So long before the end of its time an event `run.time_limit_near` is recorded."


class Body(BaseModel):
    """An unknown field is refused: a misspelt one would be ignored otherwise."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class VariableBody(Body):
    """Without `value` the present one is kept; without `secret` a secret stays one."""

    value: Text | None = None
    secret: bool | None = None


VariableValue = Text | VariableBody


class RegistryBody(Body):
    """Who may pull the image. Kept with the service, sealed; the password is never shown."""

    username: Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]
    password: Annotated[str, StringConstraints(min_length=1, max_length=20_000)]

    def to_credentials(self) -> RegistryCredentials:
        return RegistryCredentials(self.username, self.password)


class ServiceSettings(Body):
    """Null stands for the default."""

    instance_type: Name | None = Field(None, description="An id of GET /instance-types.")
    networks: Annotated[list[Name], Field(max_length=16)] | None = Field(
        None, description="Networks that runs join: `host`, `none`, or names."
    )
    entrypoint: Text | Arguments | None = Field(
        None, description="The image's entrypoint: `keep` (the default), `clear`, or a list in its place."
    )
    capabilities: Annotated[list[Name], Field(max_length=20)] | None = Field(
        None, description="Kernel capabilities that runs keep: some of CHOWN, DAC_OVERRIDE, FOWNER, SETUID, SETGID."
    )
    read_only_root: bool | None = Field(None, description="Whether the root file system of runs is read-only.")
    user: Name | None = Field(None, description="`user` or `user:group` instead of the image's USER.")
    sandbox: Name | None = Field(None, description="A sandboxed runtime, where the driver has it: `runsc`.")
    registry: RegistryBody | None = None


class CreateService(ServiceSettings):
    path: Name = Field(description="project/environment/service; project/environment means …/web.")
    type: ServiceType = ServiceType.WEB_SERVICE
    image: Image | None = Field(None, description="Deployed at once; without it the service has no live image yet.")


class ChangeService(ServiceSettings):
    """Fields that are not given stay as they are."""


class CreateDeploy(Body):
    image: Image = Field(
        description="registry.example.com/shop/web:42, oci:DIR:TAG, docker-archive:FILE or docker-daemon:REF"
    )
    registry: RegistryBody | None = None


class ExtendRun(Body):
    more_seconds: Annotated[Integer, Field(ge=1, le=10**9)] = Field(description="Added to the time limit.")


class PutGroup(Body):
    limit: Annotated[Integer, Field(ge=1, le=1_000)] = Field(description="So many runs of the group at once.")


class RetriesBody(Body):
    """Each attempt is a run of its own, linked by `retry_of`."""

    count: Annotated[Integer, Field(ge=0, le=1_000)] = Field(description="So many attempts after the first; 0 is none.")
    back_off: BackOff = Field(BackOff.EXPONENTIAL, description="`exponential` doubles the delay each time.")
    delay_seconds: Annotated[Integer, Field(ge=0, le=10**9)] = Field(10, description="Before the second attempt.")
    most_delay_seconds: Annotated[Integer, Field(ge=0, le=10**9)] = 3600
    exit_codes: Annotated[list[Integer], Field(max_length=256)] = Field(
        [], description="Only ends with one of these exit codes are retried, and those without any."
    )
    reasons: list[Reason] = Field(
        sorted(RETRIED_BY_DEFAULT),
        description="Only ends for these reasons, at least one; `lost` only when it is named.",
    )


class CreateRun(Body):
    """Exactly one of `command` and `shell`."""

    command: Arguments | None = Field(None, description="Executed as it is, in place of the image's CMD.")
    shell: Text | None = Field(None, description="Run under /bin/sh -c.")
    variables: dict[str, VariableValue] = Field({}, description="On top of the environment's and the service's.")
    instance_type: Name | None = Field(None, description="Instead of the service's.")
    timeout_seconds: Annotated[Integer, Field(ge=1, le=10**9)] | None = Field(
        None, description="Time limit; by default the plan's maximum."
    )
    entrypoint: Text | Arguments | None = Field(None, description="`keep`, `clear`, a list; by default the service's.")
    retries: RetriesBody | None = None
    concurrency_group: Name | None = Field(None, description=_GROUP)
    must_end_by: Name | None = Field(None, description=_END_BY)
    warn_seconds: Annotated[Integer, Field(ge=1, le=10**9)] | None = Field(None, description=_WARNING)


class RetentionBody(Body):
    """Null is what the plan keeps, which is also the most."""

    runs: Annotated[Integer, Field(ge=1, le=10**9)] | None = Field(
        None, description="So many, and as many failed ones."
    )
    days: Annotated[Integer, Field(ge=1, le=10**6)] | None = Field(None, description="Failed ones twice as long.")


class JobSettings(Body):
    """Null stands for the default."""

    command: Arguments | None = Field(None, description="Executed as it is, in place of the image's CMD.")
    shell: Text | None = Field(None, description="Run under /bin/sh -c.")
    entrypoint: Text | Arguments | None = Field(None, description="`keep`, `clear`, a list; by default the service's.")
    instance_type: Name | None = Field(None, description="Instead of the service's.")
    timeout_seconds: Annotated[Integer, Field(ge=1, le=10**9)] | None = Field(
        None, description="Time limit of each run; by default the plan's maximum."
    )
    retries: RetriesBody | None = Field(None, description="Off by default.")
    retention: RetentionBody | None = Field(None, description="How much of its history is kept.")
    concurrency_group: Name | None = Field(None, description=_GROUP)
    gate: Gate | None = Field(None, description=_GATE)
    must_end_by: Name | None = Field(None, description=_END_BY)
    warn_seconds: Annotated[Integer, Field(ge=1, le=10**9)] | None = Field(None, description=_WARNING)

    def to_settings(self) -> dict[str, Any]:
        """Those that were given."""
        given = self.model_dump(exclude_unset=True, exclude={"service", "variables"})
        if "variables" in self.model_fields_set:
            given["variables"] = _to_changes(getattr(self, "variables", None))
        return given


class CreateJob(JobSettings):
    """Exactly one of `command` and `shell`."""

    service: Name = Field(description="The service's id or path.")
    name: Name = Field(description="Unique in its service.")
    variables: dict[str, VariableValue] = Field({}, description="On top of the environment's and the service's.")


class ChangeJob(JobSettings):
    """Fields that are not given stay as they are. `command` and `shell` replace each other."""

    name: Name | None = None
    variables: dict[str, VariableValue | None] | None = Field(
        None, description="Those named are changed, null deletes one, others stay. Null in place of all deletes all."
    )


class RunJob(Body):
    """What this run alone has otherwise than its job."""

    arguments: Arguments = Field([], description="More arguments, behind the job's own.")
    variables: dict[str, VariableValue] = Field({}, description="On top of the job's.")
    instance_type: Name | None = Field(None, description="Instead of the job's.")
    timeout_seconds: Annotated[Integer, Field(ge=1, le=10**9)] | None = Field(None, description="Instead of the job's.")


class CreateToken(Body):
    name: Annotated[str, StringConstraints(max_length=1_000)]
    admin: bool = False


PutVariables = dict[str, VariableValue]
PatchVariables = dict[str, VariableValue | None]


def to_change(value: str | VariableBody) -> VariableChange:
    return VariableChange(value) if isinstance(value, str) else VariableChange(value.value, value.secret)


def _to_changes(variables: Mapping[str, str | VariableBody | None] | None) -> dict[str, VariableChange | None] | None:
    if variables is None:
        return None
    return {name: None if value is None else to_change(value) for name, value in variables.items()}
