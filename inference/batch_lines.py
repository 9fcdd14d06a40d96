"""What a line of a batch's input says, what can be wrong with it, and how a line of its output reads. Pure.

The words are those of OpenAI: https://platform.openai.com/docs/api-reference/batch
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
import orjson

MOST_LINES = 50_000
MOST_ERRORS = 100
LONGEST_CUSTOM_ID = 512
HEADERS = ("anthropic-beta", "anthropic-version")
"""Of a request, those that may stand in a line beside its body: what the body says is read by them."""

ONE_LINE = bytes.maketrans(b"\r\n", b"  ")
"""For JSON, in which they only stand between its parts: some providers spread an answer over many lines."""

EXPIRED = "batch_expired", "This request could not be executed before the completion window expired."
CANCELLED = "batch_cancelled", "This request was not executed, because the batch was cancelled."
STOPPED = "batch_stopped", "This request was not executed, because the batch was stopped."


class BadLine(ValueError):
    """`param` is the member at fault, where it is one."""

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code, self.message, self.param = code, message, param


@dataclass(frozen=True, slots=True)
class Line:
    """`body` is the request's JSON as it was sent; `number` that of the line, from 1; `headers` are some of `HEADERS`."""

    number: int
    custom_id: str
    body: bytes
    model: str
    headers: tuple[tuple[str, str], ...] = ()


class _Told(msgspec.Struct):
    custom_id: msgspec.Raw = msgspec.Raw(b"null")
    method: msgspec.Raw = msgspec.Raw(b"null")
    url: msgspec.Raw = msgspec.Raw(b"null")
    body: msgspec.Raw = msgspec.Raw(b"null")
    headers: msgspec.Raw = msgspec.Raw(b"null")


class _Body(msgspec.Struct):
    model: msgspec.Raw = msgspec.Raw(b"null")


_told = msgspec.json.Decoder(_Told).decode
_body = msgspec.json.Decoder(_Body).decode
_text = msgspec.json.Decoder(str).decode
_texts = msgspec.json.Decoder(dict[str, str] | None).decode


def numbered(lines: Iterator[bytes]) -> Iterator[tuple[int, bytes]]:
    """Without empty lines, which count all the same."""
    return ((number, line) for number, line in enumerate(lines, 1) if line.strip())


def read(number: int, raw: bytes, endpoint: str) -> Line:
    """Raises `BadLine`."""
    try:
        told = _told(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BadLine("invalid_json_line", "This line is not parseable as a JSON object.") from None
    custom_id = _string(told.custom_id, "custom_id")
    if len(custom_id) > LONGEST_CUSTOM_ID:
        raise BadLine("invalid_custom_id", f"'custom_id' is longer than {LONGEST_CUSTOM_ID} characters.", "custom_id")
    if _string(told.method, "method") != "POST":
        raise BadLine("invalid_method", "The method of each request must be 'POST'.", "method")
    if (url := _string(told.url, "url")) != endpoint:
        message = f"The URL provided for this request, '{url[:64]}', does not match the batch's endpoint, '{endpoint}'."
        raise BadLine("invalid_url", message, "url")
    try:
        model = _string(_body(told.body).model, "body.model")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BadLine("invalid_request_body", "The request's 'body' must be a JSON object.", "body") from None
    return Line(number, custom_id, bytes(told.body), model, _headers(told.headers))


def _headers(raw: msgspec.Raw) -> tuple[tuple[str, str], ...]:
    try:
        told = _texts(raw) or {}
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise BadLine("invalid_headers", "The request's 'headers' must be an object of texts.", "headers") from None
    return tuple((name, told[name]) for name in HEADERS if name in told)


def _string(raw: msgspec.Raw, name: str) -> str:
    if bytes(raw) == b"null":
        raise BadLine("missing_required_parameter", f"Missing required parameter: '{name}'.", name)
    try:
        text = _text(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise BadLine("invalid_type", f"Invalid type for '{name}': expected a string.", name) from None
    if not text:
        raise BadLine("missing_required_parameter", f"Missing required parameter: '{name}'.", name)
    return text


class Check:
    """Takes the lines one after the other, and knows in the end whether all are good. `errors` are those of OpenAI's batch object."""

    def __init__(self, endpoint: str, most_lines: int = MOST_LINES) -> None:
        self._endpoint, self._most_lines = endpoint, most_lines
        self._seen: set[str] = set()
        self.errors: list[dict[str, Any]] = []
        self.lines = 0
        self.models: dict[str, None] = {}
        """Each once, in the order in which they are named."""

    def take(self, number: int, raw: bytes) -> bool:
        """False when there is no use in going on."""
        self.lines += 1
        if self.lines > self._most_lines:
            self._wrong(None, BadLine("too_many_requests", f"A batch has at most {self._most_lines} requests."))
            return False
        try:
            line = read(number, raw, self._endpoint)
            if line.custom_id in self._seen:
                message = "The custom_id of this request is that of another one. Each must be unique in a batch."
                raise BadLine("duplicate_custom_id", message, "custom_id")
        except BadLine as bad:
            self._wrong(number, bad)
            return len(self.errors) < MOST_ERRORS
        self._seen.add(line.custom_id)
        self.models[line.model] = None
        return True

    def end(self) -> None:
        if not self.lines:
            self._wrong(None, BadLine("empty_file", "The input file is empty."))

    def _wrong(self, number: int | None, bad: BadLine) -> None:
        self.errors.append({"code": bad.code, "message": bad.message, "param": bad.param, "line": number})


def answered(request_id: str, custom_id: str, status: int, body: bytes) -> bytes:
    """A line of the output or the error file. A body that is no JSON is told as a text."""
    try:
        whole: Any = orjson.Fragment(body.translate(ONE_LINE)) if orjson.loads(body) is not None else None
    except orjson.JSONDecodeError:
        whole = body.decode("utf-8", "replace")
    response = {"status_code": status, "request_id": request_id, "body": whole}
    return _line(request_id, custom_id, response, None)


def never_asked(request_id: str, custom_id: str, why: tuple[str, str]) -> bytes:
    code, message = why
    return _line(request_id, custom_id, None, {"code": code, "message": message})


def _line(request_id: str, custom_id: str, response: Any, error: Any) -> bytes:
    told = {"id": f"batch_req_{request_id.removeprefix('batch_')}", "custom_id": custom_id, "response": response}
    return orjson.dumps(told | {"error": error}, option=orjson.OPT_APPEND_NEWLINE)
