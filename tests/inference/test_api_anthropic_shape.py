"""Failures of what Anthropic's API keeps, in its words."""

from __future__ import annotations

from types import SimpleNamespace

from inference.api.anthropic_shape import failure_in_its_words
from inference.errors import BudgetStoreUnavailable, NotFound


def test_what_fails_for_now_is_an_overload_and_the_rest_keeps_its_number() -> None:
    context = {"request": SimpleNamespace(request_id="r1")}
    overloaded = failure_in_its_words(BudgetStoreUnavailable("Not now."), context)
    lost = failure_in_its_words(NotFound("There is no such batch."), context)
    assert overloaded is not None
    assert lost is not None
    assert (overloaded.status_code, overloaded.data["error"]["type"]) == (529, "overloaded_error")
    assert (lost.status_code, lost.data["error"]["type"]) == (404, "not_found_error")
    assert overloaded.data["request_id"] == "r1"
