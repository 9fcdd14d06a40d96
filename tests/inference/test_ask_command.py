"""The playground in a terminal: answers with their figures, one or several, by a client key's limits or by nobody's."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from inference.models import UsageRecord
from inference.recording import Recorder
from routing import issuing, snapshot
from routing.models import ClientKey
from tests.inference import workers

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def key(client_recorder: Recorder) -> Iterator[ClientKey]:
    workers.fresh_registry()
    near = workers.add_provider("near", "fake", priority=1)
    for name in ("words", "other"):
        workers.add_model(near, name, capabilities=["chat"], input_cost_per_million=1, output_cost_per_million=2)
    yield issuing.issue("app", ["generate"], allowed_models=["words"])[0]
    snapshot.replace(None)


def run(*options: Any, status: int = 0) -> str:
    out = io.StringIO()
    if not status:
        call_command("ask", *options, stdout=out)
        return out.getvalue()
    with pytest.raises(SystemExit) as ended:
        call_command("ask", *options, stdout=out)
    assert ended.value.code == status
    return out.getvalue()


def rows(recorder: Recorder, count: int) -> list[UsageRecord]:
    recorder.stop()
    found = list(UsageRecord.objects.order_by("requested_model"))
    assert len(found) == count
    return found


def test_an_answer_is_written_with_what_it_took(client_recorder: Recorder) -> None:
    said = run("three little words", "--model", "words")
    assert said.startswith("three little words")
    (row,) = rows(client_recorder, 1)
    for figure in ("near/words", "0.000009 USD", row.request_id, "first token"):
        assert figure in said
    assert row.client_key_id is None


def test_several_are_asked_the_same_and_the_failure_of_one_stops_no_other(client_recorder: Recorder) -> None:
    said = run("hi", "--model", "words", "--compare", "other,nothing", status=2)
    assert {"near/words", "near/other"} <= set(said.replace("│", " ").split())
    assert "model_not_found" in said
    assert [row.status for row in rows(client_recorder, 3)] == [404, 200, 200]


def test_a_client_key_is_asked_as_and_its_limits_hold(client_recorder: Recorder, key: ClientKey) -> None:
    run("hi", "--model", "words", "--key", key.prefix)
    assert "model_not_found" in run("hi", "--model", "other", "--key", key.prefix, status=2)
    assert {row.client_key_id for row in rows(client_recorder, 2)} == {key.pk}


def test_a_key_that_lets_nobody_in_asks_nothing(key: ClientKey) -> None:
    key.revoke("gone")
    with pytest.raises(CommandError, match="revoked"):
        run("hi", "--model", "words", "--key", key.prefix)
    with pytest.raises(CommandError, match="no client key"):
        run("hi", "--model", "words", "--key", "gw-nothing")
