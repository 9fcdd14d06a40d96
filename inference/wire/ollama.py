"""Ollama's API, said in OpenAI's and back: questions, whole answers and errors. No I/O; `ollama_events` has the streams.

What only Ollama can say (a template, the tokens of an earlier answer) is not dropped: `Question.native` holds the client's own
words for an upstream that speaks them, and the error that stands where there is none. `keep_alive` and most options reach such an
upstream alone, and some that are hints, such as `top_k`, engines on one's own machines too; an answer without them is no wrong one.
Source: https://github.com/ollama/ollama/blob/main/docs/api.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
import orjson

from inference.errors import GatewayError, InvalidRequest
from inference.wire import bodies
from inference.wire.bodies import plain
from inference.wire.native import OLLAMA_CHAT, OLLAMA_EMBED, OLLAMA_EMBEDDINGS, OLLAMA_GENERATE, Native
from inference.wire.openai import CHAT, COMPLETIONS, EMBEDDINGS, GATEWAY_FIELDS, Operation

LATEST = ":latest"
"""The tag of a model that is named without one."""
MOST_LOGPROBS = 20

_SAME_OPTIONS = ("temperature", "top_p", "seed", "stop", "frequency_penalty", "presence_penalty")
_LOCAL_OPTIONS = ("top_k", "min_p", "repeat_penalty")
_EFFORTS = {"low": "low", "medium": "medium", "high": "high", "max": "high"}
_ROLES = frozenset({"system", "user", "assistant", "tool"})
_OF_BOTH = frozenset({"model", "stream", "options", "format", "keep_alive", "think", "logprobs", "top_logprobs"})
_LEFT_OUT = frozenset({"truncate", "shift", "_debug_render_only", "width", "height", "steps"})
_READ_OF_CHAT = _OF_BOTH | _LEFT_OUT | {"messages", "tools"}
_READ_OF_GENERATE = _OF_BOTH | _LEFT_OUT | {"prompt", "suffix", "system", "template", "context", "raw", "images"}
_READ_OF_EMBED = frozenset({"model", "input", "prompt", "truncate", "dimensions", "options", "keep_alive"})
_PICTURES = {"iVBORw0KGgo": "png", "/9j/": "jpeg", "R0lGOD": "gif", "UklGR": "webp", "Qk": "bmp"}
"""How their first bytes read in base64."""
_ZERO = re.compile(r"[+-]?0+(?:\.0*)?(?:ns|us|µs|ms|s|m|h)?")

_members = msgspec.json.Decoder(dict[str, msgspec.Raw])


@dataclass(frozen=True, slots=True)
class Question:
    """What a client asks, in both protocols."""

    operation: Operation
    body: bytes
    """OpenAI's."""
    native: Native
    model: str
    """As the client names it."""
    stream: bool
    thinks: bool
    """Whether the client is shown what the model thought."""
    loads: str = ""
    """`load` or `unload` where nothing is asked: Ollama then gets the model into memory, or out of it."""


# Questions ---------------------------------------------------------------------------------------------------------


def chat(body: bytes) -> Question:
    """Of `/api/chat`. Raises `InvalidRequest`, naming the member at fault."""
    told = bodies.read(body)
    messages = _list(told, "messages")
    said = _kept(told, _READ_OF_CHAT) | _common(told)
    said["messages"] = list(_messages(messages))
    if tools := _list(told, "tools"):
        said["tools"] = tools
    answers = (one for one in messages if str(one["role"]).lower() == "assistant")
    thoughts = tuple(str(one.get("thinking") or "") for one in answers)
    return _question(CHAT, told, said, OLLAMA_CHAT, body, empty=not messages, thoughts=thoughts)


def generate(body: bytes) -> Question:
    """Of `/api/generate`. A prompt that takes no template, or a gap to fill, is a completion; every other one is a chat."""
    told = bodies.read(body)
    prompt, suffix, system = _text(told, "prompt"), _text(told, "suffix"), _text(told, "system")
    images = _list(told, "images")
    raw = _flag(told, "raw", default=False)
    if raw and (_text(told, "template") or system or told.get("context")):
        raise InvalidRequest("raw mode does not support template, system, or context", param="raw")
    said = _kept(told, _READ_OF_GENERATE) | _common(told)
    untold = _untold(told, raw_or_gap=raw or bool(suffix))
    if raw or suffix:
        for name in ("response_format", "reasoning_effort", "logprobs", "top_logprobs"):
            said.pop(name, None)
        said["prompt"] = prompt
        if suffix:
            said["suffix"] = suffix
        return _question(COMPLETIONS, told, said, OLLAMA_GENERATE, body, empty=not prompt, untold=untold)
    said["messages"] = [{"role": "system", "content": system}] if system else []
    said["messages"].append({"role": "user", "content": _content(prompt, images, "images")})
    return _question(CHAT, told, said, OLLAMA_GENERATE, body, empty=not prompt, untold=untold)


def embed(body: bytes) -> Question:
    """Of `/api/embed`."""
    told = bodies.read(body)
    texts = told.get("input")
    single = isinstance(texts, str)
    if texts is not None and not single and not (isinstance(texts, list) and all(isinstance(t, str) for t in texts)):
        raise InvalidRequest("invalid input type", param="input")
    said = _kept(told, _READ_OF_EMBED) | {"input": texts or "-"}
    if dimensions := told.get("dimensions"):
        said["dimensions"] = dimensions
    return _question(EMBEDDINGS, {**told, "stream": False}, said, OLLAMA_EMBED, body, empty=not texts)


def embeddings(body: bytes) -> Question:
    """Of `/api/embeddings`, which came before `/api/embed` and takes one text."""
    told = bodies.read(body)
    prompt = _text(told, "prompt")
    said = _kept(told, _READ_OF_EMBED) | {"input": prompt or "-"}
    return _question(EMBEDDINGS, {**told, "stream": False}, said, OLLAMA_EMBEDDINGS, body, empty=not prompt)


def model_named(body: bytes) -> str:
    """The model that `/api/show` asks for."""
    told = bodies.read(body)
    name = _text(told, "model") or _text(told, "name")
    if not name:
        raise InvalidRequest("model is required", param="model")
    return name


def _question(
    operation: Operation,
    told: Mapping[str, Any],
    said: dict[str, Any],
    api: str,
    body: bytes,
    *,
    empty: bool,
    untold: GatewayError | None = None,
    thoughts: tuple[str, ...] = (),
) -> Question:
    model = _text(told, "model")
    if not model:
        raise InvalidRequest("model is required", param="model")
    said["model"] = model
    stream = _flag(told, "stream", default=True)
    if stream and operation.streams:
        said["stream"], said["stream_options"] = True, {"include_usage": True}
    loads = ""
    if empty:
        loads = "unload" if _is_zero(told.get("keep_alive")) else "load"
    own = {name: raw for name, raw in _members.decode(body).items() if not _is_the_gateways(name)}
    hints = _hints(told) if operation.streams else {}
    asked_natively = Native(api, own, untold, hints=hints, thoughts=thoughts)
    return Question(
        operation, bodies.written(said), asked_natively, model, stream, told.get("think") is not False, loads
    )


def _hints(told: Mapping[str, Any]) -> dict[str, msgspec.Raw]:
    """What llama.cpp, vLLM and their like read beside OpenAI's members."""
    options = told.get("options") or {}
    said: dict[str, Any] = {
        name: value for name in _LOCAL_OPTIONS if isinstance(value := options.get(name), int | float) and value > 0
    }
    if isinstance(think := told.get("think"), bool):
        said["chat_template_kwargs"] = {"enable_thinking": think}
    return {name: msgspec.Raw(orjson.dumps(value)) for name, value in said.items()}


def _untold(told: Mapping[str, Any], *, raw_or_gap: bool) -> GatewayError | None:
    """The member that only Ollama itself can honour."""
    alone = ["template", "context"]
    if raw_or_gap:  # a completion has neither pictures nor a shape
        alone += ["images", "format"]
    for name in alone:
        if told.get(name):
            return InvalidRequest(f"{name}: no model that may answer here is one of Ollama's own", param=name)
    return None


def _kept(told: Mapping[str, Any], read: frozenset[str]) -> dict[str, Any]:
    """What is not Ollama's goes on as it came: the gateway's own members, and what neither knows."""
    return {name: value for name, value in told.items() if name not in read}


def _common(told: Mapping[str, Any]) -> dict[str, Any]:
    """Options, format, thinking and log probabilities in OpenAI's words."""
    options = told.get("options") or {}
    if not isinstance(options, dict):
        raise InvalidRequest("options: an object is needed", param="options")
    said = {name: options[name] for name in _SAME_OPTIONS if options.get(name) is not None}
    most = options.get("num_predict")
    if isinstance(most, int | float) and most > 0:
        said["max_tokens"] = int(most)
    if (shape := told.get("format")) not in (None, ""):
        said["response_format"] = _response_format(shape)
    think = told.get("think")
    if isinstance(think, str):
        if think not in _EFFORTS:
            raise InvalidRequest(
                f"think: true, false or one of {', '.join(_EFFORTS)} is needed, not {think[:40]!r}", param="think"
            )
        said["reasoning_effort"] = _EFFORTS[think]
    elif think is not None and not isinstance(think, bool):
        raise InvalidRequest("think: true, false or a level is needed", param="think")
    if _flag(told, "logprobs", default=False):
        said["logprobs"] = True
        if most_logprobs := told.get("top_logprobs"):
            if not isinstance(most_logprobs, int) or not 0 <= most_logprobs <= MOST_LOGPROBS:
                raise InvalidRequest(f"top_logprobs must be between 0 and {MOST_LOGPROBS}", param="top_logprobs")
            said["top_logprobs"] = most_logprobs
    return said


def _response_format(shape: Any) -> dict[str, Any]:
    if shape == "json":
        return {"type": "json_object"}
    if isinstance(shape, dict):
        return {"type": "json_schema", "json_schema": {"name": "response", "schema": shape}}
    raise InvalidRequest("format: 'json' or a JSON schema is needed", param="format")


def _messages(told: Sequence[Any]) -> Iterator[dict[str, Any]]:
    """Ollama knows calls by their place and results by the tool's name; OpenAI needs an id for both."""
    pending: list[tuple[str, str]] = []
    calls = 0
    for place, message in enumerate(told):
        where = f"messages[{place}]"
        role = str(message.get("role", "")).lower() if isinstance(message, dict) else ""
        if role not in _ROLES:
            raise InvalidRequest(f"{where}.role: one of {', '.join(sorted(_ROLES))} is needed", param=f"{where}.role")
        text = _text(message, "content", where)
        if role == "tool":
            yield {"role": role, "tool_call_id": _answered(message, pending), "content": text}
            continue
        said: dict[str, Any] = {"role": role, "content": _content(text, _list(message, "images", where), where)}
        if made := _list(message, "tool_calls", where):
            pending = [_called(call, calls + number, where) for number, call in enumerate(made)]
            said["tool_calls"] = [_call(call, known[0]) for call, known in zip(made, pending, strict=True)]
            said["content"] = text or None
            calls += len(made)
        yield said


def _content(text: str, images: Sequence[Any], where: str) -> str | list[dict[str, Any]]:
    if not images:
        return text
    parts: list[dict[str, Any]] = [{"type": "text", "text": text}] if text else []
    for image in images:
        if not isinstance(image, str):
            raise InvalidRequest(f"{where}: pictures are base64 texts", param=where)
        parts.append({"type": "image_url", "image_url": {"url": _data_url(image)}})
    return parts


def _data_url(image: str) -> str:
    if image.startswith("data:"):
        return image
    kind = next((kind for begin, kind in _PICTURES.items() if image.startswith(begin)), "png")
    return f"data:image/{kind};base64,{image}"


def _called(call: Any, number: int, where: str) -> tuple[str, str]:
    """Id and name of a call that the assistant made."""
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise InvalidRequest(f"{where}.tool_calls: each needs a function with a name", param=f"{where}.tool_calls")
    return str(call.get("id") or f"call_{number}"), function["name"]


def _call(call: dict[str, Any], call_id: str) -> dict[str, Any]:
    function = call["function"]
    arguments = function.get("arguments")
    written = arguments if isinstance(arguments, str) else orjson.dumps(arguments or {}).decode()
    return {"id": call_id, "type": "function", "function": {"name": function["name"], "arguments": written}}


def _answered(message: Mapping[str, Any], pending: list[tuple[str, str]]) -> str:
    """The id of the call that a tool's message answers: its own, else the first open one of that tool, else the first."""
    named, wanted = message.get("tool_name"), message.get("tool_call_id")
    found = next((known for known in pending if known[0] == wanted), None)
    found = found or next((known for known in pending if known[1] == named), None) or next(iter(pending), None)
    if found is None:
        return str(wanted or "call_0")
    pending.remove(found)
    return found[0]


def _text(told: Mapping[str, Any], name: str, where: str = "") -> str:
    return _typed(told, name, where, str, "a text") or ""


def _list(told: Mapping[str, Any], name: str, where: str = "") -> list[Any]:
    return _typed(told, name, where, list, "a list") or []


def _flag(told: Mapping[str, Any], name: str, *, default: bool) -> bool:
    value: bool | None = _typed(told, name, "", bool, "true or false")
    return default if value is None else value


def _typed(told: Mapping[str, Any], name: str, where: str, kind: type, needed: str) -> Any:
    value = told.get(name)
    if value is not None and not isinstance(value, kind):
        path = f"{where}.{name}" if where else name
        raise InvalidRequest(f"{path}: {needed} is needed", param=path)
    return value


def _is_zero(keep_alive: Any) -> bool:
    """Of a time in seconds or in Go's words, such as `0` and `0m`."""
    if isinstance(keep_alive, str):
        return _ZERO.fullmatch(keep_alive.strip()) is not None
    return keep_alive == 0 and not isinstance(keep_alive, bool) and keep_alive is not None


def _is_the_gateways(name: str) -> bool:
    return name in GATEWAY_FIELDS or name.startswith("gateway_")


# Answers -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Spent:
    """Seconds: what the whole answer took, and of it reading the prompt and writing the answer, as far as that is known."""

    total: float
    prompt: float = 0.0
    answer: float = 0.0


def moment(epoch_seconds: float) -> str:
    """RFC 3339, in UTC."""
    return datetime.fromtimestamp(epoch_seconds, UTC).isoformat().replace("+00:00", "Z")


def spent(told: Mapping[str, Any], total: float, prompt: float, answer: float) -> Spent:
    """The engine's own `timings`, which llama-server tells in milliseconds; else what the gateway measured."""
    timings = told.get("timings")
    if isinstance(timings, dict):
        read, written = timings.get("prompt_ms"), timings.get("predicted_ms")
        if isinstance(read, int | float) and isinstance(written, int | float):
            return Spent(total, read / 1000, written / 1000)
    return Spent(total, prompt, answer)


def last_members(reason: str | None, usage: Any, took: Spent) -> dict[str, Any]:
    """What the last object of an answer tells. Durations are in nanoseconds; how long a model took to load nobody tells us."""
    usage = usage if isinstance(usage, dict) else {}
    return {
        "done": True,
        "done_reason": _done_reason(reason),
        "total_duration": _nanoseconds(took.total),
        "load_duration": 0,
        "prompt_eval_count": usage.get("prompt_tokens") or 0,
        "prompt_eval_duration": _nanoseconds(took.prompt),
        "eval_count": usage.get("completion_tokens") or 0,
        "eval_duration": _nanoseconds(took.answer),
    }


def loaded(question: Question, at: float) -> bytes:
    """The answer to a question that asks nothing."""
    if question.native.api == OLLAMA_EMBEDDINGS:
        return orjson.dumps({"embedding": []})
    if question.native.api == OLLAMA_EMBED:
        return orjson.dumps({"model": question.model, "embeddings": []})
    said = {"message": {"role": "assistant", "content": ""}} if question.native.api == OLLAMA_CHAT else {"response": ""}
    told = {"model": question.model, "created_at": moment(at), **said, "done": True, "done_reason": question.loads}
    return orjson.dumps(told)


def whole_answer(completion: bytes, question: Question, at: float, seconds: float) -> bytes:
    """The one object that a whole chat completion or completion says. All the time is the answer's: how much of it went into
    reading the prompt, such an answer does not show."""
    told = orjson.loads(completion)
    choice = (told.get("choices") or [{}])[0]
    said = plain(choice.get("message") or {"content": choice.get("text")})
    text = said.get("content") or said.get("refusal") or ""
    thought = (said.get("reasoning_content") or said.get("reasoning") or "") if question.thinks else ""
    answer: dict[str, Any] = {"model": question.model, "created_at": moment(at)}
    answer |= spoken(question, text, thought, [tool_call(call) for call in said.get("tool_calls") or ()])
    answer |= last_members(choice.get("finish_reason"), told.get("usage"), spent(told, seconds, 0.0, seconds))
    if probabilities := logprobs_of(choice):
        answer["logprobs"] = probabilities
    if "x_gateway" in told:
        answer["x_gateway"] = told["x_gateway"]
    return orjson.dumps(answer)


def spoken(question: Question, text: str, thought: str = "", calls: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
    """A piece of an answer where its path has it: in a message, or at the top."""
    if question.native.api == OLLAMA_GENERATE:
        return {"response": text, **({"thinking": thought} if thought else {})}
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if thought:
        message["thinking"] = thought
    if calls:
        message["tool_calls"] = list(calls)
    return {"message": message}


def tool_call(call: Mapping[str, Any]) -> dict[str, Any]:
    """A call whose arguments are an object; what a model wrote that is none stands as its only text."""
    function = call.get("function") or {}
    written = function.get("arguments") or "{}"
    try:
        arguments = orjson.loads(written)
    except orjson.JSONDecodeError:
        arguments = None
    if not isinstance(arguments, dict):
        arguments = {"arguments": written}
    said: dict[str, Any] = {"function": {"name": function.get("name") or "", "arguments": arguments}}
    return {"id": call["id"], **said} if call.get("id") else said


def logprobs_of(choice: Mapping[str, Any]) -> list[Any]:
    """OpenAI's members of a token are Ollama's."""
    told = choice.get("logprobs")
    content = told.get("content") if isinstance(told, dict) else None
    return content if isinstance(content, list) else []


def vectors(answer: bytes, question: Question, seconds: float) -> bytes:
    """The embeddings that OpenAI's list holds."""
    told = orjson.loads(answer)
    ordered = sorted(told.get("data") or (), key=lambda one: one.get("index") or 0)
    found = [one.get("embedding") for one in ordered]
    if question.native.api == OLLAMA_EMBEDDINGS:
        return orjson.dumps({"embedding": found[0] if found else []})
    usage = told.get("usage") or {}
    said: dict[str, Any] = {
        "model": question.model,
        "embeddings": found,
        "total_duration": _nanoseconds(seconds),
        "load_duration": 0,
        "prompt_eval_count": usage.get("prompt_tokens") or 0,
    }
    if "x_gateway" in told:
        said["x_gateway"] = told["x_gateway"]
    return orjson.dumps(said)


def renamed(answer: bytes, model: msgspec.Raw) -> bytes:
    """An answer of Ollama's own, or a line of one, under the name by which the client asked; that is JSON already."""
    told = _members.decode(answer)
    if "model" in told:
        told["model"] = model
    return msgspec.json.encode(told)


def _done_reason(reason: str | None) -> str:
    return "stop" if reason in (None, "tool_calls", "function_call") else reason


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1_000_000_000)


# Errors ------------------------------------------------------------------------------------------------------------


def error_of(told: Any) -> dict[str, Any]:
    """OpenAI's error envelope as a text, with our code and parameter beside it."""
    error = told.get("error") if isinstance(told, dict) else None
    if not isinstance(error, dict):
        return {"error": str(error or "the gateway failed")}
    said = {"error": error.get("message") or ""}
    return said | {name: error[name] for name in ("code", "param") if error.get(name) is not None}


def error_body(body: bytes) -> bytes:
    try:
        told = orjson.loads(body)
    except orjson.JSONDecodeError:
        told = None
    return orjson.dumps(error_of(told))
