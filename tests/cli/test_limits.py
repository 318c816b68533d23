"""`oneoff plan`, `oneoff nodes` and `oneoff instance-types` against a whole server on the fake driver."""

from __future__ import annotations

import json

import pytest

from tests.cli.conftest import PATH, Cli


@pytest.fixture(scope="module")
def oneoff(oneoff: Cli) -> Cli:
    assert oneoff.run("job", "create", f"{PATH}:long", "--timeout", "2d", "--", "true").returncode == 0
    return oneoff


def test_a_plan_is_set_after_its_effects_were_told(oneoff: Cli) -> None:
    shown = oneoff.run("plan", "show").stdout.decode()
    assert [line.split() for line in shown.splitlines()[:2]] == [
        ["plan:", "team"],
        ["runs", "going:", "0", "of", "100"],
    ]
    assert [line.split()[0] for line in shown.splitlines()[4:]] == ["PLAN", "starter", "pro", "team*"]
    dry = oneoff.run("plan", "set", "pro", "--dry-run")
    assert (dry.returncode, dry.stdout) == (0, b"")
    assert b"job shop/production/web:long: its time limit of 2d is beyond the plan's 1d" in dry.stderr
    asked = oneoff.run("plan", "set", "pro", stdin=b"n\n")
    assert asked.returncode == 130
    assert json.loads(oneoff.run("plan", "show", "--json").stdout)["id"] == "team"
    done = oneoff.run("plan", "set", "pro", "--yes")
    assert (done.returncode, done.stdout) == (0, b"the plan is pro now\n")
    refused = oneoff.run("job", "run", f"{PATH}:long", "--detach")
    assert refused.returncode == 125
    assert b"ask for 1d or less, or change to Team with `oneoff plan set`" in refused.stderr
    assert json.loads(oneoff.run("plan", "set", "Team", "--json").stdout)["effects"] == []
    assert b"use one of starter, pro, team" in oneoff.run("plan", "set", "gold").stderr


def test_types_are_listed_and_a_wrong_one_is_refused_with_those_that_would_do(oneoff: Cli) -> None:
    listed = oneoff.run("instance-types").stdout.decode()
    assert "plan-srv-006  Starter    service  0.5  512 MB  $7/month" in listed
    refused = oneoff.run("run", PATH, "--instance-type", "plan-crn-003", "--detach", "--", "true")
    assert refused.returncode == 125
    assert b"use one of plan-srv-006, " in refused.stderr


def test_nodes_are_listed(oneoff: Cli) -> None:
    assert oneoff.run("nodes").returncode == 0
    assert "items" in json.loads(oneoff.run("nodes", "--json").stdout)


def test_a_job_keeps_less_of_its_history_and_not_more_than_the_plan(oneoff: Cli) -> None:
    job = f"{PATH}:long"
    assert oneoff.run("job", "update", job, "--keep-runs", "5").returncode == 0
    changed = json.loads(oneoff.run("job", "update", job, "--keep-days", "7", "--json").stdout)
    assert changed["retention"] == {"runs": 5, "days": 7}
    assert b"runs: 5, days: 7" in oneoff.run("job", "show", job).stdout
    refused = oneoff.run("job", "update", job, "--keep-runs", "1001")
    assert (refused.returncode, refused.stdout) == (1, b"")
    assert b"the Team plan keeps at most 1000 runs: ask for less" in refused.stderr


def test_settings_of_a_job_go_back_to_their_defaults(oneoff: Cli) -> None:
    job = f"{PATH}:bounded"
    bounds = ("--timeout", "1h", "--warn", "5m", "--end-by", "08:00", "--group", "nightly", "--keep-runs", "5")
    retries = ("--retries", "2", "--retry-back-off", "fixed")
    assert oneoff.run("job", "create", job, *bounds, *retries, "--", "true").returncode == 0
    assert b"back off: fixed, delay seconds: 10" in oneoff.run("job", "show", job).stdout
    fields = {
        "warn": "warn_seconds", "timeout": "timeout_seconds", "end-by": "must_end_by", "group": "concurrency_group",
        "retries": "retries", "retention": "retention",
    }  # fmt: skip
    reset = [word for name in fields for word in ("--reset", name)]
    changed = json.loads(oneoff.run("job", "update", job, *reset, "--json").stdout)
    assert {changed[field] for field in fields.values()} == {None}
    both = oneoff.run("job", "update", job, "--timeout", "1h", "--reset", "timeout")
    assert (both.returncode, both.stdout) == (2, b"")


def test_groups_are_set_and_listed(oneoff: Cli) -> None:
    assert oneoff.run("group", "set", "db-migrate", "2").stdout == b"group db-migrate: at most 2 at once, 0 going\n"
    assert json.loads(oneoff.run("group", "set", "db-migrate", "1", "--json").stdout)["limit"] == 1
    listed = [line.split() for line in oneoff.run("group", "list").stdout.decode().splitlines()]
    assert listed[0] == ["GROUP", "LIMIT", "GOING"]
    assert ["db-migrate", "1", "0"] in listed
    assert oneoff.run("group", "set", "db-migrate", "0").returncode == 2
    refused = oneoff.run("group", "set", "Not A Name", "1")
    assert (refused.returncode, refused.stdout) == (1, b"")
    assert b"cannot name a group" in refused.stderr


def test_usage_is_a_table_with_its_total_or_csv_or_json(oneoff: Cli) -> None:
    for _ in range(2):
        assert oneoff.run("run", PATH, "--", "true").returncode == 0
    told = oneoff.run("usage", "--by", "service", "--by", "job").stdout.decode()
    table = [line.split() for line in told.splitlines()]
    assert table == [
        ["SERVICE", "JOB", "RUNS", "TIME", "USD"],
        ["shop/production/web", "(ad", "hoc)", "2", "2s", "0.000005"],
        ["total", "2", "2s", "0.000005"],
    ]
    as_csv = oneoff.run("usage", "--by", "instance_type", "--csv").stdout.decode()
    assert as_csv.splitlines() == ["instance_type,runs,seconds,cost_usd", "plan-srv-006,2,2,0.000005"]
    assert json.loads(oneoff.run("usage", "--json").stdout)["total"]["runs"] == 2
    empty = oneoff.run("usage", "--from", "2020-01-01", "--to", "2020-01-31")
    assert (empty.stdout, empty.stderr) == (b"", b"no run ended from 2020-01-01 to 2020-01-31\n")
    assert oneoff.run("usage", "--csv", "--json").returncode == 2
    assert b"is later than" in oneoff.run("usage", "--from", "2020-01-31", "--to", "2020-01-01").stderr


def test_doctor_tells_the_plan_and_the_types_in_use(oneoff: Cli) -> None:
    report = json.loads(oneoff.run("doctor", "--json", "--data", str(oneoff.home / "data")).stdout)
    levels = {each["check"]: each["level"] for each in report["findings"]}
    assert (levels["plan"], levels["instance types"]) == ("ok", "ok")
