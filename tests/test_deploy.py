"""What stands in deploy/ must speak of metrics, labels, programs and settings that there are."""

from __future__ import annotations

import configparser
import importlib.util
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from gateway_project import scraping
from inference import allowing
from inference.batch_counts import counts
from inference.metrics import Metrics, health_families, snapshot_families
from inference.recording import Recorder
from routing import snapshot
from tests.inference import registry

DEPLOY = Path(__file__).resolve().parents[1] / "deploy"
BOARD = json.loads((DEPLOY / "grafana" / "llm-gateway.json").read_text())
RULES = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())["groups"][0]["rules"]
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))

OF_A_SPOOL = {
    *("gateway_records_adopted_total", "gateway_records_unprotected", "gateway_spool_bytes", "gateway_spool_full"),
    "gateway_contents_dropped_total",
}
"""What a recorder tells that has one, and of the content that it keeps."""

_METRIC = re.compile(r"\b(gateway_[a-z0-9_]+)\b(?:\{([^}]*)\})?")
_GROUPED = re.compile(r"\b(?:by|without)\s*\(([^)]*)\)\s*\(")
_SHOWN = re.compile(r"\{\{\s*(?:\$labels\.)?([a-z_]+)\s*\}\}")


def expressions() -> Iterator[tuple[str, str, str]]:
    for panel in BOARD["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"], target["legendFormat"]
    for rule in RULES:
        yield rule["alert"], rule["expr"], rule["annotations"]["summary"]


EXPRESSIONS = list(expressions())


@pytest.fixture
def known(db: None, monkeypatch: pytest.MonkeyPatch) -> dict[str, set[str]]:
    """Labels by the name of every sample that `/metrics` may show."""
    monkeypatch.setattr(scraping, "_PATIENCE_SECONDS", 60.0)
    metrics = Metrics()
    held = registry.snapshot(registry.model(registry.provider()))
    recorder = Recorder(lambda rows: None, metrics)
    snapshot.replace(held)
    metrics.sources = [recorder.families, lambda: snapshot_families(lambda: held), health_families, allowing.families]
    metrics.sources.append(counts.families)
    found: dict[str, set[str]] = {}
    for family in [*metrics.collect(), *scraping.families()]:
        labels = set(getattr(family, "_labelnames", ()))
        for ending in {"counter": ["_total"], "gauge": [""], "histogram": ["_bucket", "_sum", "_count"]}[family.type]:
            found[family.name + ending] = labels | ({"le"} if ending == "_bucket" else set())
    snapshot.replace(None)
    return found | {name: set() for name in OF_A_SPOOL}


def wrong_in(known: dict[str, set[str]], expression: str, text: str) -> list[str]:
    named = _METRIC.findall(expression)
    if not named:
        return [] if expression.startswith("up{") else ["asks for nothing of ours"]
    if unknown := {name for name, _ in named} - known.keys():
        return [f"there is no metric {name}" for name in unknown]
    wrong = []
    for name, matchers in named:
        wanted = {one.split("=")[0].strip("!~ ") for one in matchers.split(",") if one}
        wrong += [f"{name} has no label {label}" for label in wanted - known[name]]
    grouped = {label.strip() for group in _GROUPED.findall(expression) for label in group.split(",")}
    wrong += [f"nothing has the label {label}" for label in grouped - set.union(*(known[name] for name, _ in named))]
    return wrong + [
        f"{label} is shown and was summed away" for label in set(_SHOWN.findall(text)) - {"value"} - grouped
    ]


def test_expressions_ask_for_metrics_and_labels_that_there_are(known: dict[str, set[str]]) -> None:
    wrong = {title: found for title, expression, text in EXPRESSIONS if (found := wrong_in(known, expression, text))}
    assert wrong == {}


@pytest.mark.parametrize(
    ("expression", "text", "said"),
    [
        ("sum(gateway_nothing_total)", "", "there is no metric gateway_nothing_total"),
        ('gateway_errors_total{colour="red"}', "", "gateway_errors_total has no label colour"),
        ("sum by (colour) (gateway_errors_total)", "", "nothing has the label colour"),
        ("sum by (owner) (gateway_errors_total)", "{{code}}", "code is shown and was summed away"),
    ],
)
def test_the_check_sees_what_is_wrong(known: dict[str, set[str]], expression: str, text: str, said: str) -> None:
    assert wrong_in(known, expression, text) == [said]


def test_the_page_on_monitoring_names_every_metric_and_no_other(known: dict[str, set[str]]) -> None:
    page = (DEPLOY.parent / "docs" / "monitoring.md").read_text()
    lines = [line for line in page.splitlines() if line.startswith("| `gateway_")]
    told = {name for line in lines for name in _METRIC.findall(line.split("|")[1])}
    families = {re.sub(r"_(bucket|sum|count)$", "", name) if "seconds" in name else name for name in known}
    assert {name for name, _ in told} == families


def test_every_rule_says_how_bad_it_is_and_what_happened() -> None:
    names = [rule["alert"] for rule in RULES]
    assert len(names) == len(set(names))
    assert {rule["labels"]["severity"] for rule in RULES} == {"critical", "warning"}


def test_panels_do_not_lie_on_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in BOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken
        assert at["x"] + at["w"] <= 24
        taken |= cells


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_a_unit_starts_a_program_that_there_is(path: Path) -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string(path.read_text())
    words = shlex.split(unit["Service"]["ExecStart"])
    assert words[0].endswith("/.venv/bin/python")
    assert words[1] == "-m"
    assert importlib.util.find_spec(words[2]) is not None
    if words[2] == "celery":
        assert words[3:5] == ["-A", "gateway_project.celery:app"]
