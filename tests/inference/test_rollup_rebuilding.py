from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from io import StringIO
from typing import Any

import orjson
import pytest
from django.core.management import CommandError, call_command

from inference import rollup_rebuilding
from inference.models import FailureRollup, LatencyRollup, TagRollup, Trace, TrafficRollup, UsageRecord, UsageRollup
from tests.inference.ledger import correct, record

pytestmark = pytest.mark.django_db

TEN = datetime(2026, 11, 21, 10, 20, tzinfo=UTC)
HOUR = timedelta(hours=1)
MODELS = (UsageRollup, TagRollup, TrafficRollup, FailureRollup, LatencyRollup)


def everything() -> dict[str, Any]:
    return {model.__name__: sorted(model.objects.values_list(), key=str) for model in MODELS}


def requests() -> None:
    record(at=TEN - HOUR)
    record(3, at=TEN, cost=Decimal("0.1"), tags=",a,", attempts=2, duration_ms=70.0, stream=True, first_byte_ms=5.0)
    record(at=TEN, status=502, error_code="upstream_error", error_owner="provider", model_id="m2")


def test_sums_made_again_are_the_same() -> None:
    requests()
    before = everything()
    assert rollup_rebuilding.rebuild(TEN) == 4
    assert everything() == before


def test_without_any_sums_the_whole_ledger_is_summed() -> None:
    requests()
    before = everything()
    for model in MODELS:
        model.objects.all().delete()
    assert rollup_rebuilding.rebuild_if_empty() == 5
    # The oldest hour may lack traces, so its times stay unknown.
    assert everything()["UsageRollup"] == before["UsageRollup"]
    assert rollup_rebuilding.rebuild_if_empty() == 0


def test_what_only_traces_tell_stays_when_they_are_gone() -> None:
    requests()
    before = everything()
    Trace.objects.all().delete()
    rollup_rebuilding.rebuild(TEN)
    assert everything() == before


def test_what_only_traces_tell_stays_where_some_of_them_are_gone() -> None:
    requests()
    record(at=TEN.replace(minute=50))
    before = everything()
    Trace.objects.filter(at__lte=TEN).delete()
    rollup_rebuilding.rebuild(TEN)
    assert everything() == before


def test_a_provider_that_did_nothing_but_fail_stays_in_the_sums() -> None:
    failed = {"provider_id": "broken", "model_id": "m", "status": 502}
    record(at=TEN, attempts=2, attempts_log=orjson.dumps([failed]).decode())
    before = everything()
    assert UsageRollup.objects.get(provider_id="broken").failed_tries == 1
    rollup_rebuilding.rebuild(TEN)
    assert everything() == before


def test_lines_that_are_gone_from_the_ledger_are_gone_from_the_sums() -> None:
    requests()
    UsageRecord.objects.filter(model_id="m2").delete()
    rollup_rebuilding.rebuild(TEN)
    assert not UsageRollup.objects.filter(model_id="m2").exists()


def test_corrections_stay() -> None:
    requests()
    correct(UsageRecord.objects.filter(at=TEN, model_id="gpt-test").first(), Decimal("0.5"))
    rollup_rebuilding.rebuild(TEN)
    told = UsageRollup.objects.get(hour=TEN.replace(minute=0), model_id="gpt-test")
    assert (told.cost, told.correction) == (Decimal("0.3"), Decimal("0.5"))


def test_sums_of_minutes_go_after_a_month_and_those_of_hours_stay() -> None:
    requests()
    rollup_rebuilding.forget_minutes(TEN + timedelta(days=34))
    assert not TrafficRollup.objects.exists()
    assert set(LatencyRollup.objects.values_list("span", flat=True)) == {3600}
    assert UsageRollup.objects.count() == 3


class TestTheCommand:
    def run(self, *arguments: str) -> tuple[int, str]:
        said = StringIO()
        try:
            call_command("rebuild_rollups", *arguments, stdout=said)
        except SystemExit as ended:
            return int(ended.code or 0), said.getvalue()
        return 0, said.getvalue()

    def test_it_says_that_all_agrees(self) -> None:
        requests()
        assert self.run("--check") == (0, "The sums agree with the ledger.\n")

    def test_it_finds_an_hour_that_does_not_agree_and_mends_it(self) -> None:
        requests()
        UsageRollup.objects.filter(hour=TEN.replace(minute=0)).update(requests=7)
        status, said = self.run("--check")
        assert status == 2
        assert "2026-11-21 10:00" in said
        assert self.run("--since", "2026-11-21T10") == (0, "4 lines of the ledger in 1 hours are summed.\n")
        assert self.run("--check")[0] == 0

    def test_a_time_that_is_none_is_refused(self) -> None:
        with pytest.raises(CommandError, match="no time such as"):
            self.run("--since", "yesterday")
