"""May a due tick make a run? What stands in its way outside the job, in the order in which it is told. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from oneoff.core.ticks import TickOutcome


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the scheduler sees in the transaction of the tick. `refusal` is why a run cannot be accepted, if so."""

    is_paused: bool = False  # the cron, its environment or the workspace
    is_suspended: bool = False  # the service
    is_blocked_by_plan: bool = False  # it has no jobs, or this cron is too frequent for it
    is_held_by_deploy: bool = False  # a deploy is going, and the cron wants to be held
    has_live_image: bool = True
    refusal: str | None = None


def obstacle(around: Surroundings) -> TickOutcome | None:
    """The outcome of a tick that cannot fire, None when it can. Then `core.overlap` decides."""
    reasons = (
        (around.is_paused, TickOutcome.PAUSED),
        (around.is_suspended, TickOutcome.SUSPENDED),
        (around.is_blocked_by_plan, TickOutcome.BLOCKED_BY_PLAN),
        (around.is_held_by_deploy, TickOutcome.HELD_BY_DEPLOY),
        (not around.has_live_image, TickOutcome.NO_LIVE_IMAGE),
        (around.refusal is not None, TickOutcome.REFUSED),
    )
    return next((outcome for stands, outcome in reasons if stands), None)
