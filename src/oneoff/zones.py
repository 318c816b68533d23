"""Time zones by name, from the machine's database or the packaged one. Used where a cron comes in or out of the store;
core gets the zone itself."""

from __future__ import annotations

import difflib
from functools import lru_cache
from zoneinfo import ZoneInfo, available_timezones

from oneoff.errors import UnknownTimeZone


@lru_cache(maxsize=1024)
def find_zone(name: str) -> ZoneInfo:
    """Raises UnknownTimeZone with similar names."""
    # Asked of the list, not of ZoneInfo: that takes file names, and its errors differ between platforms.
    names = _names()
    if name in names:
        return ZoneInfo(name)
    folded = {each.casefold(): each for each in names}
    near = difflib.get_close_matches(name.casefold()[:64], folded, n=3, cutoff=0.6)
    cities = [each for each in sorted(names) if "/" in each and each.rpartition("/")[2].casefold() == name.casefold()]
    raise UnknownTimeZone(name[:64], dict.fromkeys([*cities, *(folded[each] for each in near)]))


@lru_cache(maxsize=1)
def _names() -> frozenset[str]:
    return frozenset(available_timezones())
