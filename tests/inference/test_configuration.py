"""Alert rules in configuration files."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from inference.alert_models import AlertRule
from providers import configuration, exporting

pytestmark = pytest.mark.django_db

SEED = """
# alerts.yaml
alerts:
  - name: high_error_rate
    condition: error_rate > 5%
    action: page_oncall

  - name: high_latency
    condition: avg_latency > 10s
    action: slack_alert

  - name: cost_spike
    condition: hourly_cost > $50
    action: email_admin

  - name: model_failures
    condition: model_consecutive_failures > 5
    action: auto_disable_model
"""


def apply(text: str, **kwargs: Any) -> Any:
    return configuration.apply_document(text, label="test", write=True, **kwargs)


def test_the_alerts_of_seed_001_load_as_they_stand() -> None:
    assert apply(SEED).exit_status == 0
    rows = {
        row.name: (row.signal, row.told_for, row.threshold, row.channels, row.action) for row in AlertRule.objects.all()
    }
    assert rows == {
        "high_error_rate": ("error_rate", "gateway", Decimal(5), ["page_oncall"], ""),
        "high_latency": ("average_latency", "gateway", Decimal(10), ["slack_alert"], ""),
        "cost_spike": ("hourly_cost", "gateway", Decimal(50), ["email_admin"], ""),
        "model_failures": ("consecutive_failures", "model", Decimal(5), [], "auto_disable_model"),
    }


def test_a_file_that_is_applied_again_changes_nothing() -> None:
    apply(SEED)
    assert apply(SEED).changes == ()


def test_what_is_exported_is_read_again() -> None:
    apply(SEED)
    section = next(one for one in configuration.config_sections.registered() if one.name == "alerts")
    part = section.read(section.written(section.stored()), "alerts")
    assert part.problems == []
    assert {entry.name: entry.document for entry in part.entries} == section.stored()
    assert "name: high_latency" in exporting.text()


def test_a_rule_that_watches_something_else_now_is_told_for_what_is_usual() -> None:
    apply(SEED)
    apply("alerts: [{name: high_latency, condition: consecutive_failures > 3}]")
    assert AlertRule.objects.get(name="high_latency").told_for == "model"


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("{condition: error_rate > 5%}", "alerts[0].name"),
        ("{name: a, condition: mood > 5}", "none of"),
        ("{name: a, condition: error_rate > 5%, colour: red}", "there is no such member"),
        ("{name: a, condition: error_rate > 5%, window_minutes: soon}", "a whole number"),
        ("{name: a, condition: error_rate > 5%, channels: ops}", "a list of names"),
        ("{name: a, condition: error_rate > 5%, action: auto_disable_model}", "take a model out"),
        ("nothing", "an object"),
    ],
)
def test_mistakes_are_named_and_nothing_is_stored(rule: str, said: str) -> None:
    try:
        applied = apply(f"alerts: [{rule}]")
        told = " ".join(f"{one.key} {one.detail}" for one in applied.findings)
    except Exception as error:
        told = str(getattr(error, "problems", "")) + str(error)
    assert said in told
    assert not AlertRule.objects.exists()
