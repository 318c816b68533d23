"""What an operator offers: plans and instance types, built in or from the files that the settings name. Read once, at
start; a changed file counts from the next start on."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

from oneoff.core.instance_types import CATALOGUE, Catalogue, parse_instance_types
from oneoff.core.plan import PLANS, Plans, parse_plans
from oneoff.errors import SettingsInvalid

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Offers:
    plans: Plans = field(default_factory=lambda: PLANS)
    catalogue: Catalogue = CATALOGUE


def read_offers(plans_file: Path | None, instance_types_file: Path | None) -> Offers:
    """None = the built-in ones. Raises SettingsInvalid with all problems of both files."""
    problems: list[str] = []
    plans = _read(plans_file, parse_plans, PLANS, problems)
    catalogue = _read(instance_types_file, parse_instance_types, CATALOGUE, problems)
    if problems:
        raise SettingsInvalid(problems)
    return Offers(plans, catalogue)


def _read(path: Path | None, parse: Callable[[Mapping[str, Any]], T], built_in: T, problems: list[str]) -> T:
    if path is None:
        return built_in
    try:
        # Prices are exact: a float would not be.
        return parse(tomllib.loads(path.read_text(), parse_float=Decimal))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as problem:
        problems.append(f"{path} cannot be read: {problem}")
    except SettingsInvalid as problem:
        problems += [f"{path}: {each}" for each in problem.problems]
    return built_in
