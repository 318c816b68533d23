"""Size and price of a run's instance type, frozen in the run when it is made: the catalogue may change. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from oneoff.core.instance_types import CATALOGUE, InstanceType, find_instance_type


@dataclass(frozen=True, slots=True)
class Terms:
    """`usd_per_second` is exact."""

    cpus: float
    memory_bytes: int
    usd_per_second: Fraction


@lru_cache(maxsize=256)
def to_terms(each: InstanceType) -> str:
    """`0.5 536870912 7/2592000`: CPUs, bytes of memory, US dollars a second."""
    return f"{each.cpus!r} {each.memory_bytes} {each.usd_per_second}"


def at_price_of(terms: str | None, each: InstanceType) -> str:
    """The same size at today's price: of a run that is run again."""
    if terms is None:
        return to_terms(each)
    return f"{terms.rpartition(' ')[0]} {each.usd_per_second}"


@lru_cache(maxsize=1024)
def read_terms(terms: str | None, instance_type: str) -> Terms:
    """Runs made before there were other catalogues than the built-in one have no terms: theirs are in it."""
    if terms is not None:
        cpus, memory, price = terms.split(" ")
        return Terms(float(cpus), int(memory), Fraction(price))
    if (built_in := find_instance_type(instance_type, CATALOGUE)) is None:
        return Terms(0, 0, Fraction(0))
    return Terms(built_in.cpus, built_in.memory_bytes, built_in.usd_per_second)
