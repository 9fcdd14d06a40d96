"""Anthropic's message batches in the words of our batches: requests as lines of an input file, lines of the output as results. Pure.

Source: https://platform.claude.com/docs/en/api/messages/batches/create.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
import orjson

from inference import batch_lines
from inference.errors import BodyTooLarge, InvalidRequest
from inference.wire import anthropic
from inference.wire.long_arrays import Elements

ENDPOINT = "/v1/messages"

_OURS, _THEIRS = "batch_", "msgbatch_"
_CUSTOM_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_LONGEST_CUSTOM_ID = 64
_LONGEST_HEADER = 1000
_NULL = msgspec.Raw(b"null")
_NEVER_ASKED = {batch_lines.EXPIRED[0]: "expired", batch_lines.CANCELLED[0]: "canceled"}


def theirs(batch_id: str) -> str:
    """The id of a message batch, by that of our batch."""
    return _THEIRS + batch_id.removeprefix(_OURS)


def ours(message_batch_id: str) -> str | None:
    """None for what is no id of a message batch."""
    if not message_batch_id.startswith(_THEIRS):
        return None
    return _OURS + message_batch_id.removeprefix(_THEIRS)


# Requests --------------------------------------------------------------------------------------------------------------


class _Request(msgspec.Struct):
    custom_id: msgspec.Raw = _NULL
    params: msgspec.Raw = _NULL


class _Params(msgspec.Struct):
    """What each request needs. The others are not looked at, however many they are."""

    model: msgspec.Raw = _NULL
    max_tokens: msgspec.Raw = _NULL
    messages: msgspec.Raw = _NULL


_request = msgspec.json.Decoder(_Request).decode
_params = msgspec.json.Decoder(_Params).decode
_text = msgspec.json.Decoder(str).decode


class Requests:
    """Of one batch, at most `most` of at most `longest` bytes each, all with the same headers, of those that lines may have. What
    their parameters say is looked at when they are answered."""

    def __init__(
        self, longest: int, headers: tuple[tuple[str, str], ...] = (), most: int = batch_lines.MOST_LINES
    ) -> None:
        self._longest, self._most = longest, most
        self._headers = b'"headers":%b,' % orjson.dumps(_checked(headers)) if headers else b""
        self._seen: set[str] = set()

    @property
    def count(self) -> int:
        return len(self._seen)

    def lines(self, body: Iterable[bytes]) -> Iterator[bytes]:
        """Of the input file. Raises `InvalidRequest` and `BodyTooLarge`, naming what is at fault in Anthropic's words."""
        elements = Elements("requests", self._longest)
        for piece in body:
            yield from map(self._line, elements.feed(piece))
        _check(elements.end())

    def _line(self, request: bytes) -> bytes:
        here = f"requests.{self.count}"
        if self.count >= self._most:
            raise _wrong("requests", f"List should have at most {self._most} items after validation")
        try:
            told = _request(request)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise _wrong(here, f"Input should be valid JSON ({error})") from None
        custom_id = _custom_id(told.custom_id, f"{here}.custom_id")
        if custom_id in self._seen:
            raise _wrong(f"{here}.custom_id", f"'{custom_id}' is that of another request; each must be unique")
        _check_params(told.params, f"{here}.params")
        line = b'{"custom_id":"%b","method":"POST","url":"%b",%b"body":%b}\n' % (
            custom_id.encode(),
            ENDPOINT.encode(),
            self._headers,
            bytes(told.params).translate(batch_lines.ONE_LINE),
        )
        if len(line) > self._longest:
            raise BodyTooLarge(f"{here}: the request is larger than {self._longest} bytes", param=here)
        self._seen.add(custom_id)
        return line


def _checked(headers: tuple[tuple[str, str], ...]) -> dict[str, str]:
    """Each stands in every line."""
    for name, value in headers:
        if len(value) > _LONGEST_HEADER:
            raise _wrong(name, f"String should have at most {_LONGEST_HEADER} characters")
    return dict(headers)


def _custom_id(raw: msgspec.Raw, where: str) -> str:
    if bytes(raw) == b"null":
        raise _wrong(where, "Field required")
    try:
        custom_id = _text(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise _wrong(where, "Input should be a valid string") from None
    if len(custom_id) > _LONGEST_CUSTOM_ID:
        raise _wrong(where, f"String should have at most {_LONGEST_CUSTOM_ID} characters")
    if not _CUSTOM_ID.fullmatch(custom_id):
        raise _wrong(where, f"String should match pattern '^{_CUSTOM_ID.pattern}$'")
    return custom_id


def _check_params(raw: msgspec.Raw, where: str) -> None:
    if bytes(raw) == b"null":
        raise _wrong(where, "Field required")
    try:
        params = _params(raw)
        bytes(raw).decode()  # of texts that are not read nobody else asks that
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise _wrong(where, "Input should be a valid dictionary") from None
    for name in _Params.__struct_fields__:
        if bytes(getattr(params, name)) in (b"null", b'""'):
            raise _wrong(f"{where}.{name}", "Field required")
    try:
        _text(params.model)
    except msgspec.DecodeError:
        raise _wrong(f"{where}.model", "Input should be a valid string") from None


def _check(around: dict[str, Any]) -> None:
    if (requests := around.get("requests")) is None:
        raise _wrong("requests", "Field required")
    if not isinstance(requests, list):
        raise _wrong("requests", "Input should be a valid list")
    for place, request in enumerate(requests):
        if not isinstance(request, dict):
            raise _wrong(f"requests.{place}", "Input should be a valid dictionary")
    if not requests:
        raise _wrong("requests", "List should have at least 1 item after validation, not 0")


def _wrong(where: str, what: str) -> InvalidRequest:
    return InvalidRequest(f"{where}: {what}", param=where)


# Results ---------------------------------------------------------------------------------------------------------------


class _Response(msgspec.Struct):
    status_code: int
    request_id: str
    body: msgspec.Raw


class _Error(msgspec.Struct):
    code: str
    message: str


class _Answer(msgspec.Struct):
    custom_id: str
    response: _Response | None = None
    error: _Error | None = None


_answer = msgspec.json.Decoder(_Answer).decode


def result_of(line: bytes) -> tuple[str, bytes]:
    """The custom id and the result that a line of an output or error file says."""
    told = _answer(line)
    if told.response is None:
        error = told.error or _Error(*batch_lines.STOPPED)
        kind = _NEVER_ASKED.get(error.code)
        return told.custom_id, failed(told.custom_id, error.message) if kind is None else _result(told.custom_id, kind)
    response = told.response
    if response.status_code < 400:
        return told.custom_id, _result(told.custom_id, "succeeded", message=orjson.Fragment(bytes(response.body)))
    body = orjson.loads(bytes(response.body))
    if not isinstance(body, dict):
        body = {"error": body}
    if body.get("type") != "error":
        body = anthropic.error_of(body, response.status_code, response.request_id)
    return told.custom_id, _result(told.custom_id, "errored", error=body)


def failed(custom_id: str, message: str) -> bytes:
    """The result of a request that was not asked because its batch failed."""
    error = {"type": "error", "error": {"type": "api_error", "message": message}}
    return _result(custom_id, "errored", error=error)


def _result(custom_id: str, kind: str, **more: Any) -> bytes:
    told = {"custom_id": custom_id, "result": {"type": kind, **more}}
    return orjson.dumps(told, option=orjson.OPT_APPEND_NEWLINE)


# Lists -----------------------------------------------------------------------------------------------------------------


def limit_of(told: str | None, most: int = 1000, usual: int = 20) -> int:
    """Of a page. Raises `InvalidRequest`."""
    if told is None:
        return usual
    if not told.isdecimal() or len(told) > len(str(most)) or not 1 <= int(told) <= most:
        raise _wrong("limit", f"Input should be a number from 1 to {most}")
    return int(told)
