"""What a workspace may do, by its plan. Pure; used when runs are accepted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from oneoff.core.limits import CEILING_SECONDS


@dataclass(frozen=True, slots=True)
class Plan:
    """`longest_run_seconds` is the maximum time limit, and the default of a run that asks for none."""

    name: str
    longest_run_seconds: int


PLANS: Mapping[str, Plan] = {
    "pro": Plan("Pro", 24 * 3600),
    "team": Plan("Team", CEILING_SECONDS),
}
FIRST_PLAN = "team"  # of the workspace made at first start
