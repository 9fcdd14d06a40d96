from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from django.utils import timezone

from gateway_project.celery import app
from inference import tasks, usage_rows
from inference.asking import facts_of
from inference.deciding import rule
from inference.models import DecisionRecord
from inference.reasons import Reason, Reasons, asked_text, explained
from inference.wire.openai import CHAT, parse
from routing import asked
from tests.inference import registry


def request(**members):
    return parse(CHAT, orjson.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}], **members}))


@pytest.fixture
def held():
    return registry.snapshot(registry.model(registry.provider("a"), "m"))


def test_a_reason_is_told_once(held) -> None:
    reasons = Reasons()
    first = rule(request(max_cost=1), None, held)
    again = rule(request(max_cost=1), None, held)
    told = reasons.take(first)
    assert told is not None
    assert reasons.take(again) is None
    assert first.digest == again.digest == told.digest


def test_another_outcome_is_another_reason(held) -> None:
    reasons = Reasons()
    one, other = rule(request(), None, held), rule(request(max_cost="0.0000001"), None, held)
    assert reasons.take(one).digest != reasons.take(other).digest


def test_a_decision_that_cannot_be_worded_loses_no_row(held, monkeypatch) -> None:
    monkeypatch.setattr("inference.reasons.explained", lambda ruling: 1 / 0)
    ruling = rule(request(max_cost=2), None, held)
    assert Reasons().take(ruling) is None
    assert ruling.digest == ""


@pytest.mark.parametrize(
    "members",
    [
        {},
        {"max_tokens": 9},
        {"preferred_model": "m", "max_tokens": 9},
        {"max_cost": "0.5", "task": "chat_small"},
        {"require_vision": True},
    ],
)
def test_what_was_asked_reads_back(held, members) -> None:
    told = request(**members)
    ruling = rule(told, None, held)
    written = orjson.loads(asked_text(ruling, (told.prompt_bytes, told.max_output_tokens)))
    whole = asked.document(facts_of(told, None))
    assert written == {name: value for name, value in whole.items() if name != "model"}


@pytest.mark.django_db
def test_reasons_are_stored_once_and_know_when_they_were_told_last() -> None:
    reason = Reason("d" * 32, '{"a":1}', 1_700_000_000.0)
    usage_rows.write_reasons([reason, reason])
    usage_rows.write_reasons([reason._replace(body="{}", at=reason.at + 3600)])
    [stored] = DecisionRecord.objects.all()
    assert (stored.body, stored.at) == ('{"a":1}', datetime.fromtimestamp(1_700_003_600, UTC))


@pytest.mark.django_db
def test_reasons_that_nobody_told_for_long_are_forgotten_a_few_at_a_time(settings: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(usage_rows, "_ROWS_AT_ONCE", 2)
    settings.GATEWAY_EXPLANATION_DAYS = 2
    ages = [timedelta(days=days) for days in (1, 2, 3, 4, 5, 6, 7)]
    usage_rows.write_reasons([Reason(str(age.days), "{}", (timezone.now() - age).timestamp()) for age in ages])
    assert tasks.forget_reasons() == 5
    assert {one.digest for one in DecisionRecord.objects.all()} == {"1", "2"}
    assert tasks.forget_reasons.name in {entry["task"] for entry in app.conf.beat_schedule.values()}


def test_a_reason_is_what_all_alike_have_in_common(held) -> None:
    body = orjson.loads(explained(rule(request(), None, held)).body)
    assert body["candidates"][0]["route"] == "a/m"
    assert "request" not in body
