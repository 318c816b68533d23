"""The dashboard and the alerts ask for metrics that there are, in expressions Prometheus understands."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from oneoff import metrics
from oneoff.meters import Histogram
from oneoff.metrics import METERS

ROOT = Path(__file__).parents[2]
DASHBOARD = json.loads((ROOT / "packaging" / "grafana" / "oneoff.json").read_text())
ALERTS = ROOT / "packaging" / "prometheus" / "alerts.yml"
NOT_OURS = {"up"}
_NAME = re.compile(r"\b(?:oneoff|process)_\w+|\bup\b")


def series() -> set[str]:
    """The names of all samples."""
    suffixes = {Histogram: ("_bucket", "_sum", "_count")}
    return {each.name + end for each in METERS for end in suffixes.get(type(each), ("",))}


def promtool(*arguments: str | Path) -> str:
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def expressions() -> Iterator[str]:
    for panel in DASHBOARD["panels"]:
        yield from (target["expr"] for target in panel.get("targets", ()))
    yield from (each["expr"] for each in DASHBOARD["annotations"]["list"])
    yield from (each["query"]["query"] for each in DASHBOARD["templating"]["list"] if each["type"] == "query")


def test_the_dashboard_shows_metrics_that_there_are() -> None:
    named = {name for expression in expressions() for name in _NAME.findall(expression)}
    assert named - series() == set()
    assert len(named) > 30


def test_every_metric_of_ours_is_on_the_dashboard_or_in_an_alert() -> None:
    text = "".join(expressions()) + ALERTS.read_text()
    assert [each.name for each in METERS if each.name.startswith("oneoff_") and each.name not in text] == []


def test_prometheus_understands_every_expression_of_the_dashboard(tmp_path: Path) -> None:
    filled = [
        expression.replace("$__rate_interval", "5m").replace("$__interval", "1m")
        for expression in expressions()
        if not expression.startswith("label_values(")
    ]
    rules = [{"record": f"panel:{number}", "expr": each} for number, each in enumerate(filled)]
    file = tmp_path / "panels.yml"
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    assert f"{len(filled)} rules found" in promtool("check", "rules", file)


def test_panels_do_not_overlap_and_have_a_description_each() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place: dict[str, Any] = panel["gridPos"]
        columns, rows = range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"])
        cells = {(x, y) for x in columns for y in rows}
        assert not cells & taken, panel["title"]
        taken |= cells
        assert place["x"] + place["w"] <= 24
        assert panel["type"] == "row" or panel["description"]
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_the_alerts_are_rules_about_metrics_that_there_are() -> None:
    promtool("check", "rules", ALERTS)
    asked = "\n".join(line for line in ALERTS.read_text().splitlines() if "summary:" not in line)
    assert set(_NAME.findall(asked)) - series() - NOT_OURS == set()


def test_the_alerts_fire_when_they_should_and_not_before(tmp_path: Path) -> None:
    hours = (Path(__file__).parent / "alerts.yml").read_text()
    file = tmp_path / "hours.yml"
    file.write_text(f"rule_files: [{ALERTS}]\n{hours}")
    promtool("test", "rules", file)


def test_every_alert_is_in_the_docs() -> None:
    page = (ROOT / "docs" / "monitoring.md").read_text()
    alerts = re.findall(r"- alert: (\w+)", ALERTS.read_text())
    assert [name for name in alerts if f"`{name}`" not in page] == []
    assert set(re.findall(r"`(Oneoff[A-Z]\w+)`", page)) == set(alerts)


def test_every_metric_is_in_a_test() -> None:
    """Its name, or its name in `metrics`: so that none stays that nobody saw moving."""
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("*.py"))
    names = {id(value): name for name, value in vars(metrics).items()}
    unseen = [each.name for each in METERS if each.name not in tests and f"metrics.{names[id(each)]}" not in tests]
    assert unseen == []
