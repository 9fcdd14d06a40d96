from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.auth.models import Permission
from django.core.cache import cache
from django.utils import timezone

from inference import provider_strips
from inference.models import Trace
from routing.models import Team, TeamMember
from tests.inference.ledger import record

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 11, 21, 12, 40, 20, tzinfo=UTC)
HALF, MINUTE = timedelta(minutes=30), timedelta(minutes=1)


@pytest.fixture(autouse=True)
def nothing_kept():
    cache.delete("provider-days")


def test_a_day_is_48_half_hours_and_the_last_is_under_way():
    record(3, at=NOW, provider_id="a")
    record(2, at=NOW - 24 * 2 * HALF + 12 * MINUTE, provider_id="a")
    (cells,) = provider_strips.strips(NOW).values()
    assert len(cells) == 48
    assert (cells[-1].at, cells[-1].tries) == (NOW.replace(minute=30, second=0), 3)
    assert sum(cell.tries for cell in cells) == 3, "what is older than the first half hour is left out"


@pytest.mark.parametrize(("good", "bad", "tone"), [(99, 1, "good"), (90, 10, "warn"), (1, 9, "bad"), (0, 0, "")])
def test_a_half_hour_is_as_bad_as_the_share_of_its_failed_tries(good, bad, tone):
    assert provider_strips._cell(NOW, good + bad, bad).tone == tone


def test_five_minutes_and_a_day_are_told_apart():
    record(4, at=NOW - 10 * HALF, provider_id="a", duration_ms=900.0)
    record(2, at=NOW - MINUTE, provider_id="a", duration_ms=20.0)
    figures = provider_strips.of(["a", "never-asked"], NOW)
    assert set(figures) == {"a"}
    told = figures["a"]
    assert (told.tries_now, told.tries, told.error_rate) == (2, 6, 0.0)
    assert told.p95_now < 50 < told.p95


def test_use_is_told_by_model():
    record(2, at=NOW - HALF, provider_id="a", model_id="m")
    record(1, at=NOW - HALF, provider_id="b", model_id="m")
    used = provider_strips.use_of(["a"], NOW)
    assert {key: one.requests for key, one in used.items()} == {("a", "m"): 2}


def test_the_last_requests_lead_to_themselves_and_are_for_who_may_see_them(admin_client, admin_user, django_user_model):
    team = Team.objects.create(name="research")
    told = {"provider_id": "a", "model_id": "m", "operation": "chat", "status": 200, "team_id": team.pk}
    Trace.objects.create(request_id="req_1", at=timezone.now(), **told)
    (row,) = provider_strips.recent(admin_user, "a", 20)
    assert admin_client.get(row["link"]).status_code == 200
    marie = django_user_model.objects.create_user("marie", is_staff=True)
    assert provider_strips.recent(marie, "a", 20) == []
    marie.user_permissions.add(Permission.objects.get(codename="view_trace"))
    assert provider_strips.recent(django_user_model.objects.get(pk=marie.pk), "a", 20) == []
    TeamMember.objects.create(team=team, user=marie)
    assert len(provider_strips.recent(django_user_model.objects.get(pk=marie.pk), "a", 20)) == 1
