"""Fills a store with finished runs, copied from the one that it holds. Used by `accepting`, with the server stopped."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

from oneoff.core.ids import CHANCE_BYTES, make_id

_SERVICES = 10
_SPACING = timedelta(seconds=20)


def fill(path: Path, count: int) -> None:
    """`count` runs before now: nine of ten of the service, 2 % failed, 0.1 % canceled; triggers in turn."""
    now = datetime.now(UTC) - timedelta(minutes=1)
    others = [make_id("service", now, os.urandom(CHANCE_BYTES)) for _ in range(_SERVICES - 1)]

    def new_id(number: int) -> str:
        return make_id("run", now - number * _SPACING, os.urandom(CHANCE_BYTES))

    with closing(sqlite3.connect(path)) as store:
        store.create_function("new_id", 1, new_id)
        store.create_function("other", 1, lambda number: others[number // 10 % len(others)])
        names = [row[1] for row in store.execute("PRAGMA table_info(runs)")]
        values = {
            "id": "new_id(n)",
            "service_id": "CASE WHEN n % 10 = 0 THEN other(n) ELSE service_id END",
            "status": "CASE WHEN n % 1000 = 0 THEN 'canceled' WHEN n % 50 = 0 THEN 'failed' ELSE 'succeeded' END",
            "trigger": "CASE n % 4 WHEN 0 THEN 'cron' WHEN 1 THEN 'manual' WHEN 2 THEN 'batch' ELSE 'api' END",
            **{name: f"{name} - n * 20000000" for name in names if name.endswith("_at") and name != "stop_at"},
        }
        columns = ", ".join(f'"{name}"' for name in names)
        chosen = ", ".join(values.get(name, f'"{name}"') for name in names)
        store.execute(
            "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < ?) "
            f"INSERT INTO runs ({columns}) SELECT {chosen} FROM numbers, (SELECT * FROM runs LIMIT 1) ORDER BY n DESC",
            (count,),
        )
        store.commit()
