from __future__ import annotations

from types import SimpleNamespace

import orjson
import pytest

from inference import errors
from inference.backends.refusals import Reader
from inference.wire.errors import body_of, headers_of, in_stream, log, redact


def told(error: errors.GatewayError) -> dict[bytes, bytes]:
    return dict(headers_of(error))


@pytest.mark.parametrize(
    "error",
    [
        errors.InvalidRequest("x", param="model"),
        errors.InvalidKey("x"),
        errors.ModelNotFound("x"),
        errors.UpstreamTimeout("x"),
        errors.GatewayOverloaded("x"),
        errors.WorkerLost("x"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_all_four_members_are_always_there(error) -> None:
    assert set(orjson.loads(body_of(error))["error"]) == {"message", "type", "param", "code"}


def test_an_upstream_s_own_error_is_relayed_untouched() -> None:
    body = b'{"error": {"message":"m","type":"t","param":"p","code":"context_length_exceeded"}, "more": 1}'
    assert body_of(errors.UpstreamRejected("m", body=body, status=400)) == body


def test_an_upstream_s_error_with_missing_members_gets_them() -> None:
    rejected = errors.UpstreamRejected("m", body=b'{"error":{"message":"only this"}}', status=400)
    assert orjson.loads(body_of(rejected))["error"] == {
        "message": "only this",
        "type": rejected.type,
        "param": None,
        "code": rejected.code,
    }


@pytest.mark.parametrize("body", [b"<html>no</html>", b'{"detail":"fastapi"}', b'{"error":"text"}', b""])
def test_an_upstream_that_says_it_another_way_is_put_into_the_envelope(body) -> None:
    answer = orjson.loads(body_of(errors.UpstreamRejected("what it said", body=body, status=422)))
    assert answer["error"]["message"] == "what it said"


@pytest.mark.parametrize(
    "error",
    [
        errors.UpstreamRateLimited("x", body=b"", retry_after=2),
        errors.UpstreamFailed("x"),
        errors.UpstreamTimeout("x"),
        errors.InvalidKey("x"),
        errors.ModelUnavailable("x"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_client_is_told_not_to_repeat_what_was_tried_here(error) -> None:
    assert told(error)[b"x-should-retry"] == b"false"


def test_a_passing_state_of_the_gateway_s_own_may_be_tried_again() -> None:
    assert b"x-should-retry" not in told(errors.GatewayOverloaded("x"))


def test_retry_after_is_told_in_seconds_and_milliseconds() -> None:
    headers = told(errors.UpstreamRateLimited("x", body=b"", retry_after=0.25))
    assert (headers[b"retry-after"], headers[b"retry-after-ms"]) == (b"1", b"250")


def test_a_bad_key_is_asked_for_a_bearer() -> None:
    assert told(errors.InvalidKey("x"))[b"www-authenticate"] == b"Bearer"


def test_the_event_that_ends_a_stream_is_one_event() -> None:
    raw = in_stream(errors.UpstreamBroken("line\n\ndata: [DONE]\n\nbreak"))
    assert raw.count(b"\n\n") == 1
    assert raw.startswith(b'data: {"error":')


@pytest.mark.parametrize(
    "text",
    [
        "Authorization: Bearer abc.def-123",
        "key sk-proj-abcdefgh12345 is bad",
        "https://user:hunter2@host/v1",
        "api_key=verysecretvalue",
        "gw-0123456789ab-" + "s" * 43,
    ],
)
def test_what_looks_like_a_credential_is_taken_out(text) -> None:
    clean = redact(text)
    for secret in ("abc.def-123", "abcdefgh12345", "hunter2", "verysecretvalue", "s" * 43):
        assert secret not in clean


def test_a_log_line_stays_one_line() -> None:
    assert "\n" not in redact("a\nb\r\nc\u2028d")


@pytest.mark.parametrize("status", [400, 401, 408, 429, 500])
def test_the_log_has_no_word_of_an_upstream_that_may_quote_a_prompt(status, caplog) -> None:
    caplog.set_level("INFO", "gateway.errors")
    body = b'{"error": {"message": "cannot read the poem", "code": "bad_poem"}}'
    refused = Reader([])._refusal_of(SimpleNamespace(status=status, headers=[]), body)
    log(refused, "req_1", "p/m")
    assert "cannot read" not in caplog.text
    assert f"status {status}, code bad_poem" in caplog.text


def test_a_word_without_end_takes_no_time() -> None:
    assert redact("a" * 1_000_000).startswith("a")
