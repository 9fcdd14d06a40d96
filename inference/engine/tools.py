"""The tools that a client offers with a chat, checked. Pure.

The fields are OpenAI's `tools`, `tool_choice` and `parallel_tool_calls`
(https://platform.openai.com/docs/api-reference/chat/create#chat-create-tools).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from inference.engine.schemas import problem_of
from inference.errors import InvalidRequest, UnsupportedCapability

MOST_TOOLS = 128
_NAME = re.compile(r"[A-Za-z0-9_.:/-]{1,128}").fullmatch
_ANY_OBJECT: dict[str, Any] = {"type": "object", "properties": {}}


class Tools(msgspec.Struct, frozen=True, omit_defaults=True):
    """`functions` are the tools in OpenAI's form, each with its `parameters`. `required` means that the answer is calls and
    nothing else; `parallel` that it may be several.
    """

    functions: list[dict[str, Any]]
    required: bool = False
    parallel: bool = True

    @property
    def schemas(self) -> dict[str, dict[str, Any]]:
        """The JSON schema of each function's arguments, by its name."""
        return {tool["function"]["name"]: tool["function"]["parameters"] for tool in self.functions}


def tools_of(fields: Mapping[str, Any]) -> Tools | None:
    """What the model may call; None when nothing. Raises `InvalidRequest` naming the field."""
    if fields.get("functions") and fields.get("function_call") != "none":
        raise UnsupportedCapability(
            "This model runs in the gateway's own engine, which knows `tools` but not the older `functions`.",
            param="functions",
        )
    given = fields.get("tools")
    choice = fields.get("tool_choice")
    if not given:
        if choice not in (None, "none", "auto"):
            raise InvalidRequest("`tool_choice` needs `tools`.", param="tool_choice")
        return None
    if not isinstance(given, list) or len(given) > MOST_TOOLS:
        raise InvalidRequest(f"`tools` must be a list of at most {MOST_TOOLS} tools.", param="tools")
    functions = [_function(number, tool) for number, tool in enumerate(given)]
    names = [function["function"]["name"] for function in functions]
    if len(set(names)) < len(names):
        raise InvalidRequest("Two of the `tools` have the same name.", param="tools")
    parallel = fields.get("parallel_tool_calls")
    if parallel is not None and not isinstance(parallel, bool):
        raise InvalidRequest("`parallel_tool_calls` must be true or false.", param="parallel_tool_calls")
    return _chosen(Tools(functions, parallel=parallel is not False), choice)


def _function(number: int, tool: Any) -> dict[str, Any]:
    where = f"tools[{number}]"
    kind = tool.get("type", "function") if isinstance(tool, dict) else None
    if kind is None:
        raise InvalidRequest(f"`{where}` must be an object.", param=where)
    if kind != "function":
        raise UnsupportedCapability(
            f"This model runs in the gateway's own engine, which calls functions only, not `{str(kind)[:40]}`.",
            param=f"{where}.type",
        )
    function = tool.get("function")
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(function, dict) or not isinstance(name, str) or not _NAME(name):
        raise InvalidRequest(
            f"`{where}.function.name` must be letters, digits, underscores and dashes, at most 128.",
            param=f"{where}.function.name",
        )
    description = function.get("description")
    if description is not None and not isinstance(description, str):
        raise InvalidRequest(f"`{where}.function.description` must be a text.", param=f"{where}.function.description")
    parameters = function.get("parameters") or _ANY_OBJECT
    if not isinstance(parameters, dict):
        raise InvalidRequest(
            f"`{where}.function.parameters` must be a JSON schema.", param=f"{where}.function.parameters"
        )
    if (problem := problem_of(parameters)) is not None:
        raise InvalidRequest(
            f"The schema in `{where}.function.parameters` {problem}.", param=f"{where}.function.parameters"
        )
    shown = {"name": name, "description": description or "", "parameters": parameters}
    return {"type": "function", "function": shown}


def _chosen(tools: Tools, choice: Any) -> Tools | None:
    """`tool_choice`: auto, none, required, one function by name, or some of them."""
    if choice is None or choice == "auto":
        return tools
    if choice == "none":
        return None
    if choice == "required":
        return msgspec.structs.replace(tools, required=True)
    if isinstance(choice, dict) and choice.get("type") == "function":
        named = _narrowed(tools, [choice])
        return msgspec.structs.replace(named, required=True, parallel=False)
    if isinstance(choice, dict) and choice.get("type") == "allowed_tools":
        allowed = choice.get("allowed_tools")
        if isinstance(allowed, dict) and isinstance(allowed.get("tools"), list) and allowed["tools"]:
            return msgspec.structs.replace(
                _narrowed(tools, allowed["tools"]), required=allowed.get("mode") == "required"
            )
    raise InvalidRequest(
        "`tool_choice` must be auto, none, required, or an object that names a function.", param="tool_choice"
    )


def _narrowed(tools: Tools, choices: list[Any]) -> Tools:
    wanted = [_chosen_name(choice) for choice in choices]
    known = {tool["function"]["name"]: tool for tool in tools.functions}
    for name in wanted:
        if name not in known:
            raise InvalidRequest(
                f"`tool_choice` names {json.dumps(name)}, which is not in `tools`.", param="tool_choice"
            )
    return msgspec.structs.replace(tools, functions=[known[name] for name in dict.fromkeys(wanted)])


def _chosen_name(choice: Any) -> str:
    function = choice.get("function") if isinstance(choice, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    return name[:128] if isinstance(name, str) else ""
