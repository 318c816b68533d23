"""CPU and memory a run may have: the built-in catalogue, one from an operator's file, and the choice from it. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction
from typing import Any

from oneoff.core.limits import format_bytes, parse_bytes
from oneoff.core.service import ServiceType
from oneoff.errors import InstanceTypeTooLarge, SettingsInvalid, UnknownInstanceType

_MB = 1 << 20
_SECONDS_PER_MONTH = 30 * 86_400
_ID = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,18}[a-z0-9])?")
_LEAST_MEMORY, _MOST_MEMORY = 16 << 20, 64 << 40
_LEAST_CPUS, _MOST_CPUS = 0.01, 1024
# The fields of a price, and how many seconds it is for; a type has exactly one of them.
_PRICES = {"usd_per_month": _SECONDS_PER_MONTH, "usd_per_hour": 3600, "usd_per_minute": 60, "usd_per_second": 1}
_FIELDS = frozenset({"name", "class", "memory", "cpus", *_PRICES})


class InstanceClass(StrEnum):
    SERVICE = "service"
    CRON = "cron"


@dataclass(frozen=True, slots=True)
class InstanceType:
    """`usd_per_second` is exact."""

    id: str  # of one type only in a catalogue
    name: str
    klass: InstanceClass
    memory_bytes: int
    cpus: float
    usd_per_second: Fraction

    def __hash__(self) -> int:
        """Asked for at each run, and that of a fraction takes long."""
        return hash(self.id)


def _service(number: str, name: str, memory_mb: int, cpus: float, usd_per_month: int) -> InstanceType:
    price = Fraction(usd_per_month, _SECONDS_PER_MONTH)
    return InstanceType(f"plan-srv-{number}", name, InstanceClass.SERVICE, memory_mb * _MB, cpus, price)


def _cron(number: str, name: str, memory_mb: int, cpus: float, cents_per_minute: str) -> InstanceType:
    price = Fraction(cents_per_minute) / 100 / 60
    return InstanceType(f"plan-crn-{number}", name, InstanceClass.CRON, memory_mb * _MB, cpus, price)


Catalogue = Sequence[InstanceType]  # the first one of a class is what its services have by default

CATALOGUE: Catalogue = (
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


def default_for(service_type: ServiceType, catalogue: Catalogue = CATALOGUE) -> InstanceType:
    """The first type of the service's class."""
    return next(each for each in catalogue if each.klass is class_of(service_type))


def find_instance_type(type_id: str, catalogue: Catalogue) -> InstanceType | None:
    return next((each for each in catalogue if each.id == type_id), None)


def choose_instance_type(
    asked: str, service_type: ServiceType, cpus: int, memory_bytes: int, catalogue: Catalogue = CATALOGUE
) -> InstanceType:
    """The type `asked` for, which a node of this size can hold. Raises UnknownInstanceType, also for the wrong class,
    and InstanceTypeTooLarge, both with those that would do."""
    wanted = class_of(service_type)
    of_class = {each.id: each for each in catalogue if each.klass is wanted}
    fitting = [name for name, each in of_class.items() if each.cpus <= cpus and each.memory_bytes <= memory_bytes]
    if (chosen := of_class.get(asked)) is None:
        raise UnknownInstanceType(asked, fitting or of_class)
    if asked not in fitting:
        wants = f"{chosen.id} ({chosen.cpus:g} CPU, {format_bytes(chosen.memory_bytes)})"
        raise InstanceTypeTooLarge(wants, f"{cpus} CPU and {format_bytes(memory_bytes)}", fitting)
    return chosen


def parse_instance_types(table: object) -> Catalogue:
    """The catalogue of an operator's file: id -> {name, class, memory, cpus, and one price}, in its order. Numbers with
    a point are Decimals. Raises SettingsInvalid with all problems."""
    if not isinstance(table, Mapping) or not table:
        raise SettingsInvalid(["the file of instance types must hold a table with at least one type"])
    problems: list[str] = []
    found = [_parse_type(str(key), row, problems) for key, row in table.items()]
    if not problems:
        missing = [klass.value for klass in InstanceClass if klass not in {each.klass for each in found}]
        problems += [f'no type has class = "{name}": services of this class could have none' for name in missing]
    if problems:
        raise SettingsInvalid(problems)
    return tuple(found)


def _parse_type(key: str, row: object, problems: list[str]) -> InstanceType:
    told = len(problems)
    values: Mapping[str, Any] = row if isinstance(row, Mapping) else {}
    if not isinstance(row, Mapping):
        problems.append(f"instance type {key}: it must be a table of fields")
    if not _ID.fullmatch(key):
        problems.append(f"instance type {key}: an id is 1 to 20 of a-z, 0-9 and '-'")
    problems += [f"instance type {key}: there is no field {name}" for name in sorted(values.keys() - _FIELDS)]
    klass, memory, cpus = str(values.get("class")), _parse_memory(values.get("memory")), _number(values.get("cpus"))
    if klass not in set(InstanceClass):
        problems.append(f"instance type {key}: class must be {' or '.join(InstanceClass)}")
    if memory is None or not _LEAST_MEMORY <= memory <= _MOST_MEMORY:
        problems.append(f"instance type {key}: memory must be at least 16MB, for example 512MB")
    if cpus is None or not _LEAST_CPUS <= cpus <= _MOST_CPUS:
        problems.append(f"instance type {key}: cpus must be a number, at least 0.01")
    price = _parse_price(key, values, problems)
    if len(problems) > told:
        return InstanceType(key, key, InstanceClass.SERVICE, 0, 0, Fraction(0))
    assert memory is not None
    assert cpus is not None
    return InstanceType(key, str(values.get("name", key)), InstanceClass(klass), memory, float(cpus), price)


def _parse_price(key: str, values: Mapping[str, Any], problems: list[str]) -> Fraction:
    given = [name for name in _PRICES if name in values]
    if len(given) != 1:
        problems.append(f"instance type {key}: give one price, one of {', '.join(_PRICES)}")
        return Fraction(0)
    amount = _number(values[given[0]])
    if amount is None or amount < 0:
        problems.append(f"instance type {key}: {given[0]} must be a number, 0 or more")
        return Fraction(0)
    return amount / _PRICES[given[0]]


def _parse_memory(value: object) -> int | None:
    try:
        return parse_bytes(value) if isinstance(value, str) else None
    except ValueError:
        return None


def _number(value: object) -> Fraction | None:
    """Exact; None when it is no number, or none that can be counted with."""
    if (
        isinstance(value, bool)
        or not isinstance(value, int | Decimal)
        or (isinstance(value, Decimal) and not value.is_finite())
    ):
        return None
    return Fraction(value)
