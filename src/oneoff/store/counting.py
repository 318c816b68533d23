"""What a transaction counts in `metrics`, counted once it is durable: never for one that failed, never twice for one
that was begun again. Called by the modules of the store and by the engine; `database` and `sqlite` see to it."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection

Count = Callable[[], None]
_PENDING = "oneoff_counts"


def when_durable(connection: Connection, count: Count) -> None:
    """`count` is called in a thread of the store, after the commit."""
    connection.info.setdefault(_PENDING, []).append(count)


def take(connection: Connection) -> list[Count]:
    """What is pending since the last call; to be called, or dropped with its transaction."""
    pending: list[Count] = connection.info.pop(_PENDING, [])
    return pending
