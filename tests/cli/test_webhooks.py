"""`oneoff webhook …` against a whole server on the fake driver."""

from __future__ import annotations

import json

import pytest

from tests.cli.conftest import Cli

URL = "https://203.0.113.7/hook"


async def _anywhere(*_: object) -> list[str]:
    """These tests save addresses, and send nothing there."""
    return ["203.0.113.7"]


def test_a_webhook_is_made_changed_rotated_tested_and_deleted(admin: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each call is a process: as few of them as show the way."""
    monkeypatch.setattr("oneoff.operations.webhooks.find_addresses", _anywhere)
    made = admin.run("webhook", "create", "ci", URL, "--event", "run.*", "--failures-only")
    assert made.returncode == 0, made.stderr
    assert made.stdout.startswith(b"whsec_")
    shown = json.loads(admin.run("webhook", "show", "ci", "--json", "--reveal").stdout)
    assert (shown["secret"], shown["kinds"]) == (made.stdout.decode().strip(), ["run.*"])
    assert b"changed, disabled: by admin" in admin.run("webhook", "update", shown["id"], "--disable").stdout
    assert b"disabled: by admin" in admin.run("webhook", "list").stdout
    tested = admin.run("webhook", "test", "ci")
    assert tested.returncode == 1
    assert b"failed: 203.0.113.7: it lies in a private or reserved network" in tested.stdout
    assert b"webhook.test" in admin.run("webhook", "deliveries", "ci", "--status", "failed").stdout
    rotated = admin.run("webhook", "rotate", "ci", "--overlap", "1h")
    assert rotated.stdout.startswith(b"whsec_")
    assert b"signs until" in rotated.stderr
    assert admin.run("webhook", "delete", "ci", "--yes").returncode == 0
    assert b"smtp_url" in admin.run("webhook", "create", "x", "--to", "a@example.com").stderr
