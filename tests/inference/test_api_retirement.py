from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from inference.models import OldPathTracking, OldPathUse
from tests import callers

pytestmark = pytest.mark.django_db


def test_an_admin_reads_who_still_comes() -> None:
    at = timezone.now() - timedelta(days=2)
    OldPathTracking.objects.create(since=at - timedelta(days=50))
    OldPathUse.objects.create(day=at.date(), client="key:gw-a", family="/generate", requests=3, last_at=at)

    used = callers.caller("admin").get("/api/v1/retirement", {"days": 7}).json()
    unused = callers.caller("admin").get("/api/v1/retirement/", {"days": 1}).json()

    assert (used["days"], used["safe"]) == (7, False)
    assert [(use["family"], use["client"], use["requests"]) for use in used["uses"]] == [("/generate", "key:gw-a", 3)]
    assert (unused["safe"], unused["uses"]) == (True, [])


@pytest.mark.parametrize("days", ["0", "401", "many"])
def test_days_that_make_no_sense_are_refused(days: str) -> None:
    answer = callers.caller("admin").get("/api/v1/retirement", {"days": days})
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["field"] == "days"


def test_a_key_without_the_scope_may_not_know() -> None:
    assert callers.caller().get("/api/v1/retirement").status_code == 403
