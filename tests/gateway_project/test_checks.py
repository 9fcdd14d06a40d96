"""What the system checks say of the parallel run, and of prices."""

from __future__ import annotations

import pytest

from gateway_project.checks import (
    models_in_use_have_a_price,
    strategy_plugins_load,
    the_kill_switch_has_a_side_to_turn_to,
)
from providers import actions
from routing import strategies
from routing.models import Rollout

pytestmark = pytest.mark.django_db


def test_a_kill_switch_without_a_legacy_side_is_pointed_out(settings):
    settings.GATEWAY_V2_ENABLED = False
    assert [finding.id for finding in the_kill_switch_has_a_side_to_turn_to(None)] == ["gateway.W006"]


def test_a_kill_switch_that_turns_to_a_legacy_side_is_fine(settings):
    settings.GATEWAY_V2_ENABLED = False
    Rollout.change(legacy_base_url="http://10.1.2.3")
    assert the_kill_switch_has_a_side_to_turn_to(None) == []


def test_there_is_nothing_to_say_while_the_switch_is_on():
    assert the_kill_switch_has_a_side_to_turn_to(None) == []


def test_models_in_use_that_nobody_can_price_are_pointed_out():
    provider = actions.create_provider({"provider_id": "openai", "provider_type": "openai"})
    actions.add_model(provider, {"model_id": "gpt-4o"})
    actions.add_model(provider, {"model_id": "unheard-of", "enabled": False})
    assert models_in_use_have_a_price(None, databases=["default"]) == []
    actions.add_model(provider, {"model_id": "unheard-of-too"})
    (finding,) = models_in_use_have_a_price(None, databases=["default"])
    assert (finding.id, "openai/unheard-of-too" in finding.msg) == ("gateway.W008", True)
    assert models_in_use_have_a_price(None) == []
    assert "the price of 1 model in use" in finding.msg


def test_a_strategy_of_another_package_that_cannot_be_used_is_named(monkeypatch):
    monkeypatch.setattr(strategies, "failures", {"dice": "ImportError: no dice"})
    (finding,) = strategy_plugins_load(None)
    assert finding.id == "gateway.W009"
    assert "'dice' cannot be used: ImportError: no dice" in finding.msg
