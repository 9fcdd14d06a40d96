from __future__ import annotations

import json
from datetime import timedelta
from decimal import Decimal
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from inference import shadow_pairs, shadow_reports
from inference.models import ShadowPair
from inference.shadow_pairs import Answer, Compared

pytestmark = pytest.mark.django_db


def good(text: str, seconds: float = 0.1, cost: str | None = "0.5") -> Answer:
    return Answer(text, 200, "", seconds, 1, 1, None if cost is None else Decimal(cost))


BAD = Answer("", 502, "upstream_error", 9.0)


def keep(gateway: Answer, legacy: Answer, *, days_ago: float = 0.5, run: str = "") -> int:
    at = timezone.now() - timedelta(days=days_ago)
    told = Compared(at.timestamp(), "r", "gateway", "/v1/chat/completions", "m", "user: secret", gateway, legacy, run)
    return shadow_pairs.store(told).pk


def report(days: int = 7, **more: str) -> shadow_reports.Report:
    return shadow_reports.report(days, timezone.now(), **more)


def test_shares_and_similarity_are_of_the_pairs_that_both_answered() -> None:
    keep(good("same"), good("same"))
    keep(good("one two"), good("one three"))
    keep(good("x"), BAD)
    told = report()
    assert (told.pairs, told.both_answered, told.equal) == (3, 2, 1)
    assert (told.equal_share, told.mean_similarity) == (0.5, 0.75)


def test_each_side_has_its_times_and_its_cost() -> None:
    keep(good("a", 0.1, "0.25"), good("a", 0.4, None))
    keep(good("a", 0.3, "0.5"), BAD)
    told = report()
    assert (told.gateway.answered, told.gateway.failed, told.gateway.mean_ms, told.gateway.median_ms) == (
        2,
        0,
        200,
        200,
    )
    assert (told.gateway.cost, told.gateway.unpriced) == (Decimal("0.75"), 0)
    assert (told.legacy.answered, told.legacy.failed, told.legacy.mean_ms) == (1, 1, 400)
    assert (told.legacy.cost, told.legacy.unpriced) == (0, 1)


def test_the_least_alike_come_first_and_lone_answers_apart() -> None:
    keep(good("same"), good("same"))
    near = keep(good("one two three"), good("one two four"))
    far = keep(good("apples"), good("oranges"))
    lone = keep(BAD, good("x"))
    keep(BAD, BAD)
    told = report()
    assert [pair.id for pair in told.worst] == [far, near]
    assert [(pair.id, pair.gateway, pair.legacy) for pair in told.one_failed] == [(lone, "502 upstream_error", "200")]


def test_days_and_runs_are_kept_apart() -> None:
    keep(good("a"), good("a"), days_ago=8)
    keep(good("a"), good("a"), run="set 1")
    assert (report().pairs, report(9).pairs, report(run="set 1").pairs) == (0, 1, 1)
    assert report().equal_share is None


def test_the_command_tells_it_without_texts() -> None:
    keep(good("apples", 0.1), good("oranges", 0.2))
    shown, told = StringIO(), StringIO()
    call_command("shadow_report", stdout=shown)
    call_command("shadow_report", "--json", stdout=told)
    assert "1 pair in 7 days, 1 answered by both sides." in shown.getvalue()
    assert "apples" not in shown.getvalue()
    document = json.loads(told.getvalue())
    assert (document["equal_share"], Decimal(document["gateway"]["cost"])) == (0, Decimal("0.5"))
    assert document["worst"][0]["id"] == ShadowPair.objects.get().pk


def test_days_out_of_range_are_an_error() -> None:
    with pytest.raises(CommandError):
        call_command("shadow_report", "--days", "0")
