from __future__ import annotations

import json
import logging
from decimal import Decimal

import pytest

from inference import request_logs
from inference.backends.base import Usage
from inference.recording import row_of
from tests.inference.test_recording import entry


def test_a_request_is_one_line_with_what_it_used_and_cost(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="gateway.access")
    one = entry(1, usage=Usage(10, 4), cost=Decimal("0.00000012"), tags=("a", "b"))
    two = entry(2)
    request_logs.tell([one, two], [row_of(one), row_of(two)])
    [record] = caplog.records
    told, other = (json.loads(line) for line in request_logs.JSONFormatter().format(record).splitlines())
    assert other["request_id"] == two.request_id
    assert (told["logger"], told["message"], told["status"], told["model_id"]) == (
        "gateway.access",
        "request",
        200,
        "m",
    )
    assert (told["input_tokens"], told["output_tokens"], told["cost"]) == (10, 4, "0.00000012")
    assert told["tags"] == ["a", "b"]


def test_other_lines_are_objects_too_and_stay_on_one_line() -> None:
    try:
        raise ValueError("two\nlines")
    except ValueError as error:
        record = logging.LogRecord("x", logging.ERROR, "f", 1, "it %s", ("failed",), (type(error), error, None))
    text = request_logs.JSONFormatter().format(record)
    assert "\n" not in text
    assert json.loads(text)["message"] == "it failed"
    assert "ValueError" in json.loads(text)["exception"]


def test_nothing_of_a_request_is_content_or_a_key() -> None:
    assert not {"asked", "decision", "address", "prices", "client_key_id"} & set(request_logs._MEMBERS)
