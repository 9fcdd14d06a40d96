"""Anthropic's message batches as files of requests and of results."""

from __future__ import annotations

import json
from typing import Any

import pytest

from inference import batch_lines
from inference.errors import BodyTooLarge, InvalidRequest
from inference.wire import message_batches as wire

PARAMS = {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "a\nb"}]}


def request(custom_id: Any = "a", **params: Any) -> dict[str, Any]:
    return {"custom_id": custom_id, "params": PARAMS | params}


def lines_of(told: Any, longest: int = 10_000, most: int = 10) -> list[bytes]:
    return list(wire.Requests(longest, most=most).lines([json.dumps(told, indent=1).encode()]))


def test_each_request_is_a_line_that_the_engine_reads() -> None:
    lines = lines_of({"requests": [request("a"), request("b-_2", temperature=1)]})
    assert [line.count(b"\n") for line in lines] == [1, 1]
    first, second = (batch_lines.read(number, line, wire.ENDPOINT) for number, line in enumerate(lines, 1))
    assert (first.custom_id, first.model, json.loads(first.body)) == ("a", "m", PARAMS)
    assert (second.custom_id, json.loads(second.body)) == ("b-_2", PARAMS | {"temperature": 1})


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({}, "requests: Field required"),
        ({"requests": {}}, "requests: Input should be a valid list"),
        ({"requests": []}, "requests: List should have at least 1 item after validation, not 0"),
        ({"requests": [request(), 3]}, "requests.1: Input should be a valid dictionary"),
        ({"requests": [{"params": PARAMS}]}, "requests.0.custom_id: Field required"),
        ({"requests": [request(7)]}, "requests.0.custom_id: Input should be a valid string"),
        ({"requests": [request("x" * 65)]}, "requests.0.custom_id: String should have at most 64 characters"),
        ({"requests": [request("a b")]}, "requests.0.custom_id: String should match pattern '^[a-zA-Z0-9_-]{1,64}$'"),
        ({"requests": [request("")]}, "requests.0.custom_id: String should match pattern '^[a-zA-Z0-9_-]{1,64}$'"),
        ({"requests": [request(), request()]}, "requests.1.custom_id: 'a' is that of another request"),
        ({"requests": [{"custom_id": "a"}]}, "requests.0.params: Field required"),
        ({"requests": [{"custom_id": "a", "params": []}]}, "requests.0.params: Input should be a valid dictionary"),
        ({"requests": [request(), request("b", model=None)]}, "requests.1.params.model: Field required"),
        ({"requests": [request(model=3)]}, "requests.0.params.model: Input should be a valid string"),
        ({"requests": [request(max_tokens=None)]}, "requests.0.params.max_tokens: Field required"),
        ({"requests": [request(messages=None)]}, "requests.0.params.messages: Field required"),
        ({"requests": [request(str(n)) for n in range(11)]}, "requests: List should have at most 10 items"),
    ],
)
def test_what_is_wrong_is_named_in_anthropics_words(told: Any, message: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        lines_of(told)
    assert refused.value.message.startswith(message)
    assert refused.value.param == message.partition(":")[0]


@pytest.mark.parametrize("raw", [b'{"custom_id": "a", "params": {01}}', b'{"custom_id": "a" "params": {}}'])
def test_a_request_that_is_not_json_is_refused(raw: bytes) -> None:
    with pytest.raises(InvalidRequest) as refused:
        list(wire.Requests(1000).lines([b'{"requests": [', raw, b"]}"]))
    assert str(refused.value.param).startswith("requests.0")


@pytest.mark.parametrize(
    ("params", "param"),
    [
        (rb'{"model": "a\x"', "requests.0"),
        (b'{"model": "\xff"', "requests.0.params"),
        (b'{"model": "m", "x": "\xff"', "requests.0.params"),
    ],
)
def test_a_text_that_is_none_is_refused_before_it_can_spoil_the_batch(params: bytes, param: str) -> None:
    raw = b'{"custom_id": "a", "params": ' + params + b', "max_tokens": 5, "messages": []}}'
    with pytest.raises(InvalidRequest) as refused:
        list(wire.Requests(1000).lines([b'{"requests": [', raw, b"]}"]))
    assert refused.value.param == param


def test_a_request_that_no_line_can_hold_is_refused() -> None:
    longest = len(json.dumps(request(), indent=1)) + 20
    with pytest.raises(BodyTooLarge) as refused:
        lines_of({"requests": [request()]}, longest)
    assert refused.value.param == "requests.0"


def test_headers_stand_in_every_line_unless_they_are_long() -> None:
    asked = [json.dumps({"requests": [request("a"), request("b")]}).encode()]
    lines = wire.Requests(1000, (("anthropic-beta", "one"),)).lines(asked)
    told = [batch_lines.read(number, line, wire.ENDPOINT).headers for number, line in enumerate(lines, 1)]
    assert told == [(("anthropic-beta", "one"),)] * 2
    with pytest.raises(InvalidRequest) as refused:
        wire.Requests(1000, (("anthropic-beta", "x" * 1001),))
    assert refused.value.param == "anthropic-beta"


def test_ids_of_both_views_lead_to_each_other() -> None:
    assert wire.theirs("batch_12ab") == "msgbatch_12ab"
    assert wire.ours("msgbatch_12ab") == "batch_12ab"
    assert wire.ours("batch_12ab") is None


def result(line: bytes) -> dict[str, Any]:
    custom_id, told = wire.result_of(line)
    assert (told.endswith(b"\n"), json.loads(told)["custom_id"]) == (True, custom_id)
    return json.loads(told)["result"]


def test_an_answer_is_the_message_of_its_result() -> None:
    assert result(batch_lines.answered("batch_1_1", "a", 200, b'{"id": "msg_1"}')) == {
        "type": "succeeded",
        "message": {"id": "msg_1"},
    }


def test_a_failure_is_an_error_of_anthropics_whoever_told_it() -> None:
    theirs = {"type": "error", "error": {"type": "overloaded_error", "message": "no"}, "request_id": "1"}
    told = result(batch_lines.answered("batch_1_1", "a", 529, json.dumps(theirs).encode()))
    assert told == {"type": "errored", "error": theirs}
    ours = json.dumps({"error": {"message": "no", "code": "model_not_found"}}).encode()
    assert result(batch_lines.answered("batch_1_1", "a", 404, ours))["error"] == {
        "type": "error",
        "error": {"type": "not_found_error", "message": "no", "code": "model_not_found"},
        "request_id": "batch_1_1",
    }
    told = result(batch_lines.answered("batch_1_1", "a", 502, b"<html>"))["error"]["error"]
    assert told == {"type": "api_error", "message": "<html>"}


@pytest.mark.parametrize(
    ("why", "kind"),
    [(batch_lines.EXPIRED, "expired"), (batch_lines.CANCELLED, "canceled"), (batch_lines.STOPPED, "errored")],
)
def test_what_was_never_asked_says_why(why: tuple[str, str], kind: str) -> None:
    told = result(batch_lines.never_asked("batch_1_1", "a", why))
    assert told["type"] == kind
    assert ("error" in told) == (kind == "errored")


@pytest.mark.parametrize("told", ["0", "1001", "x", "-1", "²", "9" * 5000])
def test_a_limit_that_cannot_be_is_refused(told: str) -> None:
    with pytest.raises(InvalidRequest):
        wire.limit_of(told)
    assert (wire.limit_of("1000"), wire.limit_of(None)) == (1000, 20)
