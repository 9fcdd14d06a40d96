"""OpenAI's Responses API, said as a chat completion: what a request asks, and the body that asks the same. No I/O.

Asked of upstreams that do not speak the API themselves. What no chat completion can say (tools that run at the vendor, files,
prompts that lie there) is named in `Translation.untold` rather than dropped, and then only an upstream that speaks it may be asked.
Hints without which an answer is no wrong one are left out: `truncation`, `service_tier`, `prompt_cache_key`, `include`.
Source: https://platform.openai.com/docs/api-reference/responses/create.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
import orjson

from inference.errors import GatewayError, InvalidRequest
from inference.wire import bodies, responses_tools, tags
from inference.wire.openai import GATEWAY_FIELDS
from inference.wire.responses_input import Conversation, unsayable
from inference.wire.responses_tools import CUSTOM_INPUT, Tool

Item = dict[str, Any]

LOGPROBS = "message.output_text.logprobs"
ADDITIONAL_TOOLS = "additional_tools"
"""An item that offers tools from its place in the conversation on."""

_SAME = ("model", "temperature", "top_p")
_SAID_OTHERWISE = {
    "input",
    "instructions",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "text",
    "reasoning",
    "prompt",
}
_SAID_OTHERWISE |= {"max_output_tokens", "top_logprobs", "include", "metadata", "user", "safety_identifier", "stream"}
_OURS = {"store", "previous_response_id", "background", "conversation"}
_LEFT_OUT = {"truncation", "service_tier", "prompt_cache_key", "prompt_cache_retention", "prompt_cache_options"}
_LEFT_OUT |= {"stream_options", "max_tool_calls", "client_metadata", "context_management", "moderation", "image"}
_LEFT_OUT |= {"access_programs"}
_READ = frozenset({*_SAME, *_SAID_OTHERWISE, *_OURS, *_LEFT_OUT})
_KNOWN_BY_VALUE = frozenset(
    {"message", "function_call", "function_call_output", "custom_tool_call", "custom_tool_call_output"}
)
_TEXTS = ("model", "instructions", "previous_response_id", "user", "safety_identifier")
_FLAGS = ("store", "background", "stream", "parallel_tool_calls")
_OBJECTS = ("text", "reasoning", "metadata", "stream_options")
_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


@dataclass(slots=True)
class Asked:
    """A request as it came. `before` is what the conversation holds so far, once somebody has looked it up."""

    body: bytes
    told: Mapping[str, Any]
    input: list[Item]
    """Its own, a text made an item."""
    before: list[Item] = field(default_factory=list)

    @property
    def previous(self) -> str:
        return self.told.get("previous_response_id") or ""

    @property
    def references(self) -> list[str]:
        """Items that it only names."""
        return [str(item.get("id") or "") for item in self.input if item.get("type") == "item_reference"]

    @property
    def store(self) -> bool:
        return self.told.get("store") is not False

    @property
    def background(self) -> bool:
        return self.told.get("background") is True

    @property
    def stream(self) -> bool:
        return self.told.get("stream") is True

    def tools(self) -> tuple[list[Tool], GatewayError | None]:
        """All that may be called, with those that the conversation brings along, and the error of what no chat completion can offer.

        Raises `InvalidRequest` for what is no tool."""
        tools, problem = responses_tools.read(self.told.get("tools") or (), "tools")
        added: dict[str, Tool] = {}
        for items, where in ((self.before, "previous_response_id"), (self.input, "input")):
            for place, item in enumerate(items):
                if item.get("type") == ADDITIONAL_TOOLS:
                    more, untold = responses_tools.read(_tools_of(item, f"{where}[{place}]"), f"{where}[{place}].tools")
                    added |= {tool.said_as: tool for tool in more}
                    problem = problem or untold
        for tool in tools:
            added.pop(tool.said_as, None)
        return [*tools, *added.values()], problem

    def tool_said_as(self, name: str) -> Tool | None:
        return next((tool for tool in self.tools()[0] if tool.said_as == name), None)

    def resolve(self, before: Iterable[Item], named: Mapping[str, Item]) -> None:
        """Put what was looked up in its place. Raises `InvalidRequest` for a reference that leads nowhere."""
        self.before = list(before)
        known = {str(item["id"]): item for item in self.before if item.get("id")} | dict(named)
        for place, item in enumerate(self.input):
            if item.get("type") == "item_reference":
                if (meant := known.get(str(item.get("id")))) is None:
                    raise _invalid(f"Item with id '{item.get('id')}' not found.", f"input[{place}].id")
                self.input[place] = dict(meant)


@dataclass(frozen=True, slots=True)
class Translation:
    """`untold` is the error when the chat completion does not ask for all of it."""

    body: bytes
    untold: GatewayError | None
    thoughts: tuple[str, ...] = ()
    """Before each of the assistant's messages."""


def read(body: bytes, *, needs_input: bool = True) -> Asked:
    """Raises `InvalidRequest`, naming the member at fault."""
    told = bodies.read(body)
    for names, kind, word in ((_TEXTS, str, "a string"), (_FLAGS, bool, "a boolean"), (_OBJECTS, dict, "an object")):
        for name in names:
            if not isinstance(told.get(name), kind | None):
                raise _invalid(f"Invalid type for '{name}': expected {word}.", name)
    for name in ("tools", "include"):
        if not isinstance(told.get(name), list | None):
            raise _invalid(f"Invalid type for '{name}': expected an array.", name)
    if not all(isinstance(one, str) for one in told.get("include") or ()):
        raise _invalid("Invalid type for 'include': expected an array of strings.", "include")
    if told.get("conversation") is not None:
        raise _invalid(
            "'conversation' is not kept by the gateway; continue with 'previous_response_id' instead.", "conversation"
        )
    return Asked(body, told, _input(told, needs_input=needs_input))


def _tools_of(item: Item, where: str) -> list[Any]:
    if not isinstance(item.get("tools"), list):
        raise _invalid(f"Invalid type for '{where}.tools': expected an array.", f"{where}.tools")
    return list(item["tools"])


def _input(told: Mapping[str, Any], *, needs_input: bool) -> list[Item]:
    given = told.get("input")
    if given is None and (told.get("prompt") is not None or not needs_input):
        return []
    if given is None:
        raise _invalid("Missing required parameter: 'input'.", "input")
    if isinstance(given, str):
        return [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": given}]}]
    if not isinstance(given, list):
        raise _invalid("Invalid type for 'input': expected a string or an array.", "input")
    for place, item in enumerate(given):
        if not isinstance(item, dict):
            raise _invalid(f"Invalid type for 'input[{place}]': expected an object.", f"input[{place}]")
    return list(given)


# As a chat completion ------------------------------------------------------------------------------------------------


def chat_body(asked: Asked) -> Translation:
    """Raises `InvalidRequest` for what is wrong in any words."""
    told = asked.told
    said: dict[str, Any] = {name: value for name, value in told.items() if name not in _READ}
    said |= {name: told[name] for name in _SAME if told.get(name) is not None}
    conversation = Conversation(told.get("instructions") or "", CUSTOM_INPUT)
    conversation.add(asked.before, "previous_response_id")
    conversation.add(asked.input, "input")
    said["messages"] = conversation.messages() or [{"role": "user", "content": ""}]
    untold = conversation.untold
    if told.get("prompt") is not None:
        untold = untold or unsayable("a prompt that lies at the vendor", "prompt")
    tools, problem = asked.tools()
    if tools:
        said |= {name: told[name] for name in ("parallel_tool_calls",) if told.get(name) is not None}
        if (choice := told.get("tool_choice")) is not None:
            tools, said["tool_choice"], refused = responses_tools.chosen(choice, tools)
            problem = problem or refused
        said["tools"] = [tool.function() for tool in tools]
    said |= _text(told) | _wishes(told)
    if told.get("stream") is True:
        said["stream"], said["stream_options"] = True, {"include_usage": True}
    return Translation(bodies.written(said), untold or problem, tuple(conversation.thoughts))


def _wishes(told: Mapping[str, Any]) -> dict[str, Any]:
    said: dict[str, Any] = {}
    if told.get("max_output_tokens") is not None:
        said["max_tokens"] = told["max_output_tokens"]
    if (effort := (told.get("reasoning") or {}).get("effort")) is not None:
        said["reasoning_effort"] = effort
    if (user := told.get("user") or told.get("safety_identifier")) is not None:
        said["user"] = user
    if told.get("top_logprobs") or LOGPROBS in (told.get("include") or ()):
        said["logprobs"] = True
        if told.get("top_logprobs"):
            said["top_logprobs"] = told["top_logprobs"]
    if (marked := (told.get("metadata") or {}).get("tags")) is not None:
        # An array is the gateway's alone: chat completions refuse the metadata of what is not stored there.
        said["metadata"] = {"tags": marked.split(",") if isinstance(marked, str) else marked}
    return said


def _text(told: Mapping[str, Any]) -> dict[str, Any]:
    text = told.get("text") or {}
    said: dict[str, Any] = {}
    if text.get("verbosity") is not None:
        said["verbosity"] = text["verbosity"]
    wanted = text.get("format")
    if wanted is None:
        return said
    kind = wanted.get("type") if isinstance(wanted, dict) else None
    if kind == "json_schema":
        names = ("name", "schema", "strict", "description")
        schema = {name: wanted[name] for name in names if wanted.get(name) is not None}
        said["response_format"] = {"type": "json_schema", "json_schema": schema}
    elif kind == "json_object":
        said["response_format"] = {"type": "json_object"}
    elif kind != "text":
        raise _invalid("'text.format.type' must be one of: text, json_schema, json_object.", "text.format.type")
    return said


# As it is ------------------------------------------------------------------------------------------------------------


def native_fields(asked: Asked) -> dict[str, msgspec.Raw]:
    """The client's own members, for an upstream that speaks the API: a conversation is told whole, and nothing is kept there."""
    fields = {
        name: raw
        for name, raw in _members(asked.body).items()
        if name not in GATEWAY_FIELDS and not name.startswith("gateway_")
    }
    if "metadata" in fields:
        tags.taken_from(fields)
    for name in ("previous_response_id", "background", "conversation"):
        fields.pop(name, None)
    if asked.told.get("store") is not False:
        fields["store"] = msgspec.Raw(b"false")
    if asked.before or asked.told.get("previous_response_id") or _names_items(asked):
        fields["input"] = msgspec.Raw(orjson.dumps([*_retold(asked.before), *_retold(asked.input)]))
    return fields


def _names_items(asked: Asked) -> bool:
    given = asked.told.get("input")
    return isinstance(given, list) and any(item.get("type") == "item_reference" for item in given)


def _retold(items: Iterable[Item]) -> Iterator[Item]:
    """Turns as they are told to an upstream that never kept them: by an id it would look for them, and a thought that is not
    sealed in the item itself is one it has forgotten."""
    for item in items:
        if item.get("type", "message") in _KNOWN_BY_VALUE:
            yield {name: value for name, value in item.items() if name not in ("id", "status")}
        elif item.get("type") != "reasoning" or item.get("encrypted_content"):
            yield item


def _invalid(message: str, param: str) -> InvalidRequest:
    return InvalidRequest(message, param=param)
