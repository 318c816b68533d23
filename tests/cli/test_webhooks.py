"""`oneoff webhook …` against a whole server on the fake driver."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Cli
from tests.cli.live import LiveServer, live_server

URL = "https://203.0.113.7/hook"


@pytest.fixture
def live(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LiveServer]:
    monkeypatch.setattr("oneoff.operations.webhooks.find_addresses", _anywhere)
    with live_server(tmp_path) as running:
        yield running


async def _anywhere(*_: object) -> list[str]:
    """These tests save addresses, and send nothing there."""
    return ["203.0.113.7"]


def test_a_webhook_is_made_changed_rotated_tested_and_deleted(live: LiveServer, tmp_path: Path) -> None:
    """Each call is a process: as few of them as show the way."""
    oneoff = Cli(tmp_path / "home", ONEOFF_URL=live.url, ONEOFF_TOKEN=live.home.admin_token)
    made = oneoff.run("webhook", "create", "ci", URL, "--event", "run.*", "--failures-only")
    assert made.returncode == 0, made.stderr
    assert made.stdout.startswith(b"whsec_")
    shown = json.loads(oneoff.run("webhook", "show", "ci", "--json", "--reveal").stdout)
    assert (shown["secret"], shown["kinds"]) == (made.stdout.decode().strip(), ["run.*"])
    assert b"changed, disabled: by admin" in oneoff.run("webhook", "update", shown["id"], "--disable").stdout
    assert b"disabled: by admin" in oneoff.run("webhook", "list").stdout
    tested = oneoff.run("webhook", "test", "ci")
    assert tested.returncode == 1
    assert b"failed: 203.0.113.7: it lies in a private or reserved network" in tested.stdout
    assert b"webhook.test" in oneoff.run("webhook", "deliveries", "ci", "--status", "failed").stdout
    rotated = oneoff.run("webhook", "rotate", "ci", "--overlap", "1h")
    assert rotated.stdout.startswith(b"whsec_")
    assert b"signs until" in rotated.stderr
    assert oneoff.run("webhook", "delete", "ci", "--yes").returncode == 0
    assert b"smtp_url" in oneoff.run("webhook", "create", "x", "--to", "a@example.com").stderr
