"""The tools of a Responses request as the functions of a chat completion. No I/O.

A custom tool, whose input is any text, is said as a function with one text, so that every model can call it. Tools of a namespace, as
Codex has them for its MCP servers, are said under one name each; what the namespace is for stands before the first one's description.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from inference.errors import GatewayError, InvalidRequest
from inference.wire.responses_input import unsayable
from inference.wire.responses_names import said_name

CUSTOM_INPUT = "input"
"""The one parameter of the function that stands for a custom tool."""

_CALLED = ("function", "custom")
_CHOICES = ("auto", "none", "required")


@dataclass(frozen=True, slots=True)
class Tool:
    """One that the client runs itself. `purpose` is what its namespace says of itself, told with the first of its tools."""

    told: Mapping[str, Any]
    namespace: str = ""
    purpose: str = ""

    @property
    def name(self) -> str:
        return str(self.told["name"])

    @property
    def said_as(self) -> str:
        return said_name(self.name, self.namespace)

    @property
    def is_custom(self) -> bool:
        return bool(self.told["type"] == "custom")

    def function(self) -> dict[str, Any]:
        said = _custom(self.told) if self.is_custom else _function(self.told)
        said["name"] = self.said_as
        if self.purpose:
            said["description"] = f"{self.purpose}\n\n{said.get('description', '')}".strip()
        return {"type": "function", "function": said}


def read(told: Iterable[Any], where: str) -> tuple[list[Tool], GatewayError | None]:
    """The tools, and the error of the first one that no chat completion can offer. Raises `InvalidRequest` for what is no tool."""
    tools: list[Tool] = []
    problem = None
    for tool, space, at in _each(told, where):
        kind = tool["type"]
        if kind in _CALLED:
            tools.append(Tool(_named(tool, at), space.get("name", ""), str(space.get("description") or "")))
            space.pop("description", None)
        else:
            problem = problem or unsayable(f"the tool '{kind[:100]}'", at)
    return tools, problem


def _each(told: Iterable[Any], where: str) -> Iterator[tuple[Mapping[str, Any], dict[str, Any], str]]:
    """Each tool with its namespace and its place; namespaces hold no others."""
    for place, tool in enumerate(told):
        at = f"{where}[{place}]"
        if _kind(tool, at) != "namespace":
            yield tool, {}, at
            continue
        if not isinstance(tool.get("tools"), list):
            raise _missing(f"{at}.tools")
        space = dict(_named(tool, at))
        for inner, within in enumerate(tool["tools"]):
            _kind(within, f"{at}.tools[{inner}]")
            yield within, space, f"{at}.tools[{inner}]"


def _kind(tool: Any, where: str) -> str:
    kind = tool.get("type") if isinstance(tool, dict) else None
    if not isinstance(kind, str):
        raise _missing(f"{where}.type")
    return kind


def _named(tool: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    if not isinstance(tool.get("name"), str):
        raise _missing(f"{where}.name")
    return tool


def _function(tool: Mapping[str, Any]) -> dict[str, Any]:
    said = {"name": tool["name"], "parameters": tool.get("parameters") or {"type": "object", "properties": {}}}
    if tool.get("description"):
        said["description"] = tool["description"]
    if tool.get("strict"):
        said["strict"] = True
    return said


def _custom(tool: Mapping[str, Any]) -> dict[str, Any]:
    description = str(tool.get("description") or "")
    wanted = tool.get("format")
    if isinstance(wanted, dict) and wanted.get("type") == "grammar":
        grammar = f"The text must follow this {wanted.get('syntax', 'lark')} grammar:\n{wanted.get('definition', '')}"
        description = f"{description}\n\n{grammar}".strip()
    whole = {"type": "string", "description": "The whole input of the tool, as plain text."}
    parameters = {
        "type": "object",
        "properties": {CUSTOM_INPUT: whole},
        "required": [CUSTOM_INPUT],
        "additionalProperties": False,
    }
    return {"name": tool["name"], "description": description, "parameters": parameters}


def chosen(choice: Any, tools: list[Tool]) -> tuple[list[Tool], Any, GatewayError | None]:
    """The tools that may be called, the choice among them, and what cannot be said."""
    if isinstance(choice, str) and choice in _CHOICES:
        return tools, choice, None
    kind = choice.get("type") if isinstance(choice, dict) else None
    if kind in _CALLED:
        name = said_name(choice.get("name"), choice.get("namespace"))
        return tools, {"type": "function", "function": {"name": name}}, None
    if kind == "allowed_tools":
        kept = list(_allowed(choice.get("tools"), tools))
        if not kept:
            raise InvalidRequest("'tool_choice.tools' names none of the tools.", param="tool_choice.tools")
        return kept, choice.get("mode") or "auto", None
    if isinstance(kind, str):
        return tools, "auto", unsayable(f"the tool '{kind[:100]}'", "tool_choice")
    raise InvalidRequest(f"'tool_choice' must be one of: {', '.join(_CHOICES)}, or an object.", param="tool_choice")


def _allowed(named: Any, tools: Iterable[Tool]) -> Iterator[Tool]:
    allowed = [one for one in named if isinstance(one, dict)] if isinstance(named, list) else []
    names = {said_name(one.get("name"), one.get("namespace")) for one in allowed if one.get("type") in _CALLED}
    spaces = [one.get("name") for one in allowed if one.get("type") == "namespace"]
    return (tool for tool in tools if tool.said_as in names or (tool.namespace and tool.namespace in spaces))


def _missing(param: str) -> InvalidRequest:
    return InvalidRequest(f"Missing required parameter: '{param}'.", param=param)
