from dataclasses import replace

import pytest
from django.utils import timezone

from providers import actions
from providers.models import ProviderModel
from routing import building, policy_actions, policy_standing
from routing.types import NOMINAL, Conditions, RouteCondition

pytestmark = pytest.mark.django_db
NOW = 1_800_000_000.0
OPEN = Conditions({"p/one": RouteCondition(breaker="open", failures=5, retry_at=NOW + 60)})


@pytest.fixture(autouse=True)
def _registry():
    models = [{"model_id": name, "capabilities": ["chat"]} for name in ("one", "two", "three")]
    actions.create_provider({"provider_id": "p", "provider_type": "fake"}, models=models)
    policy_actions.create({"name": "best", "document": {"targets": ["one", "two"], "fallbacks": ["three"]}})
    policy_actions.create({"name": "only", "document": {"targets": ["one"]}})


def standing(name, conditions=NOMINAL, **changes):
    held = building.build()
    held = replace(held, defaults=replace(held.defaults, **changes))
    return policy_standing.of(held.policies[name], held, conditions, now=NOW)


def test_all_targets_serve_when_nothing_is_wrong():
    found = standing("best")
    assert (found.targets, found.serving, found.fallbacks) == (2, 2, 1)


def test_a_target_whose_breaker_is_open_is_lost_with_its_reason():
    found = standing("best", OPEN)
    assert (found.serving, [one.reason for one in found.lost]) == (1, ["breaker_open"])


def test_what_the_policy_demands_counts():
    policy_actions.create(
        {"name": "tools", "document": {"targets": ["one"], "requirements": {"capabilities": ["tools"]}}}
    )
    assert not standing("tools").is_served


def test_fallbacks_count_only_where_they_are_switched_on():
    assert standing("best", fallback_enabled=False).fallbacks == 0


def test_the_effects_of_taking_a_route_away_are_told_the_worst_first():
    held = building.build()
    told = policy_standing.effects(held, NOMINAL, {"p/one"}, now=NOW)
    assert [(one.policy, one.left, one.is_fatal) for one in told] == [("only", 0, True), ("best", 1, False)]


def test_the_last_fallback_that_serves_is_missed_too():
    conditions = Conditions({f"p/{name}": RouteCondition(breaker="open", retry_at=NOW + 60) for name in ("one", "two")})
    told = policy_standing.effects(building.build(), conditions, {"p/three"}, now=NOW)
    assert [(one.policy, one.is_fatal) for one in told] == [("best", True)]
    assert policy_standing.effects(building.build(), NOMINAL, {"p/three"}, now=NOW) == []


def test_what_is_out_already_loses_nobody_anything():
    held = building.build()
    assert policy_standing.effects(held, OPEN, {"p/one"}, now=NOW) == []


def test_what_disabled_itself_is_lost():
    row = ProviderModel.objects.get(model_id="one")
    row.auto_disabled_at, row.auto_disabled_reason = timezone.now(), "5 failures"
    row.save()
    assert [one.reason for one in standing("only").lost] == ["auto_disabled"]
