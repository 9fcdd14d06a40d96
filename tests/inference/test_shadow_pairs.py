from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.db import connection

from gateway_project.celery import app
from inference import shadow_pairs, shadow_texts, tasks
from inference.models import ShadowPair
from inference.shadow_pairs import Answer, Compared
from providers import rotation
from providers.secrets import is_ciphertext
from routing.models import Rollout

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


def answer(text: str = "yes", status: int = 200, error: str = "", **more) -> Answer:
    return Answer(text=text, status=status, error=error, seconds=0.5, **more)


def compared(gateway: Answer | None = None, legacy: Answer | None = None, at: datetime = NOW) -> Compared:
    return Compared(
        at=at.timestamp(),
        request_id="req-1",
        answered_by="gateway",
        path="/v1/chat/completions",
        model="gpt-test",
        request_text="user: a private question",
        gateway=gateway or answer(),
        legacy=legacy or answer(),
    )


def test_both_answers_are_kept_with_what_they_took() -> None:
    here = answer("one two", input_tokens=3, output_tokens=2, cost=Decimal("0.01"))
    shadow_pairs.store(compared(here, answer("one three")))

    pair = ShadowPair.objects.get()

    assert pair.request_text.reveal() == "user: a private question"
    assert (pair.gateway_text.reveal(), pair.legacy_text.reveal()) == ("one two", "one three")
    assert (pair.gateway_ms, pair.gateway_input_tokens, pair.gateway_cost) == (500, 3, Decimal("0.01"))
    assert (pair.equal, pair.similarity) == (False, 0.5)


def test_texts_lie_encrypted_in_the_database() -> None:
    shadow_pairs.store(compared())
    with connection.cursor() as cursor:
        cursor.execute("SELECT request_text, gateway_text, legacy_text FROM inference_shadowpair")
        [stored] = cursor.fetchall()
    assert all(is_ciphertext(text) for text in stored)


def test_a_change_of_the_encryption_key_finds_them() -> None:
    assert ("ShadowPair", "legacy_text") in {
        (model.__name__, field.name) for model, field in rotation.encrypted_fields()
    }


def test_the_same_words_are_equal_whatever_blanks_surround_them() -> None:
    pair = shadow_pairs.store(compared(answer("yes\n"), answer(" yes")))
    assert (pair.equal, pair.similarity) == (True, 1.0)


def test_a_side_that_failed_is_neither_equal_nor_similar() -> None:
    failed = answer("", 502, "upstream_error")
    for pair in (compared(failed), compared(failed, failed)):
        kept = shadow_pairs.store(pair)
        assert (kept.equal, kept.similarity) == (False, None)


def test_long_texts_are_cut() -> None:
    pair = shadow_pairs.store(compared(answer("word " * 20_000)))
    assert len(pair.gateway_text.reveal()) == shadow_texts.LONGEST_TEXT


def test_pairs_are_forgotten_after_the_roll_outs_hours() -> None:
    Rollout.objects.create(shadow_retention_hours=5)
    for hours in (4, 6):
        shadow_pairs.store(compared(at=NOW - timedelta(hours=hours)))
    assert shadow_pairs.forget_old(NOW) == 1
    assert ShadowPair.objects.get().at == NOW - timedelta(hours=4)


def test_the_scheduler_forgets_them() -> None:
    shadow_pairs.store(compared(at=NOW - timedelta(days=365)))
    assert tasks.forget_shadow_pairs() == 1
    assert tasks.forget_shadow_pairs.name in {entry["task"] for entry in app.conf.beat_schedule.values()}


def test_shadow_mode_is_off_unless_somebody_turns_it_on() -> None:
    assert Rollout().shadow_percentage == 0
