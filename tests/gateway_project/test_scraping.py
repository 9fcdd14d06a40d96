"""What Prometheus reads from the stores, beside what processes counted."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
import redis
from django.test import Client
from django.utils import timezone

from inference import usage_rows
from inference.alert_models import AlertIncident
from routing.models import Budget, Team
from tests.inference.test_rollups import row

pytestmark = pytest.mark.django_db


def test_queues_budgets_and_alerts_are_told(client: Client, redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as store:
        store.rpush("generation", "task")
    team = Team.objects.create(name="research")
    Budget.objects.create(subject="team", team=team, period="month", amount=Decimal(10))
    Budget.objects.create(subject="each_team", period="month", amount=Decimal(100))
    usage_rows.write([row(1, timezone.now(), cost=Decimal(4), team_id=team.pk)])
    AlertIncident.objects.create(
        rule_name="slow", subject="", subject_name="", value=1, worst=1, told_at=timezone.now()
    )
    text = client.get("/metrics").content.decode()
    assert 'gateway_queue_depth{queue="generation"} 1.0' in text
    assert 'gateway_budget_used_ratio{team="research"} 0.4' in text
    assert 'gateway_alerts_firing{rule="slow"} 1.0' in text


def test_without_redis_the_rest_is_told(client: Client, settings: Any) -> None:
    settings.REDIS_URL = "unix:///nowhere.sock"
    text = client.get("/metrics").content.decode()
    assert "gateway_queue_depth{" not in text
    assert "gateway_alert_messages_waiting 0.0" in text
    assert "# TYPE gateway_requests_total counter" in text
