from __future__ import annotations

from decimal import Decimal

import pytest

from inference.models import CostCorrection, RatingRun
from tests import callers
from tests.inference.test_rating import book

pytestmark = pytest.mark.django_db

RUN = {
    "since": "2026-11-01T00:00:00Z",
    "until": "2026-12-01T00:00:00Z",
    "reason": "a late contract",
    "prices": {"input_cost_per_million": "0.5", "output_cost_per_million": "2"},
}


def post(body: dict, path: str = "/api/v1/rating-runs"):
    return callers.caller("admin").post(path, body, format="json")


def test_a_run_is_made_with_its_figures_and_read_again() -> None:
    book(1)
    answer = post(RUN)
    told = answer.json()
    assert (answer.status_code, told["run"]["records"], told["run"]["reason"]) == (201, 1, "a late contract")
    (line,) = told["lines"]
    assert (Decimal(line["before"]), Decimal(line["after"])) == (Decimal(2), Decimal("1.5"))
    reader = callers.caller("admin")
    assert reader.get(f"/api/v1/rating-runs/{told['run']['id']}").json()["records"] == 1
    (correction,) = reader.get("/api/v1/cost-corrections", {"run": told["run"]["id"]}).json()["results"]
    assert (correction["request_id"], Decimal(correction["cost_before"])) == ("req_1", 2)


def test_a_dry_run_answers_the_same_and_writes_nothing() -> None:
    book(1)
    answer = post(RUN, "/api/v1/rating-runs?dry_run=true")
    assert (answer.status_code, answer["Dry-Run"], answer.json()["run"]["records"]) == (200, "true", 1)
    assert not RatingRun.objects.exists()
    assert not CostCorrection.objects.exists()


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"reason": ""}, "reason"),
        ({"since": "2027-01-01T00:00:00Z"}, "since"),
        ({"since": "yesterday"}, "since"),
        ({"prices": {"input_cost_per_million": "-1", "output_cost_per_million": "2"}}, "prices"),
        ({"prices": {"input_cost_per_million": "1"}}, "prices"),
        ({"model": "m"}, "model"),
    ],
)
def test_what_is_wrong_is_named(changes, field) -> None:
    answer = post({**RUN, **changes})
    assert answer.status_code == 400
    assert field in answer.content.decode()
    assert not RatingRun.objects.exists()


def test_runs_and_corrections_are_never_changed() -> None:
    book(1)
    made = post(RUN).json()["run"]["id"]
    for method in ("put", "patch", "delete"):
        assert getattr(callers.caller("admin"), method)(f"/api/v1/rating-runs/{made}", {}).status_code == 405


def test_others_than_admins_may_not() -> None:
    assert callers.caller("generate").post("/api/v1/rating-runs", RUN, format="json").status_code == 403
