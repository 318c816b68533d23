"""Filters that Oneoff's own lists do not have: pages are read until so many items match."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Protocol, TypeAlias, TypeVar

from oneoff.store.runs import Window

_PAGE = 200


class HasId(Protocol):
    @property
    def id(self) -> str: ...


_Item = TypeVar("_Item", bound=HasId)
Fetch: TypeAlias = Callable[[int, str | None], Awaitable[Sequence[_Item]]]


async def select(fetch: Fetch[_Item], matches: Callable[[_Item], bool], limit: int, before: str | None) -> list[_Item]:
    """At most `limit` of those that match, behind `before`; `fetch` takes a limit and what to begin behind."""
    found: list[_Item] = []
    while True:
        page = await fetch(_PAGE, before)
        found += [item for item in page if matches(item)]
        if len(found) >= limit or len(page) < _PAGE:
            return found[:limit]
        before = page[-1].id


async def fetch_all(fetch: Fetch[_Item]) -> list[_Item]:
    """For lists that are short: services, environments, projects."""
    found: list[_Item] = []
    while True:
        page = await fetch(_PAGE, found[-1].id if found else None)
        found += page
        if len(page) < _PAGE:
            return found


def is_within(moment: datetime | None, window: Window) -> bool:
    if moment is None:
        return window.after is None and window.before is None
    return (window.after is None or moment > window.after) and (window.before is None or moment < window.before)
