"""Networks of services: their form, and whether the engine has them. Used by the operations on services."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence

from oneoff.errors import DriverError, InvalidBody, StartFailed
from oneoff.operations.context import Context

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_./:-]{0,127}")
_MOST = 16
_ALONE = ("host", "none")
_MOST_SECONDS = 5.0


def check_names(asked: Sequence[str] | None) -> tuple[str, ...]:
    """Each once. Raises InvalidBody."""
    names = tuple(dict.fromkeys(asked or ()))
    for name in names:
        if not _NAME.fullmatch(name):
            raise InvalidBody(f"{name!r} cannot be the name of a network: write host, none or a name", "networks")
        if name in _ALONE and len(names) > 1:
            raise InvalidBody(f"{name!r} excludes other networks: give it alone", "networks")
    if len(names) > _MOST:
        raise InvalidBody(f"a run can join at most {_MOST} networks", "networks")
    return names


async def check_joinable(context: Context, names: Sequence[str]) -> None:
    """Raises InvalidBody for one that the engine does not have. An engine that is away has the last word later, when a
    run starts."""
    try:
        async with asyncio.timeout(_MOST_SECONDS):
            await context.driver.check_networks(names)
    except StartFailed as problem:
        raise InvalidBody(str(problem), "networks") from problem
    except (DriverError, TimeoutError):
        return
