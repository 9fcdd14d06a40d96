"""What a request asks and what a reply says, whichever protocol of the parallel run it came in: for a copy, and to compare.

No I/O. Nothing but bodies comes in here: credentials stand in headers, and those are never kept.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any, TypeGuard

import orjson

from inference.backends.base import Usage
from inference.overheard import usage as told_usage
from inference.told_usage import read_usage

OPERATIONS = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "completions",
    "/generate": "chat",
    "/api/llm/gateway/generate": "chat",
}
"""Paths of which copies are made, with the operation that serves them here. Vectors are no text, so embeddings are left out."""

LONGEST_TEXT = 16 * 1024
"""Characters of a request or an answer that are kept."""
_COMPARED_TEXT = 4000
"""Characters that are compared."""
_MOST_WORK = 20_000
"""Pairs of equal words in what is compared: each may be looked at once for every run of words that both texts share."""

_BYTES_PER_TOKEN = 4
_OF_STREAMS = ("stream", "stream_options")
_OF_BACKOFFICE = ("temperature", "max_tokens")
_OF_GATEWAY_CONFIG = ("model_identifier", "system_prompt", "timeout_seconds", "provider_id")
_RENAMED = {"stop_sequences": "stop"}


class Unreadable(Exception):
    """The body is not one of the shapes that can be copied."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as this side can be asked it, whole instead of streamed. `size` is in bytes."""

    operation: str
    body: dict[str, Any]
    provider_id: str | None
    size: int

    @property
    def model(self) -> str:
        return str(self.body["model"])

    @property
    def text(self) -> str:
        if self.operation == "completions":
            return _plain(self.body.get("prompt"))
        turns = self.body.get("messages")
        if not isinstance(turns, list):
            return ""
        return "\n".join(f"{turn.get('role', '')}: {_plain(turn.get('content'))}" for turn in turns if _is_object(turn))

    @property
    def most_output_tokens(self) -> int | None:
        """The bound that the request sets itself, for one of its choices."""
        for name in ("max_completion_tokens", "max_tokens"):
            limit = self.body.get(name)
            if isinstance(limit, int) and not isinstance(limit, bool) and limit > 0:
                return limit
        return None

    @property
    def choices(self) -> int:
        """How many answers are asked for, and paid."""
        told = [self.body.get(name) for name in ("n", "best_of")]
        return max([1, *(count for count in told if isinstance(count, int))])


@dataclass(frozen=True, slots=True)
class Said:
    """An answer's text and tokens. `usage.estimated` when nobody counted."""

    text: str
    usage: Usage


def asked(path: str, raw: bytes) -> Asked:
    """Raises `Unreadable`."""
    operation = OPERATIONS.get(path)
    told = _object(raw)
    if operation is None or told is None:
        raise Unreadable("not a generating request")
    if path == "/generate":
        body, provider_id = _of_llm_request(told)
    elif path == "/api/llm/gateway/generate":
        body, provider_id = _of_backoffice(told)
    else:
        body = {name: value for name, value in told.items() if name not in _OF_STREAMS}
        provider_id = body.get("provider_id")
    if not isinstance(body.get("model"), str) or not body["model"]:
        raise Unreadable("no model is named")
    return Asked(operation, body, provider_id if isinstance(provider_id, str) else None, len(raw))


def said(raw: bytes, *, stream: bool) -> Said:
    """The text of a reply's body, event streams put together. Raises `Unreadable`."""
    text = _streamed(raw) if stream else _whole(raw)
    told = told_usage(raw, whole=not stream)
    usage = read_usage(told) if isinstance(told, bytes) else told
    return Said(text, usage or Usage(0, len(text.encode()) // _BYTES_PER_TOKEN, estimated=True))


def text_of(completion: dict[str, Any]) -> str:
    """The text of a whole chat or text completion, of an answer of Ollama's, or of one of the source systems."""
    choices = completion.get("choices")
    if isinstance(choices, list):
        return "\n".join(_choice(choice) for choice in choices if _is_object(choice))
    if "done" in completion:
        return _choice(_of_ollama(completion))
    for name in ("generated_content", "content"):
        if name in completion:
            return _plain(completion[name])
    raise Unreadable("the answer holds no text")


def similarity(one: str, other: str) -> float:
    """0 to 1, by the words that both hold in the same order; of long or very repetitive texts by their beginning."""
    if one == other:
        return 1.0
    words, others = one[:_COMPARED_TEXT].split(), other[:_COMPARED_TEXT].split()
    while _work(words, others) > _MOST_WORK:
        words, others = words[: len(words) // 2], others[: len(others) // 2]
    return round(SequenceMatcher(None, words, others, autojunk=False).ratio(), 4)


def _work(words: list[str], others: list[str]) -> int:
    counts, other_counts = Counter(words), Counter(others)
    return sum(count * other_counts[word] for word, count in counts.items())


def cut(text: str) -> str:
    """As much as is kept; no database holds a NUL or half a surrogate pair."""
    return text[:LONGEST_TEXT].replace("\0", "").encode("utf-8", "replace").decode()


# The protocols --------------------------------------------------------------------------------------------------------


def _of_llm_request(told: dict[str, Any]) -> tuple[dict[str, Any], Any]:
    config = told.get("config")
    if not _is_object(config):
        raise Unreadable("no config")
    context = told.get("initial_context")
    history = context.get("conversation_history") if _is_object(context) else None
    body = {
        _RENAMED.get(name, name): value
        for name, value in config.items()
        if value is not None and name not in (*_OF_GATEWAY_CONFIG, *_OF_STREAMS)
    }
    body["model"] = config.get("model_identifier")
    body["messages"] = [
        *_system(config.get("system_prompt")),
        *(_turn(turn) for turn in history or () if _is_object(turn)),
        {"role": "user", "content": _content(told.get("prompt_content"))},
    ]
    if told.get("tools"):
        body["tools"] = told["tools"]
    return body, config.get("provider_id")


def _of_backoffice(told: dict[str, Any]) -> tuple[dict[str, Any], Any]:
    body = {name: told[name] for name in _OF_BACKOFFICE if told.get(name) is not None}
    body["model"] = told.get("model")
    body["messages"] = [*_system(told.get("system_prompt")), {"role": "user", "content": _plain(told.get("prompt"))}]
    return body, told.get("provider_id")


def _system(prompt: Any) -> list[dict[str, Any]]:
    return [{"role": "system", "content": prompt}] if isinstance(prompt, str) and prompt else []


def _turn(turn: dict[str, Any]) -> dict[str, Any]:
    role = {"ai": "assistant", "model": "assistant", "human": "user"}.get(str(turn.get("role")), turn.get("role"))
    return {"role": role or "user", "content": turn.get("content", turn.get("text_content", ""))}


def _content(prompt: Any) -> Any:
    if not isinstance(prompt, list):
        return _plain(prompt)
    return [
        {"type": "text", "text": item["text_content"]} if _is_object(item) and "text_content" in item else item
        for item in prompt
    ]


def _whole(raw: bytes) -> str:
    told = _object(raw)
    if told is None:
        raise Unreadable("the answer is not a JSON object")
    return text_of(told)


def _streamed(raw: bytes) -> str:
    pieces: dict[int, list[str]] = {}
    for line in raw.splitlines():
        event = _object(line[5:]) if line.startswith(b"data:") else None
        if event is None:
            continue
        if event.get("error"):
            raise Unreadable("the stream ended with an error")
        for choice in event.get("choices") or ():
            if _is_object(choice):
                pieces.setdefault(choice.get("index") or 0, []).append(_choice(choice))
        if "done" in event:
            pieces.setdefault(0, []).append(_choice(_of_ollama(event)))
    if not pieces:
        raise Unreadable("the stream holds no answer")
    return "\n".join("".join(pieces[index]) for index in sorted(pieces))


def _of_ollama(told: dict[str, Any]) -> dict[str, Any]:
    """An answer in Ollama's own protocol, or a line of one, as a choice."""
    return {"message": told.get("message"), "text": told.get("response")}


def _choice(choice: dict[str, Any]) -> str:
    """A choice's text, and its tool calls where it makes some."""
    message = choice.get("message") or choice.get("delta") or {}
    if not _is_object(message):
        raise Unreadable("a choice without a message")
    text = _plain(message.get("content")) or _plain(choice.get("text"))
    calls = [call.get("function") or {} for call in message.get("tool_calls") or () if _is_object(call)]
    return text + "".join(
        f"{call.get('name') or ''}{_plain(call.get('arguments'))}" for call in calls if _is_object(call)
    )


def _plain(content: Any) -> str:
    """Content as text: items that are none, such as images, by their kind."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return " ".join(_item(item) for item in content)
    return json.dumps(content, ensure_ascii=False)


def _item(item: Any) -> str:
    if not _is_object(item):
        return str(item)
    text = item.get("text", item.get("text_content"))
    return text if isinstance(text, str) else f"[{item.get('type', 'item')}]"


def _object(raw: bytes) -> dict[str, Any] | None:
    try:
        told = orjson.loads(raw)
    except (orjson.JSONDecodeError, RecursionError):
        return None
    return told if isinstance(told, dict) else None


def _is_object(value: Any) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict)
