"""Where the lines of a log come from, as receivers are told. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LogOrigin:
    """`service` is the service's path, `job` the name of the saved job, None for an ad hoc run."""

    run_id: str
    service_id: str
    service: str
    job: str | None
    attempt: int
    node: str
