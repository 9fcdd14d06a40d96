"""OpenAI's wire format: what routing needs of a request, and how chunks of text become a reply. No I/O.

A request is taken apart into raw members, so that whatever the gateway does not know reaches the upstream byte for byte.
Only what routing needs is checked; a field added by OpenAI tomorrow passes today.
"""

from __future__ import annotations

import base64
import re
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import orjson

from inference.errors import GatewayError, InvalidRequest, MethodNotAllowed, NotFound, NotImplementedHere, NoWebsocket
from inference.trace_ids import UNKNOWN, Origin
from inference.wire import pictures, sse, tags
from inference.wire.multipart import Form
from inference.wire.native import Native
from inference.wire.pictures import NO_PICTURES, PictureLimits
from providers.capabilities import LONGEST_WORD, MOST_WORDS, TASKS, canonical
from providers.cost_tiers import COST_TIERS, is_tier
from routing import strategies

if TYPE_CHECKING:
    from inference.backends.base import Chunk, Usage

GATEWAY_FIELDS = frozenset(
    {"preferred_model", "require_vision", "max_cost", "task", "provider_id", "session_id", "x_gateway"}
)
"""Members that speak to the gateway. These, and any that begins with `gateway_`, never reach an upstream.

Some upstreams have a `task` of their own for embeddings: there it is ours only where it is one of our words.
"""

READ_WITH_THE_PROMPT = frozenset({"tools", "functions", "response_format"})
"""Members that upstreams turn into text before the prompt, and count with it."""

_LONGEST_NAME = 512
_MOST = 1_000_000_000
_PICTURE_LIMITS = PictureLimits()
_TRUE, _FALSE, _NULL = b"true", b"false", b"null"
_MONEY = re.compile(rb"[0-9]{1,12}(?:\.[0-9]{1,24})?(?:[eE][+-]?[0-9]{1,2})?").fullmatch
_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
_text = msgspec.json.Decoder(str)
_Word = Annotated[str, msgspec.Meta(max_length=LONGEST_WORD)]
_list_of_words: msgspec.json.Decoder[list[str]] = msgspec.json.Decoder(
    Annotated[list[_Word], msgspec.Meta(max_length=MOST_WORDS)]
)
_STRINGS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_NOT_BRACKETS = bytes(sorted(set(range(256)) - set(b"[]{}")))
_KINDS = {ord("{"): "object", ord("["): "array", ord('"'): "string"}


@dataclass(frozen=True, slots=True)
class Operation:
    """An endpoint's verb: the member it cannot do without, and the JSON kinds that this member may have."""

    name: str
    subject: str
    kinds: frozenset[str]
    streams: bool
    also: tuple[str, ...] = ()
    """Further members that it cannot do without, and that the model reads with it."""


CHAT = Operation("chat", "messages", frozenset({"array"}), streams=True)
COMPLETIONS = Operation("completions", "prompt", frozenset({"array", "string"}), streams=True)
EMBEDDINGS = Operation("embeddings", "input", frozenset({"array", "string"}), streams=False)
OPERATIONS = {operation.name: operation for operation in (CHAT, COMPLETIONS, EMBEDDINGS)}

_TEXT = frozenset({"string"})
MODERATIONS = Operation("moderations", "input", frozenset({"array", "string"}), streams=False)
RERANK = Operation("rerank", "documents", frozenset({"array", "object"}), streams=False, also=("query",))
IMAGES = Operation("images", "prompt", _TEXT, streams=True)
IMAGE_EDITS = Operation("image_edits", "prompt", _TEXT, streams=True)
IMAGE_VARIATIONS = Operation("image_variations", "image", _TEXT, streams=False)
SPEECH = Operation("speech", "input", _TEXT, streams=False)
TRANSCRIPTIONS = Operation("transcriptions", "file", _TEXT, streams=True)
TRANSLATIONS = Operation("translations", "file", _TEXT, streams=False)
MEDIA = {
    operation.name: operation
    for operation in (
        *(MODERATIONS, RERANK, IMAGES, IMAGE_EDITS, IMAGE_VARIATIONS),
        *(SPEECH, TRANSCRIPTIONS, TRANSLATIONS),
    )
}
"""What is passed through as it came; see `inference.wire.media`."""
EVERY = OPERATIONS | MEDIA


@dataclass(slots=True)
class ParsedRequest:
    """`fields` are the members for the upstream; the rest is what the gateway itself reads, headers included (see
    `inference.asking`)."""

    operation: Operation
    model: str
    """Empty lets the gateway choose."""
    stream: bool
    fields: dict[str, msgspec.Raw]
    size: int
    provider_id: str | None = None
    session_id: str | None = None
    names_session: bool = False
    """The session's name is the body's own `session_id`, not its `user`."""
    preferred_model: str | None = None
    require_vision: bool = False
    max_cost: Decimal | None = None
    """USD."""
    task: str = ""
    node: str = ""
    """As a header names it; `model` then is `node/…`."""
    data_tags: frozenset[str] = frozenset()
    tags: tuple[str, ...] = ()
    """Words that spend and traces can be told apart by; see `inference.wire.tags`."""
    local_only: bool = False
    capabilities: frozenset[str] = frozenset()
    """In our words; demanded beside what a policy demands, as are the two that follow."""
    max_cost_tier: str = ""
    strategy: str = ""
    images: int = 0
    prompt_bytes: int = 0
    """Of what the model reads as it was sent, without pictures."""
    max_output_tokens: int | None = None
    """Of each of the `choices`."""
    choices: int = 1
    wants_account: bool = False
    """The reply's body shall tell how it came about, in `x_gateway`."""
    wants_reason: bool = False
    origin: Origin = UNKNOWN
    """Of what this process's own code asks for; an HTTP request tells its own on its headers."""
    native: Native | None = None
    """The request in its client's own protocol, where that is another one."""
    form: Form | None = None
    """The body, when it is a form with files; `fields` then tell of it and are not what is sent."""
    asks_the_unwell: bool = False
    """A probe, which is to find out: what is out of service for the moment is asked all the same."""


def parse(
    operation: Operation, body: bytes, depth_limit: int = 200, picture_limits: PictureLimits = _PICTURE_LIMITS
) -> ParsedRequest:
    """Raises `InvalidRequest`, naming the member at fault in `param`."""
    try:
        fields = _members.decode(body)
    except RecursionError:
        raise InvalidRequest("The request body is nested too deeply.") from None
    except msgspec.ValidationError:
        raise InvalidRequest("The request body must be a JSON object.") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"The request body is not valid JSON: {error}.") from None
    if body.count(b"[") + body.count(b"{") > depth_limit and _depth_exceeds(body, depth_limit):
        raise InvalidRequest(f"The request body is nested deeper than {depth_limit} levels.")

    own = [name for name in fields if is_ours(name)]
    subject = fields.get(operation.subject)
    if subject is None:
        raise InvalidRequest(f"Missing required parameter: '{operation.subject}'.", param=operation.subject)
    prompt_bytes = _checked_subject(operation, subject)
    for name in operation.also:
        if (told := fields.get(name)) is None:
            raise InvalidRequest(f"Missing required parameter: '{name}'.", param=name)
        prompt_bytes += len(memoryview(told))
    if not READ_WITH_THE_PROMPT.isdisjoint(fields):
        prompt_bytes += sum(len(memoryview(fields[name])) for name in READ_WITH_THE_PROMPT & fields.keys())
    request = ParsedRequest(
        operation,
        model_of(fields),
        operation.streams and _wants_stream(fields),
        fields,
        len(body),
    )
    request.prompt_bytes = prompt_bytes
    request.max_output_tokens = _most_output(fields)
    if "n" in fields or "best_of" in fields:
        request.choices = max(1, _whole(fields.get("n")) or 0, _whole(fields.get("best_of")) or 0)
    for name in own:
        take_wish(request, name, fields)
    if request.session_id is not None:
        request.names_session = True
    elif "user" in fields:
        request.session_id = _session_of(fields["user"])
    if "metadata" in fields:
        request.tags = tags.taken_from(fields)
    if operation is CHAT and pictures.may_hold(body):
        seen = pictures.found(subject, picture_limits)
        if seen is not NO_PICTURES:
            request.images = seen.count
            request.prompt_bytes = prompt_bytes - seen.data_bytes
    return request


def is_ours(name: str) -> bool:
    """Whether a member speaks to the gateway and not to the upstream."""
    return name in GATEWAY_FIELDS or name.startswith("gateway_")


def model_of(fields: dict[str, msgspec.Raw]) -> str:
    """The name that the client asks for; empty where it leaves the choice."""
    named = fields.get("model")
    return "" if named is None else _optional_text("model", named) or ""


def take_wish(request: ParsedRequest, name: str, fields: dict[str, msgspec.Raw]) -> None:
    """What one of the gateway's own members says, which is taken out of the fields."""
    raw = fields[name]
    if name == "task":
        task = _task(raw, request.operation)
        if task is None:
            return
        request.task = task
    elif name in ("provider_id", "session_id", "preferred_model"):
        setattr(request, name, _optional_text(name, raw) or None)
    elif name == "require_vision":
        request.require_vision = _flag(name, raw)
    elif name == "max_cost":
        request.max_cost = _money(name, raw)
    elif name == "gateway_capabilities":
        request.capabilities = canonical(_words(name, raw))
    elif name == "gateway_max_cost_tier":
        request.max_cost_tier = _tier(name, raw)
    elif name == "gateway_strategy":
        request.strategy = _strategy(name, raw)
    elif name == "x_gateway":
        request.wants_account, request.wants_reason = _account(raw)
    del fields[name]


def _flag(name: str, raw: msgspec.Raw) -> bool:
    value = bytes(raw)
    if value == _TRUE:
        return True
    if value in (_FALSE, _NULL):
        return False
    raise InvalidRequest(f"Invalid type for '{name}': expected a boolean.", param=name)


def _money(name: str, raw: msgspec.Raw) -> Decimal | None:
    """A number or a text that holds one, to the last digit that was written."""
    value = bytes(raw)
    if value == _NULL:
        return None
    digits = value[1:-1] if value[:1] == b'"' else value
    if _MONEY(digits) is None:
        raise InvalidRequest(f"'{name}' must be an amount of USD that is not negative, such as 0.05.", param=name)
    return Decimal(digits.decode())


def _task(raw: msgspec.Raw, operation: Operation) -> str | None:
    """None when it is the upstream's and not ours."""
    value = bytes(raw)
    if value == _NULL:
        return ""
    word = value[1:-1].decode("utf-8", "replace") if value[:1] == b'"' else ""
    if word in TASKS:
        return word
    if operation is EMBEDDINGS:
        return None
    raise unknown_task("task", word)


def unknown_task(param: str, word: str) -> InvalidRequest:
    return InvalidRequest(f"'{param}' must be one of: {', '.join(TASKS)}; not '{word[:100]}'.", param=param)


def _tier(name: str, raw: msgspec.Raw) -> str:
    tier = (_optional_text(name, raw) or "").upper()
    if tier and not is_tier(tier):
        raise InvalidRequest(f"'{name}' must be one of: {', '.join(COST_TIERS)}.", param=name)
    return tier


def _strategy(name: str, raw: msgspec.Raw) -> str:
    strategy = _optional_text(name, raw) or ""
    if strategy and strategy not in strategies.names():
        raise InvalidRequest(f"'{name}' must be one of: {', '.join(strategies.names())}.", param=name)
    return strategy


def _words(name: str, raw: msgspec.Raw) -> list[str]:
    try:
        return _list_of_words.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        what = f"an array of at most {MOST_WORDS} strings of at most {LONGEST_WORD} characters"
        raise InvalidRequest(f"Invalid type for '{name}': expected {what}.", param=name) from None


def _account(raw: msgspec.Raw) -> tuple[bool, bool]:
    """Whether the reply shall tell how it came about, and whether also why."""
    value = bytes(raw)
    if value[:1] != b"{":
        return _flag("x_gateway", raw), False
    try:
        explain = _members.decode(value).get("explain")
    except UnicodeDecodeError:
        raise InvalidRequest("'x_gateway' is not valid UTF-8.", param="x_gateway") from None
    return True, explain is not None and _flag("x_gateway.explain", explain)


def _session_of(user: msgspec.Raw) -> str | None:
    """OpenAI's `user` tells one conversation's end from another's. What is wrong with it, the upstream shall say."""
    try:
        return _optional_text("user", user) or None
    except InvalidRequest:
        return None


def _most_output(fields: dict[str, msgspec.Raw]) -> int | None:
    """Of the two names, the first that says something: a null is as good as nothing to upstreams."""
    told = _whole(fields.get("max_completion_tokens"))
    return _whole(fields.get("max_tokens")) if told is None else told


def _whole(raw: msgspec.Raw | None) -> int | None:
    """None where it is no count, which the upstream shall judge. Some read 1e3 as one, and none may be too large to be seen."""
    value = b"" if raw is None else bytes(raw)
    return int(min(float(value), _MOST)) if value[:1].isdigit() else None


def prompt_of(request: ParsedRequest) -> list[bytes]:
    """What the model reads of it."""
    names = (request.operation.subject, *request.operation.also, *READ_WITH_THE_PROMPT)
    return [bytes(raw) for name in names if (raw := request.fields.get(name)) is not None]


def _optional_text(name: str, raw: msgspec.Raw) -> str | None:
    if bytes(memoryview(raw)[:4]) == b"null":
        return None
    try:
        text = _text.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise InvalidRequest(f"Invalid type for '{name}': expected a string.", param=name) from None
    if len(text) > _LONGEST_NAME:
        raise InvalidRequest(f"'{name}' is longer than {_LONGEST_NAME} characters.", param=name)
    return text


def _checked_subject(operation: Operation, raw: msgspec.Raw) -> int:
    """Its length in bytes."""
    view = memoryview(raw)
    kind = _KINDS.get(view[0], "other")
    if kind not in operation.kinds:
        expected = " or ".join(sorted(operation.kinds))
        raise InvalidRequest(
            f"Invalid type for '{operation.subject}': expected an {expected}.", param=operation.subject
        )
    if kind == "array" and len(view) < 16 and not bytes(view).strip(b"[] \t\r\n"):
        raise InvalidRequest(f"'{operation.subject}' must not be empty.", param=operation.subject)
    return len(view)


def _wants_stream(fields: dict[str, msgspec.Raw]) -> bool:
    options = fields.get("stream_options")
    if options is not None and memoryview(options)[0] not in b"{n":
        raise InvalidRequest("Invalid type for 'stream_options': expected an object.", param="stream_options")
    raw = fields.get("stream")
    if raw is None:
        return False
    return _flag("stream", raw)


def _depth_exceeds(body: bytes, limit: int) -> bool:
    """Exact, and only reached by bodies with more brackets than the limit."""
    depth = 0
    for bracket in _STRINGS.sub(b"", body).translate(None, _NOT_BRACKETS):
        if bracket in b"[{":
            depth += 1
            if depth > limit:
                return True
        else:
            depth -= 1
    return False


_NOT_SERVED = re.compile(
    r"/v1/(?:answers|assistants|audio|chatkit|containers|conversations|edits|engines|evals|fine-tunes|fine_tuning|images"
    r"|organization|realtime|skills|threads|uploads|vector_stores|videos)(?:/|\Z)"
)
"""Parts of OpenAI's API that this gateway knows and does not serve."""


def unknown_path(path: str) -> GatewayError:
    """404 for what nobody knows; 501 for what OpenAI's API has and this gateway has not."""
    if _NOT_SERVED.match(path):
        return NotImplementedHere(f"This gateway does not serve OpenAI's {path[:200]}.")
    return NotFound(f"Invalid URL ({path[:200]}): there is no such endpoint on this gateway.", code="unknown_url")


def wrong_method(method: str, path: str, allowed: str) -> MethodNotAllowed:
    return MethodNotAllowed(f"Not allowed to {method} on {path[:200]}; use {allowed}.")


def no_websocket(path: str) -> NoWebsocket:
    return NoWebsocket(f"There is no websocket on {path[:200]}; use POST.")


# Usage -------------------------------------------------------------------------------------------------------------


def usage_object(usage: Usage) -> dict[str, Any]:
    """OpenAI's usage member; the details appear when there is something to tell."""
    told: dict[str, Any] = {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }
    if usage.cached_tokens:
        told["prompt_tokens_details"] = {"cached_tokens": usage.cached_tokens}
    if usage.reasoning_tokens:
        told["completion_tokens_details"] = {"reasoning_tokens": usage.reasoning_tokens}
    return told


# Rendering of chunks -----------------------------------------------------------------------------------------------


class Rendering:
    """Turns the chunks of one answer into a whole body or into events; made per reply."""

    def __init__(self, operation: str, reply_id: str, model: str, created: int, include_usage: bool = False) -> None:
        self._chat = operation == "chat"
        self._include_usage = include_usage
        self._head = {"id": reply_id, "created": created, "model": model}
        self._roles_sent: set[int] = set()

    def events(self, chunk: Chunk) -> bytes:
        """The events for a chunk: the role before a choice's first text, text, then the finish in one of its own."""
        rendered = []
        if self._chat and chunk.index not in self._roles_sent:
            self._roles_sent.add(chunk.index)
            rendered.append(self._event(chunk.index, {"role": "assistant", "content": ""}))
        if chunk.text or chunk.tool_calls or chunk.reasoning or chunk.logprobs:
            rendered.append(self._event(chunk.index, self._delta(chunk), logprobs=chunk.logprobs))
        if chunk.finish_reason is not None:
            rendered.append(self._event(chunk.index, {} if self._chat else "", finish_reason=chunk.finish_reason))
        return b"".join(rendered)

    def end(self, usage: Usage | None) -> bytes:
        if not self._include_usage:
            return sse.DONE
        told = usage_object(usage) if usage is not None else None
        return sse.event({**self._head, "object": self._chunk_object, "choices": [], "usage": told}) + sse.DONE

    def whole(self, chunks: Sequence[Chunk]) -> bytes:
        usage = next((chunk.usage for chunk in reversed(chunks) if chunk.usage is not None), None)
        choices = [self._choice(index, chunks) for index in sorted({chunk.index for chunk in chunks})]
        body: dict[str, Any] = {
            **self._head,
            "object": "chat.completion" if self._chat else "text_completion",
            "choices": choices,
        }
        if usage is not None:
            body["usage"] = usage_object(usage)
        return orjson.dumps(body)

    @property
    def _chunk_object(self) -> str:
        return "chat.completion.chunk" if self._chat else "text_completion"

    def _delta(self, chunk: Chunk) -> dict[str, Any] | str:
        if not self._chat:
            return chunk.text
        delta: dict[str, Any] = {}
        if chunk.reasoning:
            delta["reasoning_content"] = chunk.reasoning
        if chunk.text:
            delta["content"] = chunk.text
        if chunk.tool_calls:
            delta["tool_calls"] = [{"index": i, **call} for i, call in enumerate(chunk.tool_calls)]
        return delta

    def _event(
        self,
        index: int,
        said: dict[str, Any] | str,
        *,
        finish_reason: str | None = None,
        logprobs: dict[str, Any] | None = None,
    ) -> bytes:
        choice = {
            "index": index,
            "delta" if self._chat else "text": said,
            "logprobs": logprobs,
            "finish_reason": finish_reason,
        }
        payload: dict[str, Any] = {**self._head, "object": self._chunk_object, "choices": [choice]}
        if self._include_usage:
            payload["usage"] = None
        return sse.event(payload)

    def _choice(self, index: int, chunks: Sequence[Chunk]) -> dict[str, Any]:
        own = [chunk for chunk in chunks if chunk.index == index]
        finish_reason = next((chunk.finish_reason for chunk in reversed(own) if chunk.finish_reason), None)
        text = "".join(chunk.text for chunk in own)
        choice: dict[str, Any] = {"index": index, "finish_reason": finish_reason, "logprobs": _joined_logprobs(own)}
        if not self._chat:
            return {**choice, "text": text}
        calls = _joined_tool_calls(own)
        message: dict[str, Any] = {"role": "assistant", "content": text if text or not calls else None, "refusal": None}
        reasoning = "".join(chunk.reasoning or "" for chunk in own)
        if reasoning:
            message["reasoning_content"] = reasoning
        if calls:
            message["tool_calls"] = calls
        return {**choice, "message": message}


def _joined_logprobs(chunks: Iterable[Chunk]) -> dict[str, Any] | None:
    """Chunk for chunk the lists of each member appended: `content` for chat, `tokens` and its siblings for completions."""
    joined: dict[str, Any] = {}
    for chunk in chunks:
        for name, value in (chunk.logprobs or {}).items():
            if isinstance(value, list):
                joined.setdefault(name, []).extend(value)
            else:
                joined[name] = value
    return joined or None


def _joined_tool_calls(chunks: Iterable[Chunk]) -> list[dict[str, Any]]:
    """Whole calls out of the pieces: a piece with an `index` seen before continues that call's arguments."""
    calls: dict[int, dict[str, Any]] = {}
    for chunk in chunks:
        for position, piece in enumerate(chunk.tool_calls or ()):
            index = piece.get("index", position)
            function = piece.get("function") or {}
            known = calls.get(index)
            if known is None:
                calls[index] = {
                    "id": piece.get("id"),
                    "type": piece.get("type", "function"),
                    "function": {"name": function.get("name", ""), "arguments": function.get("arguments", "")},
                }
            else:
                known["function"]["name"] += function.get("name") or ""
                known["function"]["arguments"] += function.get("arguments") or ""
    return [calls[index] for index in sorted(calls)]


def embeddings_body(vectors: Sequence[Sequence[float]], model: str, usage: Usage, encoding: str = "float") -> bytes:
    """`encoding` base64 packs each vector as little-endian 32-bit floats."""
    data = [
        {"object": "embedding", "index": index, "embedding": _packed(vector) if encoding == "base64" else list(vector)}
        for index, vector in enumerate(vectors)
    ]
    told = {"prompt_tokens": usage.input_tokens, "total_tokens": usage.input_tokens}
    return orjson.dumps({"object": "list", "data": data, "model": model, "usage": told})


def _packed(vector: Sequence[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


# Lists of models ---------------------------------------------------------------------------------------------------


def model_object(name: str, created: int, owned_by: str, **more: Any) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": created, "owned_by": owned_by, **more}
