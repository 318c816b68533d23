"""`oneoff apply` on a real server with the fake driver."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Cli
from tests.cli.live import LiveServer
from tests.operations.home import IMAGE

EXAMPLE = Path(__file__).parents[2] / "examples" / "shop" / "oneoff.yaml"
FILE = """\
service: shop/production
jobs:
  clean:
    command: [clean]
    timeout: 10m
    crons:
      nightly: "30 2 * * *"
"""

Apply = Callable[..., tuple[int, str, str]]


@pytest.fixture
def oneoff(live: LiveServer, tmp_path: Path) -> Cli:
    made = Cli(tmp_path, ONEOFF_URL=live.url, ONEOFF_TOKEN=live.home.admin_token, SENTRY_DSN="topsecret")
    made.run("service", "delete", "shop/production", "--yes", "--with-jobs")
    made.run("service", "create", "shop/production", "--image", IMAGE)
    return made


@pytest.fixture
def apply(oneoff: Cli, tmp_path: Path) -> Apply:
    def run(text: str, *options: str) -> tuple[int, str, str]:
        (tmp_path / "oneoff.yaml").write_text(text)
        done = oneoff.run("apply", str(tmp_path / "oneoff.yaml"), *options)
        return done.returncode, done.stdout.decode(), done.stderr.decode().replace(f"{tmp_path}/", "")

    return run


def test_the_plan_is_shown_then_carried_out_and_then_nothing_is_to_do(oneoff: Cli, apply: Apply) -> None:
    code, plan, _ = apply(FILE, "--dry-run", "--exit-code")
    assert code == 2
    assert plan.splitlines() == [
        "+ job shop/production/web:clean",
        "    command: clean",
        "    timeout: 10m",
        "+ cron shop/production/web:clean:nightly",
        "    expression: 30 2 * * *",
    ]
    assert json.loads(oneoff.run("job", "list", "--json").stdout)["items"] == []
    assert apply(FILE) == (0, plan + "applied: 2 created\n", "")
    assert apply(FILE) == (0, "nothing to change\n", "")
    assert apply(FILE, "--dry-run", "--exit-code") == (0, "nothing to change\n", "")
    assert json.loads(apply(FILE, "--json")[1])["changes"] == 0
    _, changed, _ = apply(FILE.replace("10m", "1h"))
    assert changed == "~ job shop/production/web:clean\n    timeout: 10m -> 1h\napplied: 1 changed, 1 unchanged\n"


def test_all_problems_of_form_and_of_rules_are_told_with_their_places(apply: Apply) -> None:
    wrong = FILE.replace("10m", "99d").replace("30 2 * * *", "61 2 * * *") + "  other: {shel: x}\n"
    code, out, err = apply(wrong)
    assert (code, out) == (1, "")
    lines = err.splitlines()
    assert lines[0] == "error: 2 problems in oneoff.yaml, nothing was changed"
    assert lines[1].startswith("oneoff.yaml:5:14: ")
    assert lines[2] == "oneoff.yaml:8:11: job other has no 'shel': did you mean shell?"
    lines = apply(wrong.replace("99d", "1d").replace("shel:", "overlap:"))[2].splitlines()
    assert [line.split(": ")[0] for line in lines[1:]] == ["oneoff.yaml:7:16", "oneoff.yaml:8:11"]
    assert apply("service: shop/nowhere\njobs: {}\n")[0] == 1


@pytest.mark.parametrize(
    "line", ["group: DB", "must_end_by: 25:00", "must_end_by: 08:00 Mars", "instance_type: huge", "warn: 1h"]
)
def test_a_setting_that_breaks_a_rule_is_told_at_its_own_line(apply: Apply, line: str) -> None:
    _, _, err = apply(FILE.replace("    timeout", f"    {line}\n    timeout"))
    column = 6 + len(line.partition(":")[0]) + 1
    assert err.splitlines()[1].startswith(f"oneoff.yaml:5:{column}: ")


def test_retries_are_shown_in_words(apply: Apply) -> None:
    _, plan, _ = apply(
        FILE.replace("timeout: 10m", "retries: {count: 2, exit_codes: [75, 76], reasons: [lost, killed]}")
    )
    told = "count 2, back_off exponential, delay 10s, most_delay 1h, exit_codes 75 76, reasons killed lost"
    assert f"    retries: {told}" in plan.splitlines()


def test_what_is_deleted_is_asked_for_first(apply: Apply) -> None:
    apply(FILE)
    fewer = "service: shop/production\njobs: {}\n"
    assert "? job shop/production/web:clean is not in the file any more: --prune deletes it" in apply(fewer)[1]
    code, _, err = apply(fewer, "--prune")
    assert (code, "--yes" in err) == (1, True)
    assert apply(fewer, "--prune", "--yes")[1].endswith("applied: 2 deleted\n")
    assert apply(fewer, "--prune") == (0, "nothing to change\n", "")


def test_a_job_made_by_hand_is_taken_over_only_when_that_is_said(oneoff: Cli, apply: Apply) -> None:
    oneoff.run("job", "create", "shop/production:clean", "--", "by", "hand")
    code, _, err = apply(FILE)
    assert code == 1
    assert "oneoff.yaml:3:3: job shop/production/web:clean was made by hand" in err
    assert apply(FILE, "--adopt")[1].startswith("~ job shop/production/web:clean (taken over)\n")


def test_the_annotated_example_is_applied_and_shows_no_secret(oneoff: Cli, apply: Apply) -> None:
    oneoff.run("service", "create", "shop/production/worker", "--image", IMAGE)
    text = EXAMPLE.read_text()
    code, out, err = apply(text)
    assert (code, err) == (0, "")
    assert out.endswith("applied: 7 created\n")
    assert "variables.SENTRY_DSN: set" in out
    assert "topsecret" not in out
    assert apply(text) == (0, "nothing to change\n", "")
    job = json.loads(oneoff.run("job", "show", "shop/production/web:migrate", "--json").stdout)
    assert (job["gate"], job["managed_by"]) == ("before_deploy", "oneoff.yaml (shop/production/web)")
    oneoff.run("service", "delete", "shop/production/worker", "--yes", "--with-jobs")


def test_another_environment_gets_the_same_file_by_an_option(oneoff: Cli, apply: Apply) -> None:
    oneoff.run("service", "create", "shop/staging", "--image", IMAGE)
    assert apply(FILE, "--service", "shop/staging")[1].endswith("applied: 2 created\n")
    assert json.loads(oneoff.run("job", "list", "shop/production", "--json").stdout)["items"] == []
    oneoff.run("service", "delete", "shop/staging", "--yes", "--with-jobs")
