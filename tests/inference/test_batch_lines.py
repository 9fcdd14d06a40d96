from __future__ import annotations

import json

import pytest

from inference import batch_lines
from inference.batch_lines import BadLine, Check

CHAT = "/v1/chat/completions"
GOOD = {"custom_id": "a", "method": "POST", "url": CHAT, "body": {"model": "m", "messages": []}}


def test_a_line_keeps_the_requests_body_as_it_was_sent() -> None:
    raw = b'{"custom_id":"a","method":"POST","url":"/v1/chat/completions","body":{"model":"m", "seed" : 1.50}}'
    line = batch_lines.read(3, raw, CHAT)
    assert (line.number, line.custom_id, line.model) == (3, "a", "m")
    assert line.body == b'{"model":"m", "seed" : 1.50}'


@pytest.mark.parametrize(
    ("change", "code", "param"),
    [
        ({"custom_id": None}, "missing_required_parameter", "custom_id"),
        ({"custom_id": 7}, "invalid_type", "custom_id"),
        ({"method": "GET"}, "invalid_method", "method"),
        ({"url": "/v1/embeddings"}, "invalid_url", "url"),
        ({"body": []}, "invalid_request_body", "body"),
        ({"body": {}}, "missing_required_parameter", "body.model"),
        ({"headers": {"anthropic-beta": 1}}, "invalid_headers", "headers"),
    ],
)
def test_what_is_wrong_with_a_line_is_named(change: dict[str, object], code: str, param: str) -> None:
    with pytest.raises(BadLine) as caught:
        batch_lines.read(1, json.dumps({**GOOD, **change}).encode(), CHAT)
    assert (caught.value.code, caught.value.param) == (code, param)


def test_a_line_keeps_the_headers_by_which_its_body_is_read() -> None:
    headers = {"anthropic-beta": "a,b", "authorization": "Bearer x"}
    line = batch_lines.read(1, json.dumps({**GOOD, "headers": headers}).encode(), CHAT)
    assert line.headers == (("anthropic-beta", "a,b"),)


@pytest.mark.parametrize("raw", [b"{", b"[]", b"\xff", b"[" * 100_000])
def test_what_is_no_object_is_no_line(raw: bytes) -> None:
    with pytest.raises(BadLine, match="not parseable"):
        batch_lines.read(1, raw, CHAT)


def test_errors_are_told_up_to_a_limit_and_a_file_without_lines_is_one() -> None:
    check = Check(CHAT)
    taken = [check.take(number, b"{") for number in range(1, 200)]
    assert taken.index(False) == batch_lines.MOST_ERRORS - 1
    empty = Check(CHAT)
    empty.end()
    assert [one["code"] for one in empty.errors] == ["empty_file"]


def test_a_batch_has_so_many_lines_and_no_more() -> None:
    check = Check(CHAT, most_lines=2)
    lines = [json.dumps({**GOOD, "custom_id": str(number)}).encode() for number in range(3)]
    assert [check.take(number, line) for number, line in enumerate(lines, 1)] == [True, True, False]
    assert (check.errors[0]["code"], check.errors[0]["line"]) == ("too_many_requests", None)


def test_empty_lines_are_passed_over_and_counted() -> None:
    assert list(batch_lines.numbered(iter([b"a", b" ", b"", b"b"]))) == [(1, b"a"), (4, b"b")]


def test_an_answer_that_is_no_json_is_told_as_a_text() -> None:
    told = json.loads(batch_lines.answered("batch_1_2", "a", 502, b"<html>"))
    assert told["id"] == "batch_req_1_2"
    assert told["response"] == {"status_code": 502, "request_id": "batch_1_2", "body": "<html>"}


def test_a_line_that_was_never_asked_says_why() -> None:
    told = json.loads(batch_lines.never_asked("batch_1_2", "a", batch_lines.EXPIRED))
    assert (told["response"], told["error"]["code"]) == (None, "batch_expired")


def test_an_answer_over_many_lines_is_one_line_of_the_file() -> None:
    body = json.dumps({"text": "a\nb", "more": [1, 2]}, indent=2).replace("\n", "\r\n").encode()
    line = batch_lines.answered("batch_1_2", "a", 200, body)
    assert line.splitlines() == [line.removesuffix(b"\n")]
    assert json.loads(line)["response"]["body"] == {"text": "a\nb", "more": [1, 2]}
