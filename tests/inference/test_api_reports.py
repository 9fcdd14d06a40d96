from __future__ import annotations

import csv
from datetime import timedelta
from decimal import Decimal

import pytest
from django.utils import timezone

from providers.models import Provider, ProviderModel
from routing import policy_actions, snapshot
from routing.models import ClientKey
from tests.callers import caller
from tests.inference.ledger import record

pytestmark = pytest.mark.django_db

SPEND, SAVINGS = "/api/v1/reports/spend", "/api/v1/reports/savings"


def test_spend_is_told_by_group_with_totals():
    record(3, cost=Decimal("0.25"))
    told = caller("admin").get(f"{SPEND}?group_by=provider,day").json()
    (line,) = told["lines"]
    assert (line["requests"], Decimal(line["cost"]), line["by"]["provider"]["name"]) == (3, Decimal("0.75"), "up")
    assert Decimal(told["totals"][0]["corrected_cost"]) == Decimal("0.75")


def test_spend_comes_as_csv_too():
    record(cost=Decimal("0.25"))
    answer = caller("admin").get(f"{SPEND}?format=csv&group_by=model")
    assert answer["Content-Type"].startswith("text/csv")
    (line,) = csv.DictReader(answer.content.decode().splitlines())
    assert (line["model"], Decimal(line["cost"])) == ("up/gpt-test", Decimal("0.25"))
    accepted = caller("admin").get(SPEND, headers={"accept": "text/csv"})
    assert accepted.content.startswith(b"model,")


def test_a_key_is_told_its_own_spend_alone():
    asking = caller("generate")
    own = ClientKey.objects.latest("pk")
    record(2, client_key_id=own.pk, client_key_prefix=own.prefix)
    record(5, client_key_id=own.pk + 100, client_key_prefix="gw-other")
    told = asking.get(f"{SPEND}?group_by=key").json()
    assert [line["requests"] for line in told["lines"]] == [2]
    assert asking.get(f"{SPEND}?key=gw-other").json()["totals"] == []


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("group_by=colour", "group_by"),
        ("since=yesterday", "since"),
        ("since=2026-11-02T00:00:00Z&until=2026-11-01T00:00:00Z", "since"),
        ("time_zone=Mars/Base", "time_zone"),
        ("limit=0", "limit"),
        ("colour=red", "colour"),
    ],
)
def test_what_cannot_be_told_names_the_field(query, field):
    for form in ("", "&format=csv"):
        answer = caller("admin").get(f"{SPEND}?{query}{form}")
        assert answer.status_code == 400
        assert f'"field":"{field}"' in answer.content.decode().replace('": "', '":"')


def test_savings_compare_a_policy_with_its_other_models():
    provider = Provider.objects.create(provider_id="up", provider_type="fake")
    for name, price in (("small", 1), ("large", 30)):
        ProviderModel.objects.create(
            provider=provider, model_id=name, input_cost_per_million=price, output_cost_per_million=price
        )
    policy_actions.create({"name": "best", "document": {"targets": [{"model": "small"}, {"model": "large"}]}})
    snapshot.replace(None)
    record(policy="best", model_id="small", input_tokens=1_000_000, cost=Decimal(1), at=timezone.now())
    (told,) = caller("admin").get(SAVINGS).json()["policies"]
    assert (told["policy"], Decimal(told["charged"])) == ("best", 1)
    assert (told["elsewhere"][0]["model"], Decimal(told["elsewhere"][0]["saved"])) == ("up/large", 29)
    refused = caller("admin").get(f"{SAVINGS}?against=nope")
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (400, "against")


def test_the_usual_span_is_a_month():
    record(at=timezone.now() - timedelta(days=29))
    record(at=timezone.now() - timedelta(days=32))
    assert caller("admin").get(SPEND).json()["totals"][0]["requests"] == 1


def test_savings_are_for_admins_because_they_tell_prices():
    assert caller("generate").get(SAVINGS).status_code == 403


def test_latency_is_told_to_admins_by_what_it_is_summed_by():
    record(20, duration_ms=80.0, stream=True, first_byte_ms=12.0)
    path = "/api/v1/reports/latency"
    (line,) = caller("admin").get(f"{path}?group_by=provider,week").json()["lines"]
    assert (line["by"]["provider"], line["requests"]) == ("up", 20)
    assert 60 < line["duration_ms"]["p50"] < line["duration_ms"]["p99"] <= 100
    assert 10 < line["first_byte_ms"]["p95"] <= 16
    refused = caller("admin").get(f"{path}?group_by=key")
    assert (refused.status_code, "not by key" in refused.content.decode()) == (400, True)
    assert caller("generate").get(path).status_code == 403
