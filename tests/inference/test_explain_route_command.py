"""The command says what the API says, in a table or as the document, and by its exit status whether anybody would serve."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from inference.models import Trace
from routing import snapshot
from routing.models import Policy
from tests.inference import workers

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _registry(db: None) -> Iterator[None]:
    workers.fresh_registry()
    workers.add_model(workers.add_provider("first", "fake", priority=1), "words", context_window=100)
    workers.add_model(workers.add_provider("second", "fake", priority=2), "words")
    Policy.objects.create(name="writer", kind="node", document={"targets": ["words"]})
    yield
    snapshot.replace(None)


def run(*options: Any, **more: Any) -> str:
    out = io.StringIO()
    call_command("explain_route", *options, stdout=out, **more)
    return out.getvalue()


def test_candidates_are_told_in_order_and_the_others_with_the_reason() -> None:
    said = run("--node", "writer", "--prompt", "word " * 400)
    assert "second/words: the only one that may serve" in said
    assert "node writer, version 1" in said
    assert "prompt_too_long" in said


def test_the_document_is_that_of_the_api() -> None:
    told = json.loads(run("--node", "writer", "--prompt", "hi", "--json"))
    assert [one["route"] for one in told["candidates"]] == ["first/words", "second/words"]
    assert told["request"]["model"] == "node/writer"


def test_when_nobody_would_serve_the_status_says_so() -> None:
    with pytest.raises(SystemExit) as stopped:
        run("--model", "wards")
    assert stopped.value.code == 2


def test_it_tells_what_would_have_to_change() -> None:
    assert "Send preferred_model 'second/words'." in run("--node", "writer", "--wanted", "second/words")


def test_a_request_is_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "request.json"
    path.write_text(json.dumps({"model": "words", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 9}))
    assert json.loads(run("--file", str(path), "--json"))["estimate"]["output_tokens"] == 9
    path.write_text("{")
    with pytest.raises(CommandError, match="holds no JSON"):
        run("--file", str(path))


def test_another_keys_view_is_taken() -> None:
    prefix, _ = workers.client_key("generate", allowed_models=["second/*"])
    told = json.loads(run("--model", "words", "--key", prefix, "--json"))
    assert [one["route"] for one in told["candidates"]] == ["second/words"]


def test_a_past_request_is_told_beside_what_would_be_decided_now() -> None:
    Trace.objects.create(
        request_id="req_1", at=timezone.now(), operation="chat", requested_model="words", status=200, model_id="words"
    )
    said = run("--trace", "req_1")
    assert "No explanation is kept of it." in said
    assert "first/words: first by priority" in said
    assert json.loads(run("--trace", "req_1", "--json"))["now"]["candidates"][0]["route"] == "first/words"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--trace", "req_0"], "No request req_0 is recorded"),
        (["--task", "poetry"], "must be one of"),
        (["--key", "gw-none"], "There is no client key"),
        (["--max-cost", "dear"], "max_cost"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(options: list[str], said: str) -> None:
    with pytest.raises(CommandError, match=said):
        run(*options)
