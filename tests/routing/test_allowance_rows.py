from datetime import timedelta
from decimal import Decimal

import pytest
from django.core.exceptions import ValidationError
from django.utils import timezone

from providers.models import Provider, ProviderModel
from routing import allowance_rows, building, issuing
from routing.models import BudgetRaise, Team
from tests.routing.allowance_makers import budget, limit, raised

pytestmark = pytest.mark.django_db


def key(name="app", *, team=None, role="", tags=()):
    row, _ = issuing.issue(name, ["generate"])
    row.team, row.role, row.tags = team, role, list(tags)
    row.save()
    return row


def met_by(row, tags=()):
    """What a request of the key meets, by the counter's key."""
    snapshot = building.build()
    identity = snapshot.client_keys[row.prefix].identity
    return {one.key: one for one in snapshot.allowances.of_caller(identity, tuple(tags))}


def model():
    provider = Provider.objects.create(provider_id="local", provider_type="fake")
    return ProviderModel.objects.create(provider=provider, model_id="org/small")


def test_without_rows_nothing_is_limited():
    key()
    assert not building.build().allowances


def test_each_number_of_a_row_is_an_allowance_of_its_own():
    mine = key()
    row = limit(
        requests_per_minute=10, requests_per_day=20, tokens_per_minute=30, tokens_per_day=40, concurrent_requests=5
    )
    found = met_by(mine)
    assert {(one.unit, one.period, one.amount) for one in found.values()} == {
        ("requests", "minute", 10),
        ("requests", "day", 20),
        ("tokens", "minute", 30),
        ("tokens", "day", 40),
        ("calls", "under_way", 5),
    }
    assert f"limit:{row.pk}:rpm:key:{mine.pk}" in found
    assert {(one.kind, one.subject, one.source_id, one.when_away) for one in found.values()} == {
        ("limit", "key", row.pk, "open")
    }


def test_a_budget_says_all_that_its_row_says():
    mine = key()
    row = budget(
        "12.5000000005",
        period="day",
        name="The day's",
        hard=False,
        strict=True,
        time_zone="Europe/Berlin",
        when_away="open",
        away_amount=Decimal("0.5"),
        refuse_unpriced=True,
        warn_percent=50,
    )
    [one] = met_by(mine).values()
    assert (one.key, one.unit, one.period, one.amount) == (
        f"budget:{row.pk}:day:key:{mine.pk}",
        "money",
        "day",
        12_500_000_000,
    )
    assert (one.kind, one.name, one.hard, one.strict, one.time_zone) == (
        "budget",
        "The day's",
        False,
        True,
        "Europe/Berlin",
    )
    assert (one.when_away, one.away_amount, one.refuse_unpriced, one.warn_percent) == ("open", 500_000_000, True, 50)
    assert one.exceeded_code == "DAILY_BUDGET_EXCEEDED"


def test_every_subject_is_found_where_it_counts():
    team = Team.objects.create(name="research")
    mine, other = key(team=team, tags=["blue"]), key("other")
    served = model()
    limit("all", requests_per_minute=1)
    limit("key", client_key=mine, requests_per_minute=2)
    limit("team", team=team, requests_per_minute=3)
    limit("each_team", tokens_per_minute=4)
    limit("tag", tag="blue", requests_per_minute=5)
    limit("tag", tag="red", requests_per_minute=6)
    limit("model", model=served, requests_per_minute=7)
    limit("provider", provider=served.provider, requests_per_minute=8)
    assert sorted(one.amount for one in met_by(mine).values()) == [1, 2, 3, 4, 5]
    assert sorted(one.amount for one in met_by(mine, ["red"]).values()) == [1, 2, 3, 4, 5, 6]
    assert [one.amount for one in met_by(other).values()] == [1]
    snapshot = building.build()
    [view] = snapshot.models
    found = {one.subject: (one.amount, one.targets) for one in snapshot.allowances.of_model(view)}
    assert found == {"model": (7, True), "provider": (8, True)}
    assert {one.key.split(":", 3)[3] for one in snapshot.allowances.of_model(view)} == {
        "model:local/org/small",
        "provider:local",
    }


def test_a_request_without_a_key_meets_what_counts_for_all():
    limit("all", requests_per_minute=1)
    limit(requests_per_minute=2)
    assert [one.amount for one in building.build().allowances.of_caller(None)] == [1]


def test_each_key_and_each_team_has_a_counter_of_its_own():
    team = Team.objects.create(name="research")
    one, two = key("one", team=team), key("two", team=team)
    budget(1)
    budget(5, "each_team")
    first, second = set(met_by(one)), set(met_by(two))
    [shared] = first & second
    assert shared.endswith(f"team:{team.pk}")
    assert len(first) == len(second) == 2


def test_a_keys_own_budget_takes_the_place_of_each_keys_of_the_same_period():
    mine, other = key(), key("other")
    budget(1, period="day")
    budget(10, period="month")
    own = budget(3, "key", client_key=mine, period="day")
    found = {one.period: (one.amount, one.source_id == own.pk) for one in met_by(mine).values()}
    assert found == {"day": (3 * 10**9, True), "month": (10 * 10**9, False)}
    assert {one.period: one.amount for one in met_by(other).values()} == {"day": 10**9, "month": 10 * 10**9}


def test_a_keys_own_number_takes_the_place_of_that_number_alone():
    mine = key()
    limit(requests_per_minute=10, tokens_per_minute=1000)
    limit("key", client_key=mine, requests_per_minute=99)
    assert {one.unit: one.amount for one in met_by(mine).values()} == {"requests": 99, "tokens": 1000}


def test_a_teams_own_takes_the_place_of_each_teams():
    team, other = Team.objects.create(name="research"), Team.objects.create(name="sales")
    budget(1, "each_team")
    budget(7, "team", team=team)
    assert [one.amount for one in met_by(key(team=team)).values()] == [7 * 10**9]
    assert [one.amount for one in met_by(key("second", team=other)).values()] == [10**9]
    assert not met_by(key("third"))


def test_what_is_switched_off_counts_for_nothing_and_stands_in_nobodys_way():
    mine = key()
    limit("all", requests_per_minute=1, enabled=False)
    budget(1)
    budget(9, "key", client_key=mine, enabled=False)
    assert [one.amount for one in met_by(mine).values()] == [10**9]


@pytest.mark.parametrize(
    ("role", "amount"), [("", "10"), ("user", "10"), ("free", "1"), ("pro", "20"), ("premium", "50")]
)
def test_a_role_multiplies_what_goes_by_role(role, amount):
    mine = key(role=role)
    budget(10, period="hour", by_role=True)
    budget(10, period="day")
    found = {one.period: one.amount for one in met_by(mine).values()}
    assert found == {"hour": int(Decimal(amount) * 10**9), "day": 10 * 10**9}


def test_a_raise_adds_to_the_amount_whatever_the_role():
    mine = key(role="free")
    row = budget(10, by_role=True)
    raised(row, 5)
    raised(row, "0.25")
    assert [one.amount for one in met_by(mine).values()] == [6_250_000_000]
    [one] = met_by(mine).values()
    assert one.key == f"budget:{row.pk}:month:key:{mine.pk}"


def test_a_raise_ends_by_itself():
    mine = key()
    row = budget(10)
    more = raised(row, 5)
    index, ends = allowance_rows.build([building.build().client_keys[mine.prefix].identity])
    assert ends == more.expires_at.timestamp()
    assert building.build().stale_at == ends
    later = more.expires_at + timedelta(seconds=1)
    index, ends = allowance_rows.build([building.build().client_keys[mine.prefix].identity], later)
    assert [one.amount for one in index.each()] == [10 * 10**9]
    assert ends is None


def test_a_raise_of_what_is_switched_off_changes_nothing():
    raised(budget(10, enabled=False), 5)
    assert building.build().stale_at is None


def test_a_raise_says_why_and_until_when():
    row = budget(10)
    with pytest.raises(ValidationError) as wrong:
        BudgetRaise(budget=row, amount=1, reason=" ", expires_at=timezone.now() + timedelta(hours=1)).full_clean()
    assert "reason" in wrong.value.message_dict
    with pytest.raises(ValidationError) as wrong:
        BudgetRaise(budget=row, amount=1, reason="Why", expires_at=timezone.now() - timedelta(hours=1)).full_clean()
    assert "expires_at" in wrong.value.message_dict


def test_a_second_row_for_the_same_subject_is_refused_by_name():
    row = budget(1, period="day", name="The day's")
    with pytest.raises(ValidationError) as wrong:
        budget(2, period="day")
    assert wrong.value.message_dict == {"subject": [f"There is one already: The day's (number {row.pk})."]}
    budget(2, period="month")


@pytest.mark.parametrize("tag", ["a,b", " a", "a ", "a\n"])
def test_a_tag_that_no_request_could_have_is_refused(tag):
    with pytest.raises(ValidationError) as wrong:
        limit("tag", tag=tag, requests_per_minute=1)
    assert "tag" in wrong.value.message_dict


def test_budgets_are_looked_at_in_the_order_of_seed_001():
    mine = key()
    for period in ("month", "request", "hour", "day"):
        budget(1, period=period)
    assert [one.period for one in met_by(mine).values()] == ["day", "hour", "request", "month"]


def test_for_some_keys_nothing_of_others_is_read(monkeypatch):
    mine, other = key("mine"), key("other")
    for row in (mine, other):
        budget(5, "key", client_key=row)
        limit("key", client_key=row, requests_per_minute=5)
    budget(9, "all")
    whole, identity = building.build().allowances, building.build().client_keys[mine.prefix].identity
    read = []
    monkeypatch.setattr(
        allowance_rows, "named_by", lambda row: read.append(row.client_key_id) or row.client_key_id or ""
    )
    found = allowance_rows.for_some([identity]).of_caller(identity)
    assert {one.key for one in found} == {one.key for one in whole.of_caller(identity)}
    assert set(read) == {mine.pk, None}
