"""Render's names of instance types, `starter` … `pro_ultra`, beside the ids of Oneoff's catalogue."""

from __future__ import annotations

from oneoff.core.instance_types import Catalogue, class_of
from oneoff.core.service import ServiceType

# What clients know; whatever else an operator has put into the catalogue is `custom` to them.
_KNOWN = ("starter", "starter_plus", "standard", "standard_plus", "pro", "pro_plus", "pro_max", "pro_ultra")


def to_plan_name(instance_type: str, catalogue: Catalogue) -> str:
    name = next((each.name for each in catalogue if each.id == instance_type), "")
    word = name.lower().replace(" ", "_")
    return word if word in _KNOWN else "custom"


def to_instance_type(plan: str | None, kind: ServiceType, catalogue: Catalogue) -> str | None:
    """The id that a plan's name stands for in the class of the service; other text as it is, to be checked."""
    if plan is None:
        return None
    ours = (each for each in catalogue if each.klass is class_of(kind))
    named = (each.id for each in ours if to_plan_name(each.id, catalogue) == plan)
    return next(named, plan)
