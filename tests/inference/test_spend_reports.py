from __future__ import annotations

import csv
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from inference import report_files, spend_reports
from inference.models import Trace, UsageRecord
from inference.spend_reports import BadReport, Line, Question, Sight, report
from providers import pricing
from routing import issuing
from routing.models import Team
from tests.inference.ledger import correct, record

pytestmark = pytest.mark.django_db

NOON = datetime(2026, 11, 20, 12, 30, tzinfo=UTC)
DAY, HOUR = timedelta(days=1), timedelta(hours=1)


def asked(*group_by: str, **changed: Any) -> Question:
    told: dict[str, Any] = {"since": NOON - 7 * DAY, "until": NOON + DAY, "group_by": group_by} | changed
    return Question(**told)


def costs(told: spend_reports.Report, group: str) -> dict[str, Decimal]:
    return {line.names[group]: line.cost for line in told.lines}


def total(told: spend_reports.Report) -> Line:
    (line,) = told.totals
    return line


def test_a_hundred_requests_of_a_thousand_tokens_cost_ten_cents_or_three_dollars() -> None:
    """The source system's example says 100 and 3000, because it took prices of a thousand tokens for those of one."""
    for model, per_thousand in (("small", Decimal("0.001")), ("large", Decimal("0.03"))):
        million = per_thousand * 1000
        cost = pricing.cost(million, million, input_tokens=500, output_tokens=500)
        record(100, at=NOON, model_id=model, input_tokens=500, output_tokens=500, cost=cost)
    told = report(asked("model"))
    assert costs(told, "model") == {"up/small": Decimal("0.10"), "up/large": Decimal("3.00")}
    assert total(told).cost == Decimal("3.10")


def test_the_sum_of_the_charges_is_the_sum_of_the_real_costs() -> None:
    for number in range(1, 40):
        record(at=NOON - number * HOUR, cost=Decimal(number) / 7_000_003, stream=bool(number % 2))
    ledger = sum(UsageRecord.objects.values_list("cost", flat=True), Decimal(0))
    told = report(asked("day"))
    assert sum((line.cost for line in told.lines), Decimal(0)) == total(told).cost == ledger


@pytest.mark.parametrize(
    ("group", "fields", "names"),
    [
        ("provider", [{"provider_id": "a"}, {"provider_id": "b"}], {"a", "b"}),
        ("policy", [{"policy": "best"}, {}], {"best", ""}),
        ("operation", [{"operation": "chat"}, {"operation": "embeddings"}], {"chat", "embeddings"}),
        ("key", [{"client_key_id": 1, "client_key_prefix": "gw-gone"}, {}], {"gw-gone", ""}),
        ("tag", [{"tags": ",x,y,"}, {"tags": ",y,"}, {}], {"x", "y"}),
        ("month", [{"at": NOON}, {"at": NOON - 5 * DAY}], {"2026-11-01T00:00:00+00:00"}),
    ],
)
def test_spend_is_grouped(group: str, fields: list[dict[str, Any]], names: set[str]) -> None:
    for told in fields:
        record(**{"at": NOON, "cost": Decimal(1)} | told)
    assert set(costs(report(asked(group)), group)) == names


def test_keys_and_teams_have_their_names() -> None:
    team = Team.objects.create(name="research")
    key, _ = issuing.issue("the app", ["generate"])
    record(at=NOON, client_key_id=key.pk, client_key_prefix=key.prefix, team_id=team.pk)
    (line,) = report(asked("key", "team")).lines
    assert line.names == {"key": "the app", "team": "research"}
    assert line.by == {"key": key.prefix, "team": team.pk}


def test_days_are_those_of_the_zone() -> None:
    record(at=datetime(2026, 11, 19, 23, 30, tzinfo=UTC))
    (line,) = report(asked("day", time_zone="Europe/Berlin")).lines
    assert line.names["day"] == "2026-11-20T00:00:00+01:00"


@pytest.mark.parametrize(
    ("narrowed", "found"),
    [
        ({"model": "up/gpt-test"}, 1),
        ({"model": "a/b"}, 2),
        ({"model": "gpt-test"}, 1),
        ({"provider": "a"}, 2),
        ({"tag": "x"}, 2),
        ({"team": 5}, 1),
        ({"key": "gw-1"}, 1),
        ({"policy": "nothing"}, 0),
        ({"side": "shadow"}, 0),
    ],
)
def test_spend_is_narrowed(narrowed: dict[str, Any], found: int) -> None:
    record(at=NOON, team_id=5, client_key_prefix="gw-1")
    record(2, at=NOON, provider_id="a", model_id="b", tags=",x,z,")
    record(4, at=NOON - 20 * DAY)
    assert sum(line.requests for line in report(asked("model", **narrowed)).lines) == found


def test_tags_overlap_and_the_total_does_not() -> None:
    record(at=NOON, tags=",x,y,", cost=Decimal(2))
    told = report(asked("tag"))
    assert [line.cost for line in told.lines] == [2, 2]
    assert total(told).cost == 2


def test_currencies_are_never_added_up() -> None:
    record(at=NOON, cost=Decimal(1))
    record(at=NOON, cost=Decimal(5), currency="EUR")
    assert {line.currency: line.cost for line in report(asked("model")).totals} == {"USD": 1, "EUR": 5}


def test_a_correction_is_a_second_figure() -> None:
    record(at=NOON, cost=Decimal(1))
    correct(UsageRecord.objects.get(), Decimal("-0.25"))
    line = total(report(asked("model")))
    assert (line.cost, line.correction, line.corrected_cost) == (1, Decimal("-0.25"), Decimal("0.75"))


def test_spend_is_told_long_after_the_traces_are_gone() -> None:
    record(3, at=NOON, cost=Decimal(1))
    Trace.objects.all().delete()
    assert total(report(asked("model"))).cost == 3


def test_only_what_may_be_seen_is_told() -> None:
    record(at=NOON, team_id=1, client_key_id=1)
    record(2, at=NOON, team_id=2, client_key_id=2)
    record(4, at=NOON)

    def seen(sight: Sight) -> int:
        return sum(line.requests for line in report(asked("model"), sight).totals)

    assert [seen(Sight()), seen(Sight(teams={2})), seen(Sight(teams=())), seen(Sight(key_id=1))] == [7, 2, 0, 1]


def test_lines_are_cut_and_said_to_be() -> None:
    for model in "abc":
        record(at=NOON, model_id=model, cost=Decimal(ord(model)))
    told = report(asked("model"), most=2)
    assert ([line.names["model"] for line in told.lines], told.cut) == (["up/c", "up/b"], True)
    assert total(told).requests == 3


def test_over_time_some_groups_are_told_apart_and_all_others_together(django_assert_num_queries: Any) -> None:
    for number, model in enumerate(("a", "b", "c", "d"), 1):
        record(at=NOON - DAY, cost=Decimal(number), model_id=model)
        record(at=NOON, cost=Decimal(number), model_id=model)
    largest = report(asked("model")).lines[:2]
    with django_assert_num_queries(2):
        told = spend_reports.over_time(asked("model", "day"), largest)
    noon = NOON.replace(hour=0, minute=0)
    found = {(line.names["model"], line.by["day"]): line.cost for line in told.lines}
    days = [(noon - DAY).isoformat(), noon.isoformat()]
    assert found == {
        (name, day): Decimal(cost)
        for name, cost in (("up/d", 4), ("up/c", 3), (spend_reports.OTHERS, 3))
        for day in days
    }
    assert total(told).cost == report(asked("model")).totals[0].cost == Decimal(20)


def test_over_time_groups_without_a_name_are_told_apart_too() -> None:
    record(at=NOON, cost=Decimal(2), team_id=None)
    record(at=NOON, cost=Decimal(1), team_id=7)
    (largest, _) = report(asked("team")).lines
    told = spend_reports.over_time(asked("team", "day"), [largest])
    assert [(line.by["team"], line.cost) for line in told.lines] == [
        (None, Decimal(2)),
        (spend_reports.OTHERS, Decimal(1)),
    ]


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"group_by": ("colour",)}, "group_by"),
        ({"group_by": ("day", "month")}, "group_by"),
        ({"group_by": ("model", "model")}, "group_by"),
        ({"since": NOON + 9 * DAY}, "since"),
        ({"since": NOON - 100 * DAY, "group_by": ("hour",)}, "since"),
        ({"since": datetime(9999, 12, 31, tzinfo=UTC), "until": datetime.max.replace(tzinfo=UTC)}, "since"),
        ({"time_zone": "Mars/Base"}, "time_zone"),
        ({"time_zone": "../etc/passwd"}, "time_zone"),
    ],
)
def test_what_cannot_be_told_names_the_field(changed: dict[str, Any], field: str) -> None:
    with pytest.raises(BadReport) as refused:
        asked(**changed)
    assert refused.value.field == field


class TestFiles:
    def test_csv_has_a_line_for_each_group(self) -> None:
        record(2, at=NOON, client_key_prefix="gw-1", input_tokens=3, cost=Decimal("0.00000012"))
        (line,) = csv.DictReader("".join(report_files.csv_lines(report(asked("key", "model")))).splitlines())
        assert (line["key"], line["model"], line["requests"], line["input_tokens"]) == ("gw-1", "up/gpt-test", "2", "6")
        assert Decimal(line["cost"]) == Decimal("0.00000024")

    def test_a_name_that_a_table_would_run_is_made_harmless(self) -> None:
        record(at=NOON, tags=",=cmd|' /C calc'!A0,")
        told = "".join(report_files.csv_lines(report(asked("tag"))))
        assert "'=cmd" in told

    def test_json_tells_amounts_as_texts(self) -> None:
        record(at=NOON, cost=Decimal("0.1"))
        told = json.loads(json.dumps(report_files.spend_document(report(asked("model")))))
        assert Decimal(told["totals"][0]["cost"]) == Decimal("0.1")
        assert told["lines"][0]["by"] == {"model": {"value": "up/gpt-test", "name": "up/gpt-test"}}
