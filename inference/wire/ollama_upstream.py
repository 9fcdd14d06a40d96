"""What an upstream of Ollama's protocol is asked, and what it says: OpenAI's requests in its words. No I/O.

What Ollama's own OpenAI layer leaves unread (`user`, `logit_bias`, `parallel_tool_calls`) is left out here as well; what would
make the answer another one (several choices, pictures that would have to be fetched) is refused by name.
Source: https://github.com/ollama/ollama/blob/main/docs/api.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from inference.errors import InvalidRequest

if TYPE_CHECKING:
    from inference.backends.base import UpstreamCall

_RUNNER = ("num_ctx", "num_batch", "num_gpu", "main_gpu", "use_mmap", "num_thread")
_SAMPLING = ("top_k", "min_p", "typical_p", "repeat_last_n", "repeat_penalty", "num_keep", "num_predict")
_SHARED = ("temperature", "top_p", "seed", "frequency_penalty", "presence_penalty")
OPTIONS = (*_SHARED, *_SAMPLING, *_RUNNER)
"""Those that may stand at the top of a body."""
_OWN = ("keep_alive", "think", "format", "truncate", "shift")
_OWN_OF_GENERATE = (*_OWN, "raw", "template", "system", "context", "suffix")
_EFFORTS: dict[str, bool | str] = {"none": False, "minimal": "low", "xhigh": "max"}
"""Of OpenAI's words those that Ollama has others for."""

_encode = msgspec.json.Encoder().encode


# What is asked -----------------------------------------------------------------------------------------------------


def body_of(call: UpstreamCall, connection: Mapping[str, Any]) -> dict[str, Any]:
    """Of `/api/chat`, or of `/api/generate` for a completion. Raises `InvalidRequest`, naming the member at fault."""
    told = _members(call)
    for name in ("n", "best_of"):
        if told.get(name) not in (None, 1):
            raise InvalidRequest(f"'{name}': this model gives one answer at a time.", param=name)
    generates = call.operation == "completions"
    said: dict[str, Any] = {"model": call.model.upstream_model_id, "stream": call.stream}
    said |= {name: told[name] for name in (_OWN_OF_GENERATE if generates else _OWN) if told.get(name) is not None}
    if generates:
        said["prompt"] = _prompt(told.get("prompt"))
    else:
        said["messages"] = list(_messages(told.get("messages")))
        if tools := _tools(told):
            said["tools"] = tools
        said |= _probabilities(told)
    if "format" not in said and (shape := _format(told.get("response_format"))) is not None:
        said["format"] = shape
    if "think" not in said and (effort := _effort(told)) is not None:
        said["think"] = _EFFORTS.get(effort, effort)
    return _with_defaults(said, _options(told), call, connection)


def embed_body(call: UpstreamCall, connection: Mapping[str, Any]) -> dict[str, Any]:
    """Of `/api/embed`."""
    told = _members(call)
    texts = told.get("input")
    if not isinstance(texts, str) and not (isinstance(texts, list) and all(isinstance(one, str) for one in texts)):
        raise InvalidRequest("'input': this model embeds a text or a list of texts, not tokens.", param="input")
    said = {name: told[name] for name in ("keep_alive", "truncate", "dimensions") if told.get(name) is not None}
    said |= {"model": call.model.upstream_model_id, "input": texts}
    return _with_defaults(said, _options(told), call, connection, thinks=False)


def native_body(
    fields: Mapping[str, msgspec.Raw], call: UpstreamCall, connection: Mapping[str, Any], *, embeds: bool
) -> dict[str, Any]:
    """The client's own words, with the upstream's name of the model and what the registry says where the client says nothing."""
    said: dict[str, Any] = {name: raw for name, raw in fields.items() if bytes(raw) != b"null"}
    said["model"] = call.model.upstream_model_id
    if not embeds:
        said["stream"] = call.stream
    options = _decoded(said.pop("options", None))
    if not isinstance(options, dict | None):
        raise InvalidRequest("options: an object is needed", param="options")
    return _with_defaults(said, options or {}, call, connection, thinks=not embeds)


def _with_defaults(
    said: dict[str, Any],
    options: Mapping[str, Any],
    call: UpstreamCall,
    connection: Mapping[str, Any],
    *,
    thinks: bool = True,
) -> dict[str, Any]:
    """A model's parameters before its provider's; the request before both. No answer is longer than the registry lets it be."""
    merged: dict[str, Any] = {}
    for source in (connection, call.model.parameters):
        merged |= _object(source.get("options"))
        if (context := _value(source.get("num_ctx"))) is not None:
            merged["num_ctx"] = context
        for name in ("keep_alive", "think") if thinks else ("keep_alive",):
            if name not in said and (value := _value(source.get(name))) is not None:
                merged[f" {name}"] = value
    for name in ("keep_alive", "think"):
        if (value := merged.pop(f" {name}", None)) is not None:
            said[name] = value
    merged |= options
    most, asked = call.model.max_tokens, merged.get("num_predict")
    if most is not None and isinstance(asked, int | float) and not 0 <= asked <= most:
        merged["num_predict"] = most
    if merged:
        said["options"] = merged
    return said


def _members(call: UpstreamCall) -> dict[str, Any]:
    return {name: msgspec.json.decode(raw) for name, raw in call.fields.items()}


def _options(told: Mapping[str, Any]) -> dict[str, Any]:
    own = told.get("options")
    if own is not None and not isinstance(own, dict):
        raise InvalidRequest("'options': expected an object.", param="options")
    options = dict(own or {}) | {name: told[name] for name in OPTIONS if told.get(name) is not None}
    most = told.get("max_completion_tokens")
    most = told.get("max_tokens") if most is None else most
    if most is not None:
        options["num_predict"] = most
    if (stop := told.get("stop")) is not None:
        options["stop"] = [stop] if isinstance(stop, str) else stop
    return options


def _messages(told: Any) -> Iterator[dict[str, Any]]:
    called: dict[str, str] = {}
    for place, message in enumerate(told if isinstance(told, list) else ()):
        where = f"messages[{place}]"
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise InvalidRequest(f"Invalid '{where}': expected an object with a role.", param=where)
        role = "system" if message["role"] == "developer" else message["role"]
        text, images = _content(message.get("content"), f"{where}.content")
        said: dict[str, Any] = {"role": role, "content": text}
        if images:
            said["images"] = images
        if thought := message.get("reasoning_content") or message.get("reasoning") or message.get("thinking"):
            said["thinking"] = thought
        if calls := message.get("tool_calls"):
            said["tool_calls"] = [_call(call, called, f"{where}.tool_calls") for call in calls]
        if call_id := message.get("tool_call_id"):
            said["tool_call_id"] = call_id
        if role == "tool" and (name := message.get("name") or called.get(str(call_id))):
            said["tool_name"] = name
        yield said


def _content(told: Any, where: str) -> tuple[str, list[str]]:
    """The text, and pictures as base64."""
    if told is None or isinstance(told, str):
        return told or "", []
    texts: list[str] = []
    images: list[str] = []
    for place, part in enumerate(told if isinstance(told, list) else [told]):
        at = f"{where}[{place}]"
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "text" and isinstance(part.get("text"), str):
            texts.append(part["text"])
        elif kind == "image_url":
            images.append(_image(part.get("image_url"), at))
        else:
            raise InvalidRequest(f"'{at}': this model reads texts and pictures, not '{kind}'.", param=at)
    return "\n\n".join(texts), images


def _image(told: Any, where: str) -> str:
    url = told.get("url") if isinstance(told, dict) else told
    head, mark, data = str(url).partition(";base64,")
    if not head.startswith("data:") or not mark:
        raise InvalidRequest(
            f"'{where}.image_url': this model reads pictures as data: URLs; the gateway fetches none.",
            param=f"{where}.image_url",
        )
    return data


def _call(call: Any, called: dict[str, str], where: str) -> dict[str, Any]:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict):
        raise InvalidRequest(f"'{where}': each call needs a function.", param=where)
    written = function.get("arguments") or "{}"
    try:
        arguments = msgspec.json.decode(written) if isinstance(written, str) else written
    except msgspec.DecodeError:
        arguments = None
    if not isinstance(arguments, dict):  # a model wrote it
        arguments = {"arguments": written}
    said = {"function": {"name": function.get("name") or "", "arguments": arguments}}
    if not call.get("id"):
        return said
    called[str(call["id"])] = function.get("name") or ""
    return {"id": call["id"], **said}


def _tools(told: Mapping[str, Any]) -> list[Any]:
    """Those that may be called; Ollama has no word for the choice."""
    tools, choice = told.get("tools") or [], told.get("tool_choice")
    if choice == "none":
        return []
    if isinstance(choice, dict) and isinstance(named := choice.get("function"), dict):
        return [tool for tool in tools if (tool.get("function") or {}).get("name") == named.get("name")]
    return list(tools)


def _probabilities(told: Mapping[str, Any]) -> dict[str, Any]:
    if told.get("logprobs") is not True:
        return {}
    return {"logprobs": True, **({"top_logprobs": told["top_logprobs"]} if told.get("top_logprobs") else {})}


def _format(shape: Any) -> Any:
    kind = shape.get("type") if isinstance(shape, dict) else None
    if kind == "json_object":
        return "json"
    if kind == "json_schema":
        return _object(shape.get("json_schema")).get("schema") or "json"
    return None


def _effort(told: Mapping[str, Any]) -> str | None:
    effort = _object(told.get("reasoning")).get("effort") or told.get("reasoning_effort")
    return effort if isinstance(effort, str) else None


def _prompt(told: Any) -> str:
    if isinstance(told, list) and len(told) == 1:
        told = told[0]
    if not isinstance(told, str):
        raise InvalidRequest("'prompt': this model completes one text at a time, and no tokens.", param="prompt")
    return told


def _object(told: Any) -> dict[str, Any]:
    """An object, or the text of one, as rows of an environment hold it."""
    value = _value(told)
    return dict(value) if isinstance(value, Mapping) else {}


def _value(told: Any) -> Any:
    """A parameter's value: rows of an environment store every value as text. A time such as `5m` is one."""
    if not isinstance(told, str):
        return told
    try:
        return msgspec.json.decode(told) if told.strip() else None
    except msgspec.DecodeError:
        return told


def _decoded(raw: Any) -> Any:
    return None if raw is None else msgspec.json.decode(raw)


# What it says ------------------------------------------------------------------------------------------------------


class _Message(msgspec.Struct):
    content: str | None = None
    thinking: str | None = None
    tool_calls: list[dict[str, Any]] | None = None


class Told(msgspec.Struct):
    """An answer, or a line of one."""

    message: _Message | None = None
    response: str | None = None
    thinking: str | None = None
    done: bool = False
    done_reason: str | None = None
    prompt_eval_count: int | None = None
    eval_count: int | None = None
    logprobs: list[dict[str, Any]] | None = None
    embeddings: list[list[float]] | None = None
    error: Any = None

    @property
    def text(self) -> str:
        return (self.response if self.message is None else self.message.content) or ""

    @property
    def thought(self) -> str:
        return (self.thinking if self.message is None else self.message.thinking) or ""

    @property
    def calls(self) -> list[dict[str, Any]]:
        return (None if self.message is None else self.message.tool_calls) or []

    @property
    def says_something(self) -> bool:
        return self.done or self.message is not None or self.response is not None

    def finish_reason(self, *, called: bool) -> str:
        """In OpenAI's words."""
        if self.done_reason == "length":
            return "length"
        return "tool_calls" if called else "stop"


def openai_call(call: Mapping[str, Any], index: int, request_id: str) -> dict[str, Any]:
    function = call.get("function") or {}
    arguments = _encode(function.get("arguments") or {}).decode()
    return {
        "index": index,
        "id": call.get("id") or f"call_{request_id.removeprefix('req_')}{index:02x}",  # OpenAI takes 40 letters
        "type": "function",
        "function": {"name": function.get("name") or "", "arguments": arguments},
    }
