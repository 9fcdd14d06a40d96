"""Whoever may move traffic without the right to read secrets cannot have the legacy side's headers sent somewhere else."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.exceptions import ValidationError

from providers import actor
from routing.models import Rollout

pytestmark = pytest.mark.django_db

HOME, ELSEWHERE = "https://legacy.example", "https://elsewhere.example"
CANARY = "legacy-canary-0123456789"


@pytest.fixture(autouse=True)
def _legacy() -> None:
    Rollout.change(legacy_base_url=HOME, headers={"X-Token": CANARY})


def stranger() -> Any:
    return actor.acting_as("user:operator", may_handle_secrets=lambda: False)


@pytest.mark.parametrize("moved", [{"legacy_base_url": ELSEWHERE}, {"verify_tls": False}])
def test_stored_headers_stay_where_they_were_entered_for(moved: dict[str, Any]) -> None:
    with stranger(), pytest.raises(ValidationError) as refused:
        Rollout.change(**moved)
    assert "X-Token" in str(refused.value)
    assert CANARY not in str(refused.value)
    assert Rollout.load().legacy_base_url == HOME


def test_keeping_them_by_the_form_is_no_way_around() -> None:
    with stranger(), pytest.raises(ValidationError):
        Rollout.change(legacy_base_url=ELSEWHERE, headers={"X-Token": CANARY, "X-More": "1"})


def test_without_them_the_address_may_change() -> None:
    with stranger():
        Rollout.change(legacy_base_url=f"{HOME}/v2", percentage=50)
        assert Rollout.change(legacy_base_url=ELSEWHERE, headers={"X-Token": "another"}).legacy_base_url == ELSEWHERE


def test_who_may_handle_secrets_takes_them_along() -> None:
    assert Rollout.change(legacy_base_url=ELSEWHERE).headers()["X-Token"].reveal() == CANARY
