"""In which turns a delivery reads the logs of its runs."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from oneoff.core.log_lines import LogLine
from oneoff.engine.log_delivery import LogDelivery
from oneoff.store.log_positions import Progress
from oneoff.store.log_streams import LogStreamState
from tests.engine.world import TurnedClock


class Log:
    """Of a run that goes on: `lines` at each reading, or none."""

    def __init__(self, run_id: str, lines: int) -> None:
        self.origin = SimpleNamespace(run_id=run_id)
        self.is_final = self.is_hidden = self.finished = False
        self.progress = Progress(0, 0, False)
        self.reads = 0
        self._lines = lines

    def read(self) -> tuple[list[LogLine], bool]:
        self.reads += 1
        self.progress = Progress(self.progress.position + self._lines, 0, False)
        return [LogLine("stdout", 0, 0, b"line")] * self._lines, False


def test_a_quiet_log_has_one_place_in_the_line_however_long_others_fill_the_batches() -> None:
    clock = TurnedClock()
    sender: Any = SimpleNamespace(acknowledges=True, on_failure=lambda _call: None)
    delivery = LogDelivery("logs", sender, clock, 0.0, LogStreamState())
    busy, quiet = [Log(f"busy-{n}", 2_000) for n in range(10)], [Log(f"quiet-{n}", 0) for n in range(10)]
    for log in (*quiet, *busy):
        delivery.add(log)  # type: ignore[arg-type]
    delivery._take_news()
    for _ in range(200):
        assert len(delivery._collect().lines) == 2_000
        clock.turn(1.0)
    assert {log.reads for log in busy} == {20}
    assert all(log.reads <= 21 for log in quiet)
    assert len(delivery._ready) <= 20
