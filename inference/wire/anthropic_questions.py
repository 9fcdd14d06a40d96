"""What Anthropic's clients ask, as a chat completion that asks for the same and as they said it. No I/O.

What a chat completion cannot say (most documents, tools that run at the vendor, MCP servers, containers) is told by name in
`Native.untranslatable`: an upstream that speaks the protocol itself may be asked all the same. `top_k`, `cache_control` and their
like are hints of which an answer without them is no wrong one; the translation leaves them out. How much to think is told only to
models that are known to: clients say so to every model, and one that does not think refuses the whole request.
Source: https://platform.claude.com/docs/en/api/messages.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec
import orjson

from inference.errors import InvalidRequest, UnsupportedCapability
from inference.wire import bodies
from inference.wire.anthropic_schemas import is_strict
from inference.wire.native import MESSAGES, Native
from inference.wire.openai import GATEWAY_FIELDS
from inference.wire.responses_names import shortened

_SAME = ("model", "temperature", "top_p", "max_tokens")
_SAID_OTHERWISE = frozenset(
    {
        *("messages", "system", "stream", "stop_sequences", "metadata", "tools", "tool_choice", "thinking"),
        *("output_config", "output_format", "mcp_servers", "container"),
    }
)
_LEFT_OUT = frozenset(
    {
        *("top_k", "service_tier", "context_management", "inference_geo", "cache_control", "speed", "diagnostics"),
        *("user_profile_id", "workspace_id", "betas", "fallbacks"),
    }
)
_READ = frozenset({*_SAME, *_SAID_OTHERWISE, *_LEFT_OUT})
_THOUGHTS = ("thinking", "redacted_thinking")
"""What a model thought is its own, and another's next turn does without."""
_TOOL_CHOICES = {"auto": "auto", "any": "required", "none": "none"}
_EFFORTS = {"low": "low", "medium": "medium", "high": "high", "xhigh": "high", "max": "high"}
_LOW_BUDGET, _MEDIUM_BUDGET = 4096, 16_384
"""Tokens to think with, up to which that is a low or a medium effort."""
_FOR_THE_BILL = "x-anthropic-billing-header:"
"""How a text of Claude Code's begins that is for Anthropic's books alone. It differs each time, and behind it no server would know a
prompt again."""
_REMINDER = "<system-reminder>\n{}\n</system-reminder>"
_NO_TRANSLATION = "[{}]"
"""Stands in the chat completion for a block that it cannot hold; nobody is sent it."""

_members = msgspec.json.Decoder(dict[str, msgspec.Raw])


def question(
    body: bytes, headers: tuple[tuple[str, str], ...] = (), *, counts_only: bool = False
) -> tuple[bytes, Native]:
    """The body of the chat completion, and the client's own words. Raises `InvalidRequest`, naming the member in Anthropic's words.

    `counts_only` is a question whose tokens are to be counted, which needs no limit and is never streamed.
    """
    told = bodies.read(body)
    reading = _Reading()
    said = reading.completion(told, counts_only=counts_only)
    completion = bodies.written(said)
    try:
        fields = _members.decode(body)
    except RecursionError:  # one reads more levels than the other
        raise InvalidRequest("The request body is nested too deeply.") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"The request body is not valid JSON: {error}.") from None
    own = {name: raw for name, raw in fields.items() if name not in GATEWAY_FIELDS and not name.startswith("gateway_")}
    effort = _effort(_member(told, "thinking"), _member(told, "output_config"))
    for_thinkers = {"reasoning_effort": msgspec.Raw(orjson.dumps(effort))} if effort else {}
    thoughts = tuple(reading.thoughts)
    return completion, Native(
        *(MESSAGES, own, reading.untranslatable, headers),
        for_thinkers=for_thinkers,
        names=reading.names,
        thoughts=thoughts,
    )


class _Reading:
    """One request. `untranslatable` is the first thing found that a chat completion cannot say."""

    def __init__(self) -> None:
        self.untranslatable: UnsupportedCapability | None = None
        self.thoughts: list[str] = []
        """Before each of the assistant's messages."""
        self.names: dict[str, str] = {}
        """The client's, by those that are said."""
        self._found: set[str] = set()
        """Names of deferred tools that a search among them led to; a model is shown no others of them."""

    def completion(self, told: Mapping[str, Any], *, counts_only: bool) -> dict[str, Any]:
        if not isinstance(told.get("messages"), list) or not told["messages"]:
            raise InvalidRequest("messages: Field required", param="messages")
        if not counts_only and told.get("max_tokens") is None:
            raise InvalidRequest("max_tokens: Field required", param="max_tokens")
        for name in ("mcp_servers", "container"):
            if told.get(name):
                self._cannot(f"{name}: no model that may answer offers it", name)
        said: dict[str, Any] = {name: value for name, value in told.items() if name not in _READ}
        said |= {name: told[name] for name in _SAME if told.get(name) is not None}
        said["messages"] = _under_one_head([*self._system(told.get("system")), *self._messages(told["messages"])])
        if stops := told.get("stop_sequences"):
            said["stop"] = stops
        if user := _member(told, "metadata").get("user_id"):
            said["user"] = user
        said |= _manners(told)
        if tools := told.get("tools"):
            offered = [self._tool(tool, place) for place, tool in enumerate(_list(tools, "tools"))]
            said["tools"] = [tool for tool in offered if tool is not None]
            if not said["tools"]:
                del said["tools"]
        if (choice := told.get("tool_choice")) is not None:
            chosen = self._tool_choice(choice)
            said |= chosen if "tools" in said else {}  # OpenAI refuses a choice among none
        if told.get("stream") is True and not counts_only:
            said["stream"], said["stream_options"] = True, {"include_usage": True}
        return said

    def _cannot(self, message: str, param: str) -> None:
        if self.untranslatable is None:
            self.untranslatable = UnsupportedCapability(message, param=param)

    def _system(self, told: Any) -> Iterator[dict[str, Any]]:
        if told is None or told == "":
            return
        if isinstance(told, str):
            yield {"role": "system", "content": told}
            return
        texts = [self._text(block, f"system.{place}") for place, block in enumerate(_list(told, "system"))]
        yield {"role": "system", "content": "\n\n".join(text for text in texts if not text.startswith(_FOR_THE_BILL))}

    def _messages(self, told: Iterable[Any]) -> Iterator[dict[str, Any]]:
        for place, message in enumerate(told):
            where = f"messages.{place}"
            if not isinstance(message, dict) or message.get("role") not in ("user", "assistant", "system"):
                raise InvalidRequest(f"{where}.role: Input should be 'user' or 'assistant'", param=f"{where}.role")
            content = message.get("content")
            if isinstance(content, str):
                self.thoughts += [""] if message["role"] == "assistant" else []
                yield {"role": message["role"], "content": content}
            elif isinstance(content, list):
                said = self._assistant if message["role"] == "assistant" else self._user
                yield from said(content, f"{where}.content", message["role"])
            else:
                raise InvalidRequest(f"{where}.content: Field required", param=f"{where}.content")

    def _assistant(self, blocks: list[Any], where: str, role: str) -> Iterator[dict[str, Any]]:
        texts, calls = [], []
        for place, block in enumerate(blocks):
            kind = _kind(block, f"{where}.{place}")
            if kind == "tool_use":
                arguments = orjson.dumps(block.get("input") or {}).decode()
                called = {"name": self._name(block.get("name")), "arguments": arguments}
                calls.append({"id": str(block.get("id", "")), "type": "function", "function": called})
            elif kind not in _THOUGHTS:
                texts.append(self._text(block, f"{where}.{place}"))
        said: dict[str, Any] = {"role": role, "content": "".join(texts) or None}
        if calls:
            said["tool_calls"] = calls
        if texts or calls:
            self.thoughts.append("".join(str(block.get("thinking") or "") for block in blocks))
            yield said

    def _user(self, blocks: list[Any], where: str, role: str) -> Iterator[dict[str, Any]]:
        """What tools answered comes first, each as a message of its own: it must follow the calls at once."""
        parts: list[dict[str, Any]] = []
        for place, block in enumerate(blocks):
            at = f"{where}.{place}"
            kind = _kind(block, at)
            if kind == "tool_result":
                yield from self._tool_result(block, at, parts)
            elif kind == "image":
                parts.append(self._image(block, at))
            else:
                parts.append({"type": "text", "text": self._text(block, at)})
        if parts:
            only_text = all(part["type"] == "text" for part in parts)
            yield {"role": role, "content": "\n\n".join(part["text"] for part in parts) if only_text else parts}

    def _tool_result(self, block: dict[str, Any], where: str, parts: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Pictures of a result go into the message that follows: a tool's message holds text alone."""
        content = block.get("content")
        texts = [content] if isinstance(content, str) else []
        for place, part in enumerate(content if isinstance(content, list) else ()):
            at = f"{where}.content.{place}"
            if _kind(part, at) == "image":
                parts.append(self._image(part, at))
            else:
                texts.append(self._text(part, at))
        text = "\n".join(texts)
        if block.get("is_error"):
            text = f"Error: {text}" if text else "Error"
        yield {"role": "tool", "tool_call_id": str(block.get("tool_use_id", "")), "content": text}

    def _text(self, block: Any, where: str) -> str:
        """Of blocks that are texts, or hold some."""
        kind = _kind(block, where)
        if kind == "text" and isinstance(block.get("text"), str):
            text: str = block["text"]
            return text
        if kind == "text":
            raise InvalidRequest(f"{where}.text: Field required", param=f"{where}.text")
        if kind == "tool_reference" and isinstance(block.get("tool_name"), str):
            self._found.add(block["tool_name"])
            return f"The tool {self._name(block['tool_name'])} can be called now."
        if kind in ("document", "search_result") and (held := _text_within(block)) is not None:
            return held
        source = block.get("source")
        if isinstance(source, dict) and source.get("type") == "file":
            at = f"{where}.source.type"
            self._cannot(f"{at}: no model that may answer reads a file by its id; send what it holds", at)
        self._cannot(f"{where}.type: no model that may answer reads a block of type '{kind[:64]}'", f"{where}.type")
        return _NO_TRANSLATION.format(kind[:64])

    def _image(self, block: dict[str, Any], where: str) -> dict[str, Any]:
        source = block.get("source")
        if not isinstance(source, dict):
            raise InvalidRequest(f"{where}.source: Field required", param=f"{where}.source")
        if source.get("type") == "base64":
            url = f"data:{source.get('media_type', 'image/png')};base64,{source.get('data', '')}"
        elif source.get("type") == "url":
            url = str(source.get("url", ""))
        else:
            at = f"{where}.source.type"
            self._cannot(f"{at}: no model that may answer reads a picture that is not sent or linked", at)
            return {"type": "text", "text": _NO_TRANSLATION.format("image")}
        return {"type": "image_url", "image_url": {"url": url}}

    def _tool(self, tool: Any, place: int) -> dict[str, Any] | None:
        kind = tool.get("type") if isinstance(tool, dict) else None
        if kind not in (None, "custom"):
            at = f"tools.{place}.type"
            self._cannot(f"{at}: no model that may answer offers the tool '{str(kind)[:64]}'", at)
            return None
        if not isinstance(tool, dict) or not isinstance(tool.get("name"), str):
            raise InvalidRequest(f"tools.{place}.name: Field required", param=f"tools.{place}.name")
        if tool.get("defer_loading") is True and tool["name"] not in self._found:
            return None
        schema = tool.get("input_schema") or {"type": "object", "properties": {}}
        function = {"name": self._name(tool["name"]), "parameters": schema}
        if tool.get("description"):
            function["description"] = tool["description"]
        if tool.get("strict") is True and is_strict(schema):
            function["strict"] = True
        return {"type": "function", "function": function}

    def _name(self, told: Any) -> str:
        name = str(told or "")
        short = shortened(name)
        if short != name:
            self.names[short] = name
        return short

    def _tool_choice(self, choice: Any) -> dict[str, Any]:
        kind = choice.get("type") if isinstance(choice, dict) else None
        if kind == "tool":
            said: dict[str, Any] = {
                "tool_choice": {"type": "function", "function": {"name": self._name(choice.get("name"))}}
            }
        elif isinstance(kind, str) and kind in _TOOL_CHOICES:
            said = {"tool_choice": _TOOL_CHOICES[kind]}
        else:
            raise InvalidRequest(
                "tool_choice.type: Input should be 'auto', 'any', 'tool' or 'none'", param="tool_choice.type"
            )
        if choice.get("disable_parallel_tool_use"):
            said["parallel_tool_calls"] = False
        return said


def _under_one_head(messages: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the system says before the first answer stands in one message at the head, and what it says later in the turn of the user:
    most models' templates have no other place for it, and many refuse one."""
    head: list[str] = []
    rest: list[dict[str, Any]] = []
    answered = False
    for message in messages:
        answered = answered or message["role"] == "assistant"
        if message["role"] != "system" or not isinstance(message["content"], str):
            rest.append(message)
        elif answered:
            _remind(rest, _REMINDER.format(message["content"]))
        elif message["content"]:
            head.append(message["content"])
    return [{"role": "system", "content": "\n\n".join(head)}, *rest] if head else rest


def _remind(messages: list[dict[str, Any]], reminder: str) -> None:
    last = messages[-1]
    if last["role"] == "assistant":
        messages.append({"role": "user", "content": reminder})
    elif isinstance(last["content"], str):
        last["content"] = f"{last['content']}\n\n{reminder}"
    else:
        last["content"] = [*last["content"], {"type": "text", "text": reminder}]


def _text_within(block: Mapping[str, Any]) -> str | None:
    """The text of a document that is one, or of a search's result; None for anything else, and where its source is to be cited."""
    if _member(block, "citations").get("enabled"):
        return None
    source = block.get("source")
    head = [part for part in (block.get("title"), block.get("context")) if isinstance(part, str) and part]
    if block.get("type") == "search_result":
        head.append(str(source or ""))
        content = block.get("content")
    elif isinstance(source, dict) and source.get("type") == "text":
        content = source.get("data")
    elif isinstance(source, dict) and source.get("type") == "content":
        content = source.get("content")
    else:
        return None
    if isinstance(content, str):
        return "\n".join([*head, content])
    texts = [part.get("text") if isinstance(part, dict) else None for part in content or ()]
    return "\n".join([*head, *(str(text) for text in texts)]) if None not in texts else None


def _kind(block: Any, where: str) -> str:
    kind = block.get("type") if isinstance(block, dict) else None
    if not isinstance(kind, str):
        raise InvalidRequest(f"{where}.type: Field required", param=f"{where}.type")
    return kind


def _member(told: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = told.get(name) or {}
    if not isinstance(value, dict):
        raise InvalidRequest(f"{name}: Input should be an object", param=name)
    return value


def _list(value: Any, name: str) -> list[Any]:
    if not isinstance(value, list):
        raise InvalidRequest(f"{name}: Input should be a list", param=name)
    return value


def _manners(told: Mapping[str, Any]) -> dict[str, Any]:
    """The shape of the answer."""
    said: dict[str, Any] = {}
    config = _member(told, "output_config")
    shape = config.get("format") or told.get("output_format")
    if isinstance(shape, dict) and shape.get("type") == "json_schema" and isinstance(shape.get("schema"), dict):
        schema = {"name": "answer", "schema": shape["schema"], "strict": is_strict(shape["schema"])}
        said["response_format"] = {"type": "json_schema", "json_schema": schema}
    return said


def _effort(thinking: Mapping[str, Any], config: Mapping[str, Any]) -> str | None:
    """Only of who asks for thinking and says how much."""
    kind = thinking.get("type")
    if kind not in ("enabled", "adaptive"):
        return None
    if (known := _EFFORTS.get(str(config.get("effort")))) is not None:
        return known
    budget = thinking.get("budget_tokens")
    if kind != "enabled" or not isinstance(budget, int):
        return None
    return "low" if budget <= _LOW_BUDGET else "medium" if budget <= _MEDIUM_BUDGET else "high"
