"""CPU and memory a run may have: the built-in catalogue and the choice from it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction

from oneoff.core.limits import format_bytes
from oneoff.core.service import ServiceType
from oneoff.errors import InstanceTypeTooLarge, UnknownInstanceType

_MB = 1 << 20
_SECONDS_PER_MONTH = 30 * 86_400


class InstanceClass(StrEnum):
    SERVICE = "service"
    CRON = "cron"


@dataclass(frozen=True, slots=True)
class InstanceType:
    """`usd_per_second` is exact."""

    id: str
    name: str
    klass: InstanceClass
    memory_bytes: int
    cpus: float
    usd_per_second: Fraction


def _service(number: str, name: str, memory_mb: int, cpus: float, usd_per_month: int) -> InstanceType:
    price = Fraction(usd_per_month, _SECONDS_PER_MONTH)
    return InstanceType(f"plan-srv-{number}", name, InstanceClass.SERVICE, memory_mb * _MB, cpus, price)


def _cron(number: str, name: str, memory_mb: int, cpus: float, cents_per_minute: str) -> InstanceType:
    price = Fraction(cents_per_minute) / 100 / 60
    return InstanceType(f"plan-crn-{number}", name, InstanceClass.CRON, memory_mb * _MB, cpus, price)


CATALOGUE: tuple[InstanceType, ...] = (
    _service("006", "Starter", 512, 0.5, 7),
    _service("008", "Standard", 2048, 1, 25),
    _service("010", "Pro", 4096, 2, 85),
    _service("011", "Pro Plus", 8192, 4, 175),
    _service("013", "Pro Max", 16384, 4, 225),
    _service("014", "Pro Ultra", 32768, 8, 450),
    _cron("003", "Starter", 512, 0.5, "0.016"),
    _cron("005", "Standard", 2048, 1, "0.058"),
    _cron("007", "Pro", 4096, 2, "0.197"),
    _cron("008", "Pro Plus", 8192, 4, "0.405"),
)


def class_of(service_type: ServiceType) -> InstanceClass:
    return InstanceClass.CRON if service_type is ServiceType.CRON_JOB else InstanceClass.SERVICE


def default_for(service_type: ServiceType, catalogue: Sequence[InstanceType] = CATALOGUE) -> InstanceType:
    """The smallest type of the service's class: the first one of the catalogue."""
    return next(each for each in catalogue if each.klass is class_of(service_type))


def choose_instance_type(
    asked: str, service_type: ServiceType, catalogue: Sequence[InstanceType] = CATALOGUE
) -> InstanceType:
    """The type `asked` for. Raises UnknownInstanceType, with those that would do, also for the wrong class."""
    wanted = class_of(service_type)
    for each in catalogue:
        if each.id == asked and each.klass is wanted:
            return each
    raise UnknownInstanceType(asked, [each.id for each in catalogue if each.klass is wanted])


def check_fits(
    chosen: InstanceType, cpus: int, memory_bytes: int, catalogue: Sequence[InstanceType] = CATALOGUE
) -> InstanceType:
    """`chosen` when a node of this size can hold it. Raises InstanceTypeTooLarge with the types that fit."""
    if chosen.cpus <= cpus and chosen.memory_bytes <= memory_bytes:
        return chosen
    fitting = [e.id for e in catalogue if e.klass is chosen.klass and e.cpus <= cpus and e.memory_bytes <= memory_bytes]
    wants = f"{chosen.id} ({chosen.cpus:g} CPU, {format_bytes(chosen.memory_bytes)})"
    raise InstanceTypeTooLarge(wants, f"{cpus} CPU and {format_bytes(memory_bytes)}", fitting)
