from __future__ import annotations

import pytest
from django.utils import timezone

from inference import shadow_pairs
from inference.models import ShadowPair
from inference.shadow_pairs import Answer, Compared
from tests import callers

pytestmark = pytest.mark.django_db


def keep(legacy: str = "no", run: str = "") -> ShadowPair:
    here, there = Answer("yes", 200, "", 0.1), Answer(legacy, 200, "", 0.2)
    return shadow_pairs.store(
        Compared(timezone.now().timestamp(), "r", "gateway", "/v1/completions", "m", "asked", here, there, run)
    )


def test_a_list_shows_figures_and_no_text() -> None:
    keep("yes")
    last = keep()
    told = callers.caller("admin").get("/api/v1/shadow-pairs").json()["results"]
    assert [pair["equal"] for pair in told] == [False, True]
    assert (told[0]["id"], told[0]["gateway_ms"], told[0]["legacy_ms"]) == (last.pk, 100, 200)
    assert not {name for name in told[0] if name.endswith("_text")}


def test_one_pair_shows_what_was_asked_and_what_both_said() -> None:
    told = callers.caller("admin").get(f"/api/v1/shadow-pairs/{keep().pk}/").json()
    assert (told["request_text"], told["gateway_text"], told["legacy_text"]) == ("asked", "yes", "no")


def test_pairs_are_found_by_run_and_likeness() -> None:
    keep("yes", run="a")
    different = keep("no", run="a")
    keep("no", run="b")
    found = callers.caller("admin").get("/api/v1/shadow-pairs", {"run": "a", "most_similarity": "0.5"}).json()
    assert [pair["id"] for pair in found["results"]] == [different.pk]


def test_customers_texts_are_for_admins_and_nobody_writes_them() -> None:
    pair = keep()
    assert callers.caller("generate", "registry:read").get(f"/api/v1/shadow-pairs/{pair.pk}").status_code == 403
    assert callers.caller("admin").delete(f"/api/v1/shadow-pairs/{pair.pk}").status_code == 405
