"""What is told of a lost connection, by everything that rides over one."""

from __future__ import annotations

import pytest

from oneoff.cli import streams
from oneoff.cli.streams import LostConnection


def test_an_outage_is_told_once_in_a_while_and_not_for_every_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(streams.time, "monotonic", lambda: now)
    said: list[str] = []
    lost = LostConnection(said.append, "the batch")
    for _ in range(3):
        lost.tell()
    assert said == ["connection to the server lost; trying until it is back (the batch goes on meanwhile)"]
    now += 61
    lost.tell()
    assert len(said) == 2


def test_events_that_are_followed_have_nothing_that_goes_on_meanwhile() -> None:
    said: list[str] = []
    LostConnection(said.append).tell()
    assert said == ["connection to the server lost; trying until it is back"]
