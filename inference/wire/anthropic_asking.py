"""A chat completion asked in Anthropic's words: the body of `POST /v1/messages` that asks for the same. Pure.

What the protocol has no words for and an answer may do without (penalties, seeds, log probabilities) is left out; what would make
another answer of it (several choices, sound) is refused by name. Members of Anthropic's own that a client of chat completions adds,
such as `thinking`, `top_k` or a part's `cache_control`, go along as they are.
Source: https://platform.claude.com/docs/en/api/messages.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from inference.errors import InvalidRequest
from inference.wire import anthropic_models as models
from inference.wire import anthropic_schemas as schemas
from inference.wire import bodies

DEFAULT_MAX_TOKENS = 8192
"""Anthropic wants a limit with every request. This one stands where neither the client nor the registry says one: every model since
Claude 3.5 takes it."""

_PASSED_ON = (
    *("top_k", "thinking", "output_config", "mcp_servers", "container", "context_management"),
    *("cache_control", "inference_geo", "speed"),
)
_TOOL_CHOICES = {"auto": "auto", "required": "any", "none": "none"}
_SERVICE_TIERS = ("auto", "standard_only")
_DATA_URL = re.compile(r"data:([\w.+/-]+);base64,", re.ASCII)
_NOT_IN_IDS = re.compile(r"[^a-zA-Z0-9_-]")
_ONLY_JSON = "Answer with one JSON object and nothing else."


def messages_body(
    told: Mapping[str, Any], model: str, most_tokens: int | None, *, stream: bool, samples: bool
) -> bytes:
    """The body for the model that the upstream calls `model`. Raises `InvalidRequest`, naming the member.

    `told` are the members of the chat completion, decoded. `most_tokens` is the longest answer that the registry lets the model give.
    `samples` says whether this version of the API knows a temperature at all.
    """
    if isinstance(told.get("n"), int) and told["n"] > 1:
        raise InvalidRequest("This model gives one choice: 'n' must be 1.", param="n")
    said: dict[str, Any] = {"model": model}
    system, turns = _conversation(told.get("messages"))
    said["messages"] = turns
    said |= {name: told[name] for name in _PASSED_ON if told.get(name) is not None}
    said |= _tools(told, turns)
    if stops := _stops(told.get("stop")):
        said["stop_sequences"] = stops
    if isinstance(user := told.get("user") or told.get("safety_identifier"), str) and user:
        said["metadata"] = {"user_id": user}
    if told.get("service_tier") in _SERVICE_TIERS:
        said["service_tier"] = told["service_tier"]
    said["max_tokens"] = _max_tokens(told, most_tokens)
    _add_format(told.get("response_format"), said, system)
    _add_thinking(told, said, model, most_tokens)
    if samples:
        said |= _sampling(told, said, model)
    if system:
        said["system"] = system
    if stream:
        said["stream"] = True
    return bodies.written(said)


# The conversation --------------------------------------------------------------------------------------------------


def _conversation(told: Any) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The system's blocks, and the turns: neighbours of one role are one turn, as parallel results of tools must be."""
    system: list[dict[str, Any]] = []
    turns: list[dict[str, Any]] = []
    for place, message in enumerate(told if isinstance(told, list) else ()):
        where = f"messages[{place}]"
        role = message.get("role") if isinstance(message, dict) else None
        if role in ("system", "developer"):
            system += _blocks(message.get("content"), f"{where}.content")
            continue
        if role == "assistant":
            blocks = list(_assistant(message, where))
        elif role == "tool":
            blocks = [_tool_result(message, where)]
        elif role == "user":
            blocks = _blocks(message.get("content"), f"{where}.content")
        else:
            raise InvalidRequest(f"'{where}.role' must be system, user, assistant or tool.", param=f"{where}.role")
        _mark_last(blocks, message)
        _add_turn(turns, "assistant" if role == "assistant" else "user", blocks)
    if not turns and system:  # a question that is told as an instruction
        return [], [{"role": "user", "content": system}]
    _trim_last(turns)
    return system, turns


def _add_turn(turns: list[dict[str, Any]], role: str, blocks: list[dict[str, Any]]) -> None:
    if not blocks:
        return
    if turns and turns[-1]["role"] == role:
        turns[-1]["content"] += blocks
    else:
        turns.append({"role": role, "content": blocks})


def _mark_last(blocks: list[dict[str, Any]], message: dict[str, Any]) -> None:
    """A whole message may be marked for the cache, too: its last block bears the mark."""
    if blocks and message.get("cache_control"):
        blocks[-1].setdefault("cache_control", message["cache_control"])


def _trim_last(turns: list[dict[str, Any]]) -> None:
    """An answer that is begun for the model may not end in blanks."""
    if turns and turns[-1]["role"] == "assistant" and turns[-1]["content"][-1].get("type") == "text":
        last = turns[-1]["content"][-1]
        last["text"] = last["text"].rstrip()


def _assistant(message: dict[str, Any], where: str) -> Iterator[dict[str, Any]]:
    """Thoughts come first, and only with the signature that the model gave them."""
    thoughts = message.get("thinking_blocks")
    yield from (one for one in (thoughts if isinstance(thoughts, list) else ()) if isinstance(one, dict))
    yield from _blocks(message.get("content"), f"{where}.content")
    calls = message.get("tool_calls") or ()
    if not isinstance(calls, list | tuple):
        raise InvalidRequest(f"'{where}.tool_calls' must be a list.", param=f"{where}.tool_calls")
    for place, call in enumerate(calls):
        yield _tool_use(call, f"{where}.tool_calls[{place}]")


def _tool_use(call: Any, where: str) -> dict[str, Any]:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict):
        raise InvalidRequest(f"'{where}.function' is missing.", param=f"{where}.function")
    try:
        arguments = orjson.loads(function.get("arguments") or "{}")
    except (orjson.JSONDecodeError, TypeError):  # a model wrote it, and its next turn shall see what it wrote
        arguments = {"arguments": str(function.get("arguments"))}
    if not isinstance(arguments, dict):
        arguments = {"arguments": arguments}
    said = {"type": "tool_use", "id": _call_id(call.get("id")), "name": str(function.get("name") or "")}
    return {**said, "input": arguments}


def _call_id(told: Any) -> str:
    """Another vendor's model may have made the call: Kimi names its calls `functions.look:0`."""
    return _NOT_IN_IDS.sub("_", str(told or ""))


def _tool_result(message: dict[str, Any], where: str) -> dict[str, Any]:
    content = message.get("content")
    said: dict[str, Any] = {"type": "tool_result", "tool_use_id": _call_id(message.get("tool_call_id"))}
    said["content"] = content if isinstance(content, str) else _blocks(content, f"{where}.content")
    return said


def _blocks(content: Any, where: str) -> list[dict[str, Any]]:
    """Empty texts are left out: Anthropic refuses them."""
    if content is None:
        return []
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content.strip() else []
    if not isinstance(content, list):
        raise InvalidRequest(f"'{where}' must be a text or a list of parts.", param=where)
    said = []
    for place, part in enumerate(content):
        block = _block(part, f"{where}[{place}]")
        if block["type"] == "text" and not str(block.get("text") or "").strip():
            continue
        if part.get("cache_control"):
            block["cache_control"] = part["cache_control"]
        said.append(block)
    return said


def _block(part: Any, where: str) -> dict[str, Any]:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "text":
        return {"type": "text", "text": part.get("text") or ""}
    if kind == "refusal":
        return {"type": "text", "text": part.get("refusal") or ""}
    if kind == "image_url":
        url = part.get("image_url")
        return {"type": "image", "source": _image_source(url.get("url") if isinstance(url, dict) else url, where)}
    if kind == "file":
        return _document(part.get("file"), where)
    if kind in ("image", "document", "search_result"):  # Anthropic's own words already
        return dict(part)
    raise InvalidRequest(f"This model does not read parts of type '{str(kind)[:64]}'.", param=f"{where}.type")


def _image_source(url: Any, where: str) -> dict[str, Any]:
    if not isinstance(url, str) or not url:
        raise InvalidRequest(f"'{where}.image_url.url' is missing.", param=f"{where}.image_url.url")
    if data := _DATA_URL.match(url):
        kind = "image/jpeg" if data[1].lower() == "image/jpg" else data[1].lower()
        return {"type": "base64", "media_type": kind, "data": url[data.end() :]}
    return {"type": "url", "url": url}


def _document(told: Any, where: str) -> dict[str, Any]:
    """OpenAI's part for a file, when the file itself is in it; ids name files that lie at OpenAI."""
    content = told.get("file_data") if isinstance(told, dict) else None
    data = _DATA_URL.match(content) if isinstance(content, str) else None
    if data is None or not isinstance(content, str) or not isinstance(told, dict):
        raise InvalidRequest("A file must be sent whole, as 'file_data'.", param=f"{where}.file.file_data")
    source = {"type": "base64", "media_type": data[1].lower(), "data": content[data.end() :]}
    said: dict[str, Any] = {"type": "document", "source": source}
    if isinstance(name := told.get("filename"), str) and name:
        said["title"] = name
    return said


# Tools -------------------------------------------------------------------------------------------------------------


def _tools(told: Mapping[str, Any], turns: list[dict[str, Any]]) -> dict[str, Any]:
    given = told.get("tools")
    tools = [_tool(tool, f"tools[{place}]") for place, tool in enumerate(given if isinstance(given, list) else ())]
    if not tools:
        # Calls in the conversation need their tools beside, also when none is to be called any more.
        called = {block["name"] for turn in turns for block in turn["content"] if block.get("type") == "tool_use"}
        if not called:
            return {}
        tools = [{"name": name, "input_schema": {"type": "object"}} for name in sorted(called)]
        return {"tools": tools, "tool_choice": {"type": "none"}}
    said: dict[str, Any] = {"tools": tools}
    choice = _tool_choice(told.get("tool_choice"))
    if told.get("parallel_tool_calls") is False and _object(choice).get("type") != "none":
        choice = {**(choice or {"type": "auto"}), "disable_parallel_tool_use": True}
    if choice:
        said["tool_choice"] = choice
    return said


def _tool(tool: Any, where: str) -> dict[str, Any]:
    kind = tool.get("type") if isinstance(tool, dict) else None
    function = tool.get("function") if isinstance(tool, dict) else None
    if kind == "function" and isinstance(function, dict) and isinstance(function.get("name"), str):
        said: dict[str, Any] = {"name": function["name"]}
        if function.get("description"):
            said["description"] = function["description"]
        schema = function.get("parameters") or {}
        said["input_schema"] = {"type": "object", **schema} if isinstance(schema, dict) else schema
        if function.get("strict") is True:
            said |= {"strict": True, "input_schema": schemas.closed(said["input_schema"])}
        if mark := tool.get("cache_control") or function.get("cache_control"):
            said["cache_control"] = mark
        return said
    if isinstance(tool, dict) and isinstance(tool.get("name"), str) and kind != "custom":  # Anthropic's own words
        return tool
    raise InvalidRequest(f"'{where}' must be a function with a name.", param=where)


def _tool_choice(told: Any) -> dict[str, Any] | None:
    if told is None:
        return None
    if isinstance(told, str) and told in _TOOL_CHOICES:
        return {"type": _TOOL_CHOICES[told]}
    function = told.get("function") if isinstance(told, dict) else None
    if isinstance(function, dict) and isinstance(function.get("name"), str):
        return {"type": "tool", "name": function["name"]}
    if isinstance(told, dict) and told.get("type") in ("auto", "any", "none", "tool"):
        return told
    raise InvalidRequest("'tool_choice' must be none, auto, required or a function.", param="tool_choice")


# Limits and manners ------------------------------------------------------------------------------------------------


def _stops(told: Any) -> list[str]:
    """Anthropic refuses a stop that is blank."""
    stops = [told] if isinstance(told, str) else told if isinstance(told, list) else []
    return [stop for stop in stops if isinstance(stop, str) and stop.strip()]


def _max_tokens(told: Mapping[str, Any], most: int | None) -> Any:
    asked = told.get("max_completion_tokens")
    asked = told.get("max_tokens") if asked is None else asked
    if asked is None:
        return most or DEFAULT_MAX_TOKENS
    return most if most is not None and isinstance(asked, int) and asked > most else asked


def _add_format(told: Any, said: dict[str, Any], system: list[dict[str, Any]]) -> None:
    """A schema has its words; JSON without one is asked for in words that the model reads."""
    kind = told.get("type") if isinstance(told, dict) else None
    if kind == "json_schema":
        told = told.get("json_schema")
        schema = told.get("schema") if isinstance(told, dict) else None
        if not isinstance(schema, dict):
            raise InvalidRequest("'response_format.json_schema.schema' is missing.", param="response_format")
        shape = {"type": "json_schema", "schema": schemas.closed(schema)}
        said["output_config"] = {**_object(said.get("output_config")), "format": shape}
    elif kind == "json_object":
        system.append({"type": "text", "text": _ONLY_JSON})


def _add_thinking(told: Mapping[str, Any], said: dict[str, Any], model: str, most: int | None) -> None:
    effort = told.get("reasoning_effort")
    if "thinking" in said:
        _make_room(told, said, most)
        return
    if effort is None or _continues_unsigned(said["messages"]):
        return
    if models.decides_how_long_it_thinks(model):
        if effort == "none":
            said["thinking"] = {"type": "disabled"}
            return
        said["thinking"] = {"type": "adaptive"}
        wanted = {"effort": models.effort(model, effort)}
        said["output_config"] = {**wanted, **_object(said.get("output_config"))}
        return
    budget = models.budget(effort)
    if not _is_limited(told) and most is None and budget:
        said["max_tokens"] += budget
    budget = min(budget, said["max_tokens"] // 2) if isinstance(said["max_tokens"], int) else budget
    if budget >= models.SMALLEST_BUDGET and _forces_no_tool(said):
        said["thinking"] = {"type": "enabled", "budget_tokens": budget}


def _make_room(told: Mapping[str, Any], said: dict[str, Any], most: int | None) -> None:
    """A limit that the client did not set leaves room for the answer beside the thoughts that it asks for."""
    budget = _object(said["thinking"]).get("budget_tokens")
    if isinstance(budget, int) and most is None and not _is_limited(told):
        said["max_tokens"] += budget


def _is_limited(told: Mapping[str, Any]) -> bool:
    return told.get("max_completion_tokens") is not None or told.get("max_tokens") is not None


def _continues_unsigned(turns: list[dict[str, Any]]) -> bool:
    """A turn that goes on after a tool's result must begin with the thought that led to the call, which few clients keep."""
    if not turns or turns[-1]["role"] != "user" or turns[-1]["content"][0].get("type") != "tool_result":
        return False
    return len(turns) < 2 or turns[-2]["content"][0].get("type") not in ("thinking", "redacted_thinking")


def _forces_no_tool(said: Mapping[str, Any]) -> bool:
    return _object(said.get("tool_choice")).get("type") not in ("any", "tool")


def _sampling(told: Mapping[str, Any], said: Mapping[str, Any], model: str) -> dict[str, Any]:
    """Neither goes with thinking, and newer models know neither; of the two, older ones take one."""
    thinks = _object(said.get("thinking")).get("type") in ("enabled", "adaptive")
    if thinks or models.refuses_sampling(model):
        return {}
    heat, most_likely = told.get("temperature"), told.get("top_p")
    if heat is not None:
        return {"temperature": min(heat, 1) if isinstance(heat, int | float) else heat}
    return {} if most_likely is None else {"top_p": most_likely}


def _object(told: Any) -> Mapping[str, Any]:
    return told if isinstance(told, dict) else {}
