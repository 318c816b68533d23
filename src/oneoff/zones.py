"""Time zones by their IANA names, from the system's database. Used by the operations on crons and by the scheduler."""

from __future__ import annotations

import difflib
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from oneoff.errors import UnknownTimeZone

_MOST_SIMILAR = 3
_NOT_ZONES = {"posix", "right", "localtime", "posixrules", "Factory"}  # names of the database that are no place


@lru_cache(maxsize=1024)
def get_zone(name: str) -> ZoneInfo:
    """One object for each name, so that what is computed for a zone is found again. Raises UnknownTimeZone."""
    if name.partition("/")[0] in _NOT_ZONES:
        raise UnknownTimeZone(name, _similar(name.partition("/")[2]))
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise UnknownTimeZone(name, _similar(name)) from None


def _similar(name: str) -> list[str]:
    """Names that were perhaps meant: written in another case, a city without its continent, or mistyped."""
    known = {each.lower(): each for each in available_timezones()}
    wanted = name.lower().replace(" ", "_")
    if wanted in known:
        return [known[wanted]]
    city = wanted.rpartition("/")[2]
    of_city = sorted(known[each] for each in known if each.rpartition("/")[2] == city)
    close = difflib.get_close_matches(wanted, known, _MOST_SIMILAR)
    return (of_city or [known[each] for each in close])[:_MOST_SIMILAR]
