"""What the system checks say of the parallel run."""

from __future__ import annotations

import pytest

from gateway_project.checks import the_kill_switch_has_a_side_to_turn_to
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
