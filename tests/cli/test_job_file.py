"""Job files are read with the place of everything in them, and all that is wrong is told at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml

from oneoff.cli.job_file import read_job_file
from oneoff.cli.job_file_keys import CRON, FILE, JOB, RETRIES
from oneoff.cli.job_file_schema import schema

EXAMPLE = Path(__file__).parents[2] / "examples" / "shop" / "oneoff.yaml"


def problems_of(text: str, **environment: str) -> list[str]:
    read = read_job_file(text, None, environment)
    return [f"{each.line}:{each.column}: {each.text}" for each in read.problems]


def job_of(text: str) -> dict[str, Any]:
    read = read_job_file(f"service: a/b\njobs:\n  x:\n{text}", None, {})
    assert read.problems == []
    (job,) = read.body["jobs"]
    return {name: value for name, value in job.items() if name not in ("service", "name")}


def test_the_annotated_example_has_every_key_there_is() -> None:
    read = read_job_file(EXAMPLE.read_text(), None, {"SENTRY_DSN": "https://k@sentry.test/1"})
    assert read.problems == []
    body = read.body
    migrate, check, clean, requeue = body["jobs"]
    assert (migrate["service"], migrate["gate"]) == ("shop/production/web", "before_deploy")
    assert (check["instance_type"], check["timeout_seconds"]) == ("plan-srv-006", 600)
    assert clean["variables"]["SENTRY_DSN"] == {"value": "https://k@sentry.test/1", "secret": True}
    assert (clean["must_end_by"], clean["variables"]["KEEP_DAYS"]) == ("08:00 Europe/Berlin", "90")
    assert (requeue["service"], requeue["retries"]) == ("shop/production/worker", {"count": 3})
    used = {name for job in body["jobs"] for name in job} | {"service", "groups", "jobs"}
    assert used >= {key.field for key in (*FILE.values(), *JOB.values())}
    assert clean["retention"] == {"runs": 30, "days": 14}
    assert set(clean["retries"]) == {key.field for key in RETRIES.values()}
    assert set(clean["crons"][1]) == {"name"} | {key.field for key in CRON.values()}
    assert clean["crons"][0] == {"name": "weekly", "expression": "0 4 * * SUN"}


def test_the_schema_for_editors_takes_the_example_and_refuses_a_misspelt_key() -> None:
    described, example = json.loads(schema()), yaml.safe_load(EXAMPLE.read_text())
    assert jsonschema_rs.is_valid(described, example)
    example["jobs"]["clean"]["timeuot"] = "1h"
    assert not jsonschema_rs.is_valid(described, example)


def test_scalars_are_texts_as_they_are_written() -> None:
    job = job_of("    command: [echo, 010, yes, 1.50, 2026-01-01]\n    variables: {PORT: 0080, ON: off, E: ''}\n")
    assert job == {
        "command": ["echo", "010", "yes", "1.50", "2026-01-01"],
        "variables": {"PORT": "0080", "ON": "off", "E": ""},
    }


_X = "service: a/b\njobs:\n  x:\n    shell: a\n    "  # and its next line is 5


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", ["1:1: the file is empty: it needs service: and jobs:"]),
        ("jobs:\n  x:\n    command: [a]\n", ["1:1: service: is missing: write the path of the service"]),
        ("service: a/b\njobs: [x]\n", ["2:7: jobs: is a mapping of names to jobs"]),
        ("service: a/b\nservice: a/c\n", ["2:1: 'service' is there twice"]),
        ("service: a/b\nbojs: {}\n", ["2:1: the file has no 'bojs': did you mean jobs?"]),
        ("service: [\n", ["2:1: this is no YAML"]),
        ("service: a/b\ngroups: {db: many}\n", ["2:14: 'many' is no whole number"]),
        ("service: a/b\njobs:\n  x: {command: a b}\n", ["3:16: a list belongs here: [python, manage.py, migrate]"]),
        ("service: a/b\njobs:\n  x: {timeout: 1m}\n", ["3:3: job x has no command"]),
        (_X + "timeout: soon\n", ["5:14: "]),
        (_X + "zone: UTC\n", ["5:5: job x has no 'zone': known are command,"]),
        (_X + "env: {A: b}\n", ["5:5: job x has no 'env': did you mean variables?"]),
        (_X + "retries: {cuont: 1}\n", ["5:15: retries has no 'cuont': did you mean count?"]),
        (_X + "crons: {n: @daily}\n", ["5:16: this is no YAML: found character"]),
        (_X + "crons: {n: {overlap: skip}}\n", ["5:13: cron n has no schedule"]),
        (_X + "variables: {K: {from_env: K}}\n", ["5:31: the environment of"]),
        (_X + "variables: {K: {secret: true, value: s3cret}}\n", ["5:20: variable K: secrets are not for files"]),
        (
            "service: a/b\njobs:\n  x: {shel: a}\n  y: {command: [a], timeout: soon, gate: [x]}\n",
            ["3:7: job x has no 'shel': did you mean shell?", "4:30: ", "4:42: a text belongs here"],
        ),
    ],
)
def test_what_is_wrong_is_told_with_its_place(text: str, said: list[str]) -> None:
    found = problems_of(text)
    assert len(found) == len(said), found
    for told, beginning in zip(found, said, strict=True):
        assert told.startswith(beginning)
        assert "s3cret" not in told


def test_a_part_is_found_by_its_nearest_place() -> None:
    read = read_job_file(
        "service: a/b\njobs:\n  bad: {}\n  x:\n    shell: a\n    crons:\n      n: '@daily'\n", None, {}
    )
    assert read.find_place("jobs.0.crons.0.expression") == (7, 10)
    assert read.find_place("jobs.0.crons.0.jitter_seconds") == (7, 7)
    assert read.find_place("jobs.0.timeout_seconds") == (4, 3)
    assert read.find_place("groups.x.limit") == (1, 1)


def test_a_file_that_is_nested_without_end_is_told_like_any_other_problem() -> None:
    found = read_job_file("[" * 5_000, None, {})
    assert [problem.text for problem in found.problems] == [
        "this is no job file: its parts lie within each other far too deep"
    ]
