"""A run's log as others may see it: from a position on, of some streams, declared secrets hidden. Used where logs are
shown, and where they are sent."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from oneoff.core.masking import SHORTEST, Masker
from oneoff.logs.reader import PIECE, LogReader
from oneoff.logs.record import STREAMS, LogRecord

# Reading begins so much earlier when there are secrets: one that lies across the position is recognised by it.
_CONTEXT_BYTES = 64 * 1024
_MOST_HELD_BYTES = 256 * 1024


@dataclass(slots=True)
class _Held:
    """A record of which the masker has settled the first bytes, `shown`; some of them were given away already."""

    record: LogRecord
    shown: bytearray = field(default_factory=bytearray)
    given: int = 0


class LogCursor:
    """Records in the order of the log. All calls block for the disk; one caller at a time."""

    def __init__(self, folder: Path, after: int, streams: Collection[str], secrets: Collection[bytes]) -> None:
        self._after = after
        self._streams = frozenset(streams)
        worth = {secret for secret in secrets if len(secret) >= SHORTEST}
        longest = max((len(secret) for secret in worth), default=0)
        context = max(_CONTEXT_BYTES, 2 * longest) if worth else 0
        self._reader = LogReader(folder, max(0, after - context))
        self._maskers = {stream: Masker(worth) for stream in STREAMS} if worth else {}
        self._held: deque[_Held] = deque()

    @property
    def position(self) -> int:
        """Everything up to here was returned, or is of no interest."""
        if self._held:
            first = self._held[0]
            return max(self._after, first.record.begin + first.given)
        return max(self._after, self._reader.position)

    @property
    def holds(self) -> bool:
        """Whether something waits for more output, to see whether it begins a secret."""
        return bool(self._held)

    def read(self, most_bytes: int = PIECE) -> tuple[list[LogRecord], bool]:
        """The next records, and whether there was anything new at all: what is new may be held, or be filtered."""
        records = self._reader.read(most_bytes)
        if not records:
            return [], False
        wanted = [record for record in records if record.stream in self._streams]
        shown = self._mask(wanted) if self._maskers else wanted
        if sum(len(held.record.data) for held in self._held) > _MOST_HELD_BYTES:
            shown += self.flush()
        return self._behind_start(shown), True

    def flush(self) -> list[LogRecord]:
        """What is held, as there is nothing more to wait for."""
        for stream, masker in self._maskers.items():
            self._settle(stream, masker.flush())
        return self._behind_start(self._take_settled())

    def close(self) -> None:
        self._reader.close()

    def _mask(self, records: list[LogRecord]) -> list[LogRecord]:
        for record in records:
            self._held.append(_Held(record))
            self._settle(record.stream, self._maskers[record.stream].feed(record.data))
        return self._take_settled()

    def _settle(self, stream: str, shown: bytes) -> None:
        """Spread settled bytes over the records they belong to."""
        for held in self._held:
            if not shown:
                return
            missing = len(held.record.data) - len(held.shown)
            if held.record.stream == stream and missing:
                held.shown += shown[:missing]
                shown = shown[missing:]

    def _take_settled(self) -> list[LogRecord]:
        """From the front, as positions only ever grow; of a record that is settled in part, that part."""
        taken = []
        while self._held:
            held = self._held[0]
            if len(held.shown) > held.given:
                taken.append(_part(held))
                held.given = len(held.shown)
            if held.given < len(held.record.data):
                break
            self._held.popleft()
        return taken

    def _behind_start(self, records: list[LogRecord]) -> list[LogRecord]:
        after = self._after
        return [r if r.begin >= after else r.after(after) for r in records if r.position > after]


def _part(held: _Held) -> LogRecord:
    record = held.record
    rest = len(record.data) - len(held.shown)
    stdout = record.stdout - (rest if record.stream == "stdout" else 0)
    stderr = record.stderr - (rest if record.stream == "stderr" else 0)
    return LogRecord(record.stream, record.time_us, stdout, stderr, bytes(held.shown[held.given :]))
