import json
from decimal import Decimal
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from providers.models import AuditEntry
from routing import issuing, spending
from routing.models import Budget, BudgetRaise
from tests.routing.allowance_makers import budget

pytestmark = pytest.mark.django_db


def run(*args):
    out = StringIO()
    call_command("budgets", *map(str, args), stdout=out, stderr=out)
    return out.getvalue()


@pytest.fixture
def spent(monkeypatch):
    told = {}
    monkeypatch.setattr(spending, "_read", lambda asked: told.get(asked.subject, {}))
    return told


def test_without_budgets_it_says_what_to_do():
    assert "--usual" in run()


def test_the_fullest_comes_first(spent):
    budget(100, "all", name="Everything")
    key, _ = issuing.issue("app", ["generate"])
    budget(5, name="Each")
    spent |= {"all": {"": Decimal(10)}, "key": {key.pk: Decimal(4)}}
    told = run()
    assert told.index("Each") < told.index("Everything")
    assert "app" in told
    assert "~4.00" in told


def test_one_budget_is_told_with_its_past(spent):
    row = budget(100, "all", period="day", name="Everything")
    spent["all"] = {"": Decimal("12.5")}
    assert "12.50" in run(row.pk)
    told = json.loads(run(row.pk, "--json"))
    assert (told["standings"][0]["code"], Decimal(told["standings"][0]["left"])) == ("BUDGET_OK", Decimal("87.5"))
    assert len(told["history"]) == 14


def test_the_usual_budgets_are_those_of_seed_001():
    said = run("--usual").splitlines()
    assert said[0] == "add each_key, request: 5 USD"
    assert said[-1].startswith("Nothing is written yet")
    assert not Budget.objects.exists()
    assert "They are set up" in run("--usual", "--apply")
    rows = {row.period: (row.subject, row.amount, row.by_role) for row in Budget.objects.all()}
    assert rows == {
        "request": ("each_key", Decimal(5), True),
        "hour": ("each_key", Decimal(10), True),
        "day": ("each_key", Decimal(50), True),
        "month": ("each_key", Decimal(500), True),
    }
    assert "Nothing to change" in run("--usual", "--apply")


def test_a_budget_is_raised_for_a_while():
    row = budget(10, "all")
    assert "50 USD more" in run(row.pk, "--raise", "50", "--hours", "2", "--reason", "The fair")
    assert BudgetRaise.objects.get().amount == 50
    assert AuditEntry.objects.first().actor.startswith("command:budgets")


@pytest.mark.parametrize(
    "args", [("--raise", "x"), ("--raise", "5"), ("--raise", "-5", "--reason", "y"), ("--raise", "5", "--hours", "-1")]
)
def test_a_raise_that_makes_no_sense_is_refused(args):
    row = budget(10, "all")
    with pytest.raises(CommandError):
        run(row.pk, *args)
    assert not BudgetRaise.objects.exists()


def test_a_number_that_there_is_not_is_refused():
    with pytest.raises(CommandError, match="no budget 99"):
        run(99)
