"""A whole answer told as the events of a stream, and a stream put together as a whole answer. No I/O.

Of chat completions and completions. What cannot be told exactly the other way (a member that nobody here knows) is not told at
all: the functions then return None. A stream made here says each choice in one piece, since how its first teller cut it is lost.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson

from inference.wire import sse
from inference.wire.call_numbers import CallNumbers

_TEXTS = ("content", "refusal", "reasoning_content", "reasoning")
"""Members of a message that a stream tells piece by piece."""
_OF_MESSAGE = frozenset({"role", *_TEXTS, "tool_calls", "function_call", "annotations"})
_OF_CALL = frozenset({"index", "id", "type", "function"})
_OF_CHOICE = frozenset({"index", "message", "delta", "text", "finish_reason", "logprobs"})
_OF_NO_HEAD = frozenset({"choices", "usage", "object", "obfuscation"})


class _Untellable(Exception):
    pass


def events(body: bytes, *, with_usage: bool) -> list[bytes] | None:
    """The events that tell a whole answer, the end marker last. `with_usage` is what `stream_options.include_usage` asks for."""
    try:
        told = orjson.loads(body)
        chat = told["object"] == "chat.completion"
        if not chat and told["object"] != "text_completion":
            return None
        head = {name: value for name, value in told.items() if name not in _OF_NO_HEAD}
        head["object"] = "chat.completion.chunk" if chat else "text_completion"
        unknown = {"usage": None} if with_usage else {}
        pieces = [piece for choice in told["choices"] for piece in (_of_chat(choice) if chat else _of_text(choice))]
        said = [sse.event({**head, "choices": [piece], **unknown}) for piece in pieces]
        if with_usage:
            said.append(sse.event({**head, "choices": [], "usage": told.get("usage")}))
        return [*said, sse.DONE]
    except (_Untellable, orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return None


def _of_chat(choice: dict[str, Any]) -> list[dict[str, Any]]:
    message = dict(choice["message"])
    if any(value for name, value in message.items() if name not in _OF_MESSAGE):
        raise _Untellable
    index = choice.get("index", 0)
    role = {"role": message.pop("role", "assistant"), "content": "" if message.get("content") is not None else None}
    calls = message.pop("tool_calls", None)
    delta = {name: value for name, value in message.items() if value}
    if calls:
        delta["tool_calls"] = [{"index": place, **call} for place, call in enumerate(calls)]
    logprobs = choice.get("logprobs")
    told = [{"index": index, "delta": role, "logprobs": None, "finish_reason": None}]
    if delta or logprobs:
        told.append({"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": None})
    more = {name: value for name, value in choice.items() if name not in _OF_CHOICE}
    told.append({"index": index, "delta": {}, "logprobs": None, "finish_reason": choice["finish_reason"], **more})
    return told


def _of_text(choice: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"index": 0, "logprobs": None, **choice}]


def whole(stream: bytes, usage: dict[str, Any] | None) -> bytes | None:
    """The answer that a complete stream told. `usage` is used where the stream itself was not asked to tell it."""
    try:
        head: dict[str, Any] = {}
        choices: dict[int, _Choice] = {}
        chat = False
        for told in _told(stream):
            if "error" in told:
                return None
            chat = chat or told.get("object") == "chat.completion.chunk"
            head |= {name: value for name, value in told.items() if name not in _OF_NO_HEAD and value is not None}
            usage = told.get("usage") or usage
            for choice in told.get("choices") or ():
                choices.setdefault(choice.get("index", 0), _Choice()).hear(choice)
        if not choices or usage is None:
            return None
        said = [choices[index].said(index, chat=chat) for index in sorted(choices)]
    except (_Untellable, orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return None
    named = "chat.completion" if chat else "text_completion"
    return orjson.dumps({**head, "object": named, "choices": said, "usage": usage})


def _told(stream: bytes) -> Iterable[dict[str, Any]]:
    for event in sse.split(stream):
        data = sse.data_of(event).strip()
        if data and data != b"[DONE]":
            yield orjson.loads(data)


class _Choice:
    __slots__ = ("_calls", "_finish", "_logprobs", "_message", "_more", "_numbers", "_pieces")

    def __init__(self) -> None:
        self._message: dict[str, Any] = {}
        self._pieces: dict[str, list[str]] = {}
        self._calls: dict[int, dict[str, Any]] = {}
        self._logprobs: dict[str, Any] = {}
        self._numbers = CallNumbers()
        self._finish: str | None = None
        self._more: dict[str, Any] = {}

    def hear(self, choice: dict[str, Any]) -> None:
        delta = choice["delta"] if "delta" in choice else {"text": choice["text"]}
        for name, value in delta.items():
            if value is None:
                continue
            if name in _TEXTS or name == "text":
                self._pieces.setdefault(name, []).append(value)
            elif name == "tool_calls":
                for call in value:
                    self._continue_call(call)
            elif name == "annotations":
                self._message.setdefault(name, []).extend(value)
            elif name == "role":
                self._message["role"] = value or "assistant"
            elif value or name not in _OF_MESSAGE:
                raise _Untellable
        for name, value in (choice.get("logprobs") or {}).items():
            if isinstance(value, list):
                self._logprobs.setdefault(name, []).extend(value)
            elif value is not None:
                self._logprobs[name] = value
        self._finish = choice.get("finish_reason") or self._finish
        self._more |= {name: value for name, value in choice.items() if name not in _OF_CHOICE and value is not None}

    def _continue_call(self, piece: dict[str, Any]) -> None:
        if not _OF_CALL.issuperset(piece):
            raise _Untellable
        function = piece.get("function") or {}
        call = self._calls.setdefault(
            self._numbers.of(piece), {"id": None, "type": "function", "function": {"name": "", "arguments": ""}}
        )
        call["id"] = piece.get("id") or call["id"]
        call["type"] = piece.get("type") or call["type"]
        for name in ("name", "arguments"):
            call["function"][name] += function.get(name) or ""

    def said(self, index: int, *, chat: bool) -> dict[str, Any]:
        if self._finish is None:
            raise _Untellable
        told = {"index": index, "finish_reason": self._finish, "logprobs": self._logprobs or None, **self._more}
        texts = {name: "".join(pieces) for name, pieces in self._pieces.items()}
        if not chat:
            return {**told, "text": texts.get("text", "")}
        calls = [self._calls[place] for place in sorted(self._calls)]
        content = texts.pop("content", None)
        message = {"role": "assistant", **self._message, "content": (content or None) if calls else content or ""}
        message["refusal"] = texts.pop("refusal", "") or None
        message |= {name: text for name, text in texts.items() if text}
        if calls:
            message["tool_calls"] = calls
        return {**told, "message": message}
