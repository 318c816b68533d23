"""Follows a batch to its end: a bar where stderr is a terminal, plain lines elsewhere, and each failure as it happens.

Used by `batch create`, `rerun-failed`, `attach` and `wait`.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from oneoff.cli.client import Client
from oneoff.cli.streams import Narrator
from oneoff.cli.watching import Watch

if TYPE_CHECKING:
    from oneoff.cli.client import Answer

_LINE_EVERY_SECONDS = 10.0
_FAILURES_TOLD = 20
_BAR_WIDTH = 30

Batch = Mapping[str, Any]


class Progress:
    """What stderr shows. With `is_quiet` only the failures, and the end."""

    def __init__(self, narrator: Narrator, *, is_quiet: bool) -> None:
        self._narrator = narrator
        self._is_bar = not is_quiet and sys.stderr.isatty()
        self._is_quiet = is_quiet
        self._told = ""
        self._told_at = float("-inf")

    def show(self, batch: Batch) -> None:
        line = describe_progress(batch)
        if self._is_bar:
            _draw(f"{draw_bar(batch)} {line}")
        elif not self._is_quiet and line != self._told and time.monotonic() - self._told_at >= _LINE_EVERY_SECONDS:
            self._narrator.progress(f"{batch['id']} {line}")
            self._told, self._told_at = line, time.monotonic()

    def say(self, line: str) -> None:
        """In a line of its own, above the bar."""
        self.clear()
        self._narrator.progress(line)

    def clear(self) -> None:
        if self._is_bar:
            _draw("")


class Follower:
    """`batch_id` may be asked for its end again and again; lost connections only take time."""

    def __init__(self, client: Client, batch_id: str, progress: Progress) -> None:
        self._batch_id = batch_id
        self._progress = progress
        self._told: set[int] = set()
        self._watch = Watch(client, progress.say, "the batch")

    def follow(self) -> Answer:
        """The ended batch. Raises ApiRefused when the server is there and says no."""
        while True:
            answer = self._watch.look(f"/batches/{self._batch_id}")
            batch = answer.value
            if batch["counts"]["failed"] > len(self._told) and len(self._told) < _FAILURES_TOLD:
                self._tell_failures()
            if batch["finished_at"]:
                self._progress.clear()
                return answer
            self._progress.show(batch)
            self._watch.pause()

    def _tell_failures(self) -> None:
        """The first ones; a batch may have thousands."""
        cursor = None
        while True:
            page = self._watch.look(f"/batches/{self._batch_id}/items", status="failed", limit=200, cursor=cursor).value
            for item in page["items"]:
                if item["index"] in self._told:
                    continue
                if len(self._told) == _FAILURES_TOLD:
                    shows = f"oneoff batch items {self._batch_id} --status failed"
                    self._progress.say(f"more items failed; `{shows}` shows all")
                    return
                self._told.add(item["index"])
                self._progress.say(describe_failure(item))
            if (cursor := page["next_cursor"]) is None:
                return


def describe_progress(batch: Batch) -> str:
    """`412/1000, 8 running, 3 failed`."""
    counts = batch["counts"]
    ended = counts["succeeded"] + counts["failed"] + counts["canceled"]
    words = [f"{ended}/{batch['item_count']}"]
    words += [f"{counts[name]} {name}" for name in ("running", "failed", "canceled") if counts[name]]
    return ", ".join(words)


def describe_end(batch: Batch) -> str:
    """`failed: 997 succeeded, 3 failed`."""
    counts = batch["counts"]
    told = [f"{counts[name]} {name}" for name in ("succeeded", "failed", "canceled") if counts[name]]
    return f"{batch['status']}: {', '.join(told)}"


def describe_failure(item: Mapping[str, Any]) -> str:
    """`item 7 failed: exit code 3; oneoff logs run-…`."""
    why = f"exit code {item['exit_code']}" if item["reason"] == "nonzero_exit" else item["reason"] or "its run is gone"
    shown = f" ({' '.join(item['arguments'])})" if item["arguments"] else ""
    shown = shown if len(shown) <= 60 else shown[:58] + "…)"
    words = f"item {item['index']}{shown} failed: {why}"
    line = f"{words}; see `oneoff logs {item['run_id']}`" if item["run_id"] else words
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)


def draw_bar(batch: Batch) -> str:
    counts = batch["counts"]
    ended = counts["succeeded"] + counts["failed"] + counts["canceled"]
    full = _BAR_WIDTH * ended // batch["item_count"]
    return f"[{'#' * full}{' ' * (_BAR_WIDTH - full)}]"


def _draw(line: str) -> None:
    """In place of the line that is there."""
    columns = shutil.get_terminal_size().columns
    try:
        os.write(sys.stderr.fileno(), f"\r\x1b[K{line[: columns - 1]}".encode())
    except OSError:
        return
