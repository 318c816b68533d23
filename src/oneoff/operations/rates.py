"""How many requests a token may still make in this minute, by the plan. Asked by the gate for every request, so it
works from memory: each server counts for itself."""

from __future__ import annotations

import math
from dataclasses import dataclass

from oneoff.core.plan import Plan, Plans
from oneoff.core.plan import check_has_jobs as _refuse_without_jobs
from oneoff.errors import TooManyRequests

WINDOW_SECONDS = 60.0
_MOST_WINDOWS = 10_000


@dataclass(frozen=True, slots=True)
class Allowance:
    """What is left of a token's window, and in how many seconds a new one begins."""

    limit: int
    remaining: int
    reset_seconds: int


class RequestRates:
    """A window begins with a token's first request and lasts a minute."""

    def __init__(self, plans: Plans) -> None:
        self._plans = plans
        self._windows: dict[str, tuple[float, int]] = {}  # token id -> when its window ends, and requests in it

    def count(self, token_id: str, plan: Plan, now: float) -> Allowance:
        """One request more, at `now` of the monotonic clock. Raises TooManyRequests; PlanHasNoJobs when the plan allows
        none at all."""
        limit = plan.requests_per_minute
        if limit == 0:
            _refuse_without_jobs(plan, self._plans)
        ends, made = self._windows.get(token_id, (0.0, 0))
        if now >= ends:
            ends, made = now + WINDOW_SECONDS, 0
            self._forget_ended(now)
        left = max(1, math.ceil(ends - now))
        if made >= limit:
            would_do = [each.name for each in self._plans.values() if each.requests_per_minute > limit]
            raise TooManyRequests(plan.name, limit, left, would_do)
        self._windows[token_id] = (ends, made + 1)
        return Allowance(limit, limit - made - 1, left)

    def _forget_ended(self, now: float) -> None:
        if len(self._windows) >= _MOST_WINDOWS:
            self._windows = {key: window for key, window in self._windows.items() if now < window[0]}
