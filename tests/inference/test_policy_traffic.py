from __future__ import annotations

from datetime import timedelta

import pytest
from django.urls import reverse
from django.utils import timezone

from inference import policy_traffic
from routing import policy_actions
from routing.policy_traffic import Traffic
from tests.inference import ledger

pytestmark = pytest.mark.django_db


def record(number, policy="best", *, ago=timedelta(0), **facts):
    ledger.record(policy=policy, at=timezone.now() - ago, **facts)


def test_a_day_is_counted_by_policy():
    record(1)
    record(2, attempts=2)
    record(3, status=502)
    record(4, ago=timedelta(hours=25))
    record(5, side="shadow")
    record(6, "other")
    assert policy_traffic.of(["best", "idle"]) == {"best": Traffic(requests=3, failed=1, rescued=1)}


def test_the_list_of_policies_shows_it(admin_client):
    policy_actions.create({"name": "best"})
    record(1)
    record(2, attempts=2)
    html = admin_client.get(reverse("admin:routing_policy_changelist")).content.decode()
    assert "1 rescued by a fallback or a retry" in html
