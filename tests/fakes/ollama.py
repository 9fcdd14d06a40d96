"""Ollama's own API, as `FakeUpstream` answers it below `/api`: https://github.com/ollama/ollama/blob/main/docs/api.md.

Chats and prompts are echoed, with `tools` the first one is called, with `format` JSON is answered, with `think` something is
thought before. Durations are whole numbers of nanoseconds that no clock would give, so that a test can tell them again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

CREATED_AT = "2026-01-02T03:04:05.678901234Z"
DURATIONS = {"total_duration": 5043500667, "load_duration": 5025959}
PROMPT_EVAL_DURATION, EVAL_DURATION = 325953000, 4709213000
DETAILS = {
    "parent_model": "",
    "format": "gguf",
    "family": "llama",
    "families": ["llama"],
    "parameter_size": "3.2B",
    "quantization_level": "Q4_K_M",
}
CONTEXT_LENGTH = 131072

Reply = tuple[int, Any]
"""Status, and an object or the lines of a stream."""


def answer(method: str, path: str, asked: Mapping[str, Any], models: Sequence[str]) -> Reply | None:
    """None for a path that is not Ollama's."""
    if (method, path) == ("GET", "/api/tags"):
        return 200, {"models": [listed(name) for name in models]}
    if (method, path) == ("GET", "/api/version"):
        return 200, {"version": "0.14.3"}
    if (method, path) == ("GET", "/api/ps"):
        return 200, {"models": []}
    found = _ANSWERS.get(path) if method == "POST" else None
    if found is None:
        return None
    model = str(asked.get("model") or "")
    if model not in models and f"{model}:latest" not in models:
        return 404, {"error": f"model '{model}' not found"}
    return found(asked)


def listed(name: str) -> dict[str, Any]:
    digest = hashlib.sha256(name.encode()).hexdigest()
    told = {"name": name, "model": name, "modified_at": CREATED_AT, "size": 2019393189, "digest": digest}
    return {**told, "details": DETAILS}


def _show(asked: Mapping[str, Any]) -> Reply:
    embeds = "embed" in asked["model"]
    info = {"general.architecture": "llama", "llama.context_length": CONTEXT_LENGTH, "llama.embedding_length": 8}
    told = {"details": DETAILS, "model_info": info, "modified_at": CREATED_AT, "template": "{{ .Prompt }}"}
    return 200, {**told, "capabilities": ["embedding"] if embeds else ["completion", "tools"]}


def _chat(asked: Mapping[str, Any]) -> Reply:
    messages = asked.get("messages") or []
    if not messages:
        return 200, _line(asked, _message(), _loads(asked))
    tokens = sum(len((one.get("content") or "").split()) for one in messages)
    if asked.get("tools"):
        tool = asked["tools"][0]["function"]
        properties = (tool.get("parameters") or {}).get("properties") or {}
        call = {
            "id": "call_1",
            "function": {"index": 0, "name": tool["name"], "arguments": dict.fromkeys(properties, "text")},
        }
        pieces: list[dict[str, Any]] = [_message(tool_calls=[call])]
        return _told(asked, pieces, _message(), {"done_reason": "stop"}, tokens, 5)
    text = str(messages[-1].get("content") or "")
    words, reason = _words(text, asked)
    pieces = [_message(thinking=f"about {text}")] if asked.get("think") else []
    pieces += [_with_logprob(_message(content=word), word, asked) for word in words]
    return _told(asked, pieces, _message(), {"done_reason": reason}, tokens, len(words))


def _generate(asked: Mapping[str, Any]) -> Reply:
    prompt = str(asked.get("prompt") or "")
    if not prompt:
        return 200, _line(asked, {"response": ""}, _loads(asked))
    words, reason = _words(prompt, asked)
    pieces = [{"response": "", "thinking": f"about {prompt}"}] if asked.get("think") else []
    pieces += [{"response": word} for word in words]
    last = {"done_reason": reason} | ({} if asked.get("raw") else {"context": [1, 2, 3]})
    return _told(asked, pieces, {"response": ""}, last, len(prompt.split()), len(words))


def _embed(asked: Mapping[str, Any]) -> Reply:
    texts = asked.get("input") or []
    texts = [texts] if isinstance(texts, str) else texts
    counts = {"prompt_eval_count": sum(len(text.split()) for text in texts)}
    vectors = [_vector(text)[: asked.get("dimensions") or None] for text in texts]
    return 200, {"model": asked["model"], "embeddings": vectors, **DURATIONS, **counts}


def _embeddings(asked: Mapping[str, Any]) -> Reply:
    return 200, {"embedding": _vector(asked["prompt"]) if asked.get("prompt") else []}


_ANSWERS: dict[str, Callable[[Mapping[str, Any]], Reply]] = {
    "/api/chat": _chat,
    "/api/generate": _generate,
    "/api/embed": _embed,
    "/api/embeddings": _embeddings,
    "/api/show": _show,
}


def _told(
    asked: Mapping[str, Any],
    pieces: Sequence[Mapping[str, Any]],
    empty: Mapping[str, Any],
    last: Mapping[str, Any],
    prompt_tokens: int,
    tokens: int,
) -> Reply:
    prompt = {"prompt_eval_count": prompt_tokens, "prompt_eval_duration": PROMPT_EVAL_DURATION}
    spent = {**DURATIONS, **prompt, "eval_count": tokens, "eval_duration": EVAL_DURATION}
    end = {"done": True, **last, **spent}
    if asked.get("stream", True):
        return 200, [*(_line(asked, piece, {"done": False}) for piece in pieces), _line(asked, empty, end)]
    return 200, _line(asked, _joined(pieces, empty), end)


def _joined(pieces: Sequence[Mapping[str, Any]], empty: Mapping[str, Any]) -> dict[str, Any]:
    if "response" in empty:
        joined: dict[str, Any] = {"response": "".join(piece["response"] for piece in pieces)}
        thought = "".join(piece.get("thinking", "") for piece in pieces)
        return joined | ({"thinking": thought} if thought else {})
    said = [piece["message"] for piece in pieces]
    message = {"role": "assistant", "content": "".join(one["content"] for one in said)}
    for name in ("thinking", "tool_calls"):
        if found := [one[name] for one in said if name in one]:
            message[name] = found[0]
    probabilities = [one for piece in pieces for one in piece.get("logprobs", ())]
    return {"message": message, **({"logprobs": probabilities} if probabilities else {})}


def _line(asked: Mapping[str, Any], said: Mapping[str, Any], rest: Mapping[str, Any]) -> dict[str, Any]:
    return {"model": asked["model"], "created_at": CREATED_AT, **said, **rest}


def _message(content: str = "", **more: Any) -> dict[str, Any]:
    return {"message": {"role": "assistant", "content": content, **more}}


def _with_logprob(piece: dict[str, Any], word: str, asked: Mapping[str, Any]) -> dict[str, Any]:
    return {**piece, "logprobs": [{"token": word, "logprob": -0.25}]} if asked.get("logprobs") else piece


def _loads(asked: Mapping[str, Any]) -> dict[str, Any]:
    return {"done": True, "done_reason": "unload" if asked.get("keep_alive") == 0 else "load"}


def _words(text: str, asked: Mapping[str, Any]) -> tuple[list[str], str]:
    options = asked.get("options") or {}
    if asked.get("format") == "json":
        said = json.dumps({"echo": text})
    elif asked.get("format"):
        said = json.dumps(dict.fromkeys(asked["format"].get("properties") or {}, "text"))
    else:
        said = f"echo: {text}"
    for stop in options.get("stop") or ():
        said = said.partition(stop)[0]
    words = list(_cut(said))
    most = options.get("num_predict") or 0
    return (words[:most], "length") if 0 < most < len(words) else (words, "stop")


def _cut(text: str) -> Iterator[str]:
    words = text.split(" ")
    yield from (f"{word} " for word in words[:-1])
    yield words[-1]


def _vector(text: str) -> list[float]:
    digest = hashlib.sha256(text.encode()).digest()
    return [(byte - 128) / 256 for byte in digest[:8]]
