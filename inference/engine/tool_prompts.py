"""Tools, calls and their results as a chat template takes them; for templates that know none, as plain messages. Pure."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

from inference.engine.tool_calls import HERMES, Form
from inference.engine.tools import Tools

_EXPLANATION = """You may call functions to answer. Here are their signatures within <tools></tools> tags:
<tools>
{signatures}
</tools>
For each function call answer with a JSON object with the function's name and its arguments within {begin}{end} tags:
{begin}
{{"name": "<function>", "arguments": {{<arguments>}}}}
{end}"""
_SHORT = re.compile(r"[A-Za-z0-9]{9}").fullmatch

Message = dict[str, Any]


def for_template(messages: list[Message], form: Form) -> list[Message]:
    """Messages for a template that knows tools: arguments as objects, since templates write them as JSON themselves."""
    names: dict[str, str] = {}
    shown = []
    for message in messages:
        if message.get("tool_calls"):
            calls = [_decoded(call, form) for call in message["tool_calls"]]
            names |= {call["id"]: call["function"]["name"] for call in calls}
            message = {**message, "tool_calls": calls}
        elif message["role"] == "tool":
            identifier = _identifier(message.get("tool_call_id"), form)
            name = message.get("name") or names.get(identifier, "")
            message = {**message, "tool_call_id": identifier, "name": name}
        shown.append(message)
    return shown


def in_words(messages: list[Message], tools: Tools | None) -> list[Message]:
    """Messages for a template that knows no tools: they are explained in the system message, and results are the user's."""
    shown: list[Message] = []
    for message in messages:
        if message.get("tool_calls"):
            calls = "\n".join(_written(call) for call in message["tool_calls"])
            shown.append({"role": "assistant", "content": f"{message['content']}\n{calls}".lstrip("\n")})
        elif message["role"] == "tool":
            result = f"<tool_response>\n{message['content']}\n</tool_response>"
            if shown and shown[-1].get("role") == "user":
                result = f"{shown.pop()['content']}\n{result}"
            shown.append({"role": "user", "content": result})
        else:
            shown.append(message)
    return shown if tools is None else _explained(shown, tools)


def _explained(messages: list[Message], tools: Tools) -> list[Message]:
    signatures = "\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools.functions)
    text = _EXPLANATION.format(signatures=signatures, begin=HERMES.begin, end=HERMES.end)
    if messages and messages[0]["role"] == "system":
        return [{**messages[0], "content": f"{messages[0]['content']}\n\n{text}"}, *messages[1:]]
    return [{"role": "system", "content": text}, *messages]


def _written(call: dict[str, Any]) -> str:
    function = call["function"]
    shown = json.dumps({"name": function["name"], "arguments": _object(function["arguments"])}, ensure_ascii=False)
    return f"{HERMES.begin}\n{shown}\n{HERMES.end}"


def _decoded(call: dict[str, Any], form: Form) -> dict[str, Any]:
    function = call["function"]
    arguments = _object(function["arguments"])
    identifier = _identifier(call.get("id"), form)
    return {"id": identifier, "type": "function", "function": {"name": function["name"], "arguments": arguments}}


def _object(arguments: str) -> Any:
    try:
        return json.loads(arguments) if arguments else {}
    except ValueError:
        return arguments


def _identifier(given: Any, form: Form) -> str:
    """Mistral's templates refuse other providers' ids, which a conversation that moved here is full of."""
    identifier = str(given or "")
    if not form.short_ids or _SHORT(identifier):
        return identifier
    return hashlib.sha256(identifier.encode(errors="replace")).hexdigest()[:9]
