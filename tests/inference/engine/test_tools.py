from __future__ import annotations

from typing import Any

import pytest

from inference.engine.tools import Tools, tools_of
from inference.errors import InvalidRequest, UnsupportedCapability


def tool(name: str = "f", **function: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, **function}}


def asked(**fields: Any) -> Tools:
    found = tools_of({"tools": [tool("f"), tool("g")], **fields})
    assert found is not None
    return found


def names(tools: Tools) -> list[str]:
    return list(tools.schemas)


def test_tools_may_be_called_by_default_and_several_at_once() -> None:
    tools = asked()
    assert (names(tools), tools.required, tools.parallel) == (["f", "g"], False, True)


def test_a_function_without_parameters_takes_an_empty_object() -> None:
    assert asked().schemas["f"] == {"type": "object", "properties": {}}


def test_required_binds_the_answer_to_calls() -> None:
    assert asked(tool_choice="required").required


def test_a_named_function_is_the_only_one_and_called_once() -> None:
    tools = asked(tool_choice=tool("g"))
    assert (names(tools), tools.required, tools.parallel) == (["g"], True, False)


def test_allowed_tools_are_those_named() -> None:
    choice = {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [tool("g")]}}
    tools = asked(tool_choice=choice)
    assert (names(tools), tools.required, tools.parallel) == (["g"], True, True)


@pytest.mark.parametrize("fields", [{}, {"tools": []}, {"tools": [tool()], "tool_choice": "none"}])
def test_there_may_be_nothing_to_call(fields: dict[str, Any]) -> None:
    assert tools_of(fields) is None


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": "f"}, "tools"),
        ({"tools": ["f"]}, "tools[0]"),
        ({"tools": [tool('f"')]}, "tools[0].function.name"),
        ({"tools": [tool(), tool()]}, "tools"),
        ({"tools": [tool(parameters=[1])]}, "tools[0].function.parameters"),
        ({"tools": [tool(parameters={"$ref": "https://example.org/x"})]}, "tools[0].function.parameters"),
        ({"tools": [tool()], "tool_choice": tool("h")}, "tool_choice"),
        ({"tools": [tool()], "tool_choice": "any"}, "tool_choice"),
        ({"tools": [tool()], "parallel_tool_calls": 1}, "parallel_tool_calls"),
        ({"tool_choice": "required"}, "tool_choice"),
    ],
)
def test_a_wrong_field_is_named(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        tools_of(fields)
    assert caught.value.param == param


def test_tools_that_are_no_functions_cannot_be_called_here() -> None:
    with pytest.raises(UnsupportedCapability):
        tools_of({"tools": [{"type": "web_search"}]})
