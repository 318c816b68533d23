"""Counts a driver's calls and errors in `metrics`. Called by `server` with the driver it opened."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from oneoff import metrics
from oneoff.drivers.driver import Driver
from oneoff.errors import OneoffError

AnyDriver = TypeVar("AnyDriver", bound=Driver)
Call = Callable[..., Awaitable[Any]]

TIMED = ("prepare", "create", "start", "stop", "remove")
# `wait` takes as long as the run; the others are asked now and then.
COUNTED = (*TIMED, "wait", "resolve", "extend", "check_networks", "inspect", "find", "list", "drop_images")


def observe(driver: AnyDriver) -> AnyDriver:
    """The same driver; its methods are replaced by ones that count and call them. No layer between for those that hand
    over output."""
    for name in COUNTED:
        setattr(driver, name, _observed(name, getattr(driver, name)))
    return driver


def _observed(name: str, call: Call) -> Call:
    is_timed = name in TIMED

    async def observed(*arguments: Any, **options: Any) -> Any:
        began = time.perf_counter()
        try:
            result = await call(*arguments, **options)
        except OneoffError as problem:
            metrics.DRIVER_ERRORS.add(name, problem.code)
            raise
        if is_timed:
            metrics.DRIVER_CALL_SECONDS.observe(time.perf_counter() - began, name)
        return result

    return observed
