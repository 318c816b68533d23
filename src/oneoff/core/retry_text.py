"""Retry policies as the JSON that jobs and runs keep. Pure; used by the operations and by the end of a run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from oneoff.core.retry import BackOff, RetryPolicy, check_retries
from oneoff.core.run import Reason


def make_retries(given: Mapping[str, Any]) -> RetryPolicy:
    """From the fields of RetryPolicy that a caller gave, in plain values. Raises InvalidRetries."""
    return check_retries(_to_policy(given))


def to_plain(policy: RetryPolicy) -> dict[str, Any]:
    """What `make_retries` reads back as the same."""
    return {
        "count": policy.count,
        "back_off": policy.back_off.value,
        "delay_seconds": policy.delay_seconds,
        "most_delay_seconds": policy.most_delay_seconds,
        "exit_codes": sorted(policy.exit_codes),
        "reasons": sorted(reason.value for reason in policy.reasons),
    }


def to_text(policy: RetryPolicy) -> str | None:
    """None when nothing is retried."""
    return json.dumps(to_plain(policy)) if policy.count else None


def from_text(text: str) -> RetryPolicy:
    """Not checked again: the rules may have been others when it was kept."""
    return _to_policy(json.loads(text))


def _to_policy(given: Mapping[str, Any]) -> RetryPolicy:
    values = dict(given)
    if "back_off" in values:
        values["back_off"] = BackOff(values["back_off"])
    if "exit_codes" in values:
        values["exit_codes"] = frozenset(values["exit_codes"])
    if "reasons" in values:
        values["reasons"] = frozenset(Reason(each) for each in values["reasons"])
    return RetryPolicy(**values)
