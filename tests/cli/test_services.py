"""`oneoff service …` against a whole server on the fake driver."""

from __future__ import annotations

import json

from tests.cli.conftest import Cli

PATH = "shop/settings"
GIVEN = {
    "network": ("backend", "networks", []),
    "capability": ("CHOWN", "capabilities", []),
    "user": ("app", "user", None),
    "entrypoint": ("clear", "entrypoint", "keep"),
    "instance-type": ("plan-srv-008", "instance_type", "plan-srv-006"),
}


def test_each_setting_goes_back_to_its_default(admin: Cli) -> None:
    given = [word for name, (value, _, _) in GIVEN.items() for word in (f"--{name}", value)]
    credentials = ("--registry-user", "bot", "--registry-password-stdin")
    made = json.loads(admin.run("service", "create", PATH, *given, *credentials, "--json", stdin=b"pw\n").stdout)
    assert made["registry_username"] == "bot"
    assert all(made[field] != default for _, field, default in GIVEN.values())
    reset = [word for name in (*GIVEN, "sandbox", "registry") for word in ("--reset", name)]
    done = admin.run("service", "update", PATH, *reset, "--json")
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    assert {field: shown[field] for _, field, _ in GIVEN.values()} == {f: default for _, f, default in GIVEN.values()}
    assert (shown["registry_username"], shown["sandbox"]) == (None, None)
    both = admin.run("service", "update", PATH, *credentials, "--reset", "registry", stdin=b"pw\n")
    assert both.returncode == 2
    assert b"either --reset registry or what sets it" in both.stderr
