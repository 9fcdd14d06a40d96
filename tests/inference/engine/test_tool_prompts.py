from __future__ import annotations

from typing import Any

from inference.engine.tool_calls import HERMES, MISTRAL
from inference.engine.tool_prompts import for_template, in_words
from inference.engine.tools import tools_of

TOOLS = tools_of({"tools": [{"type": "function", "function": {"name": "weather", "description": "Tells it."}}]})


def history() -> list[dict[str, Any]]:
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}}
    return [
        {"role": "user", "content": "Rome?"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "sunny", "tool_call_id": "call_1"},
    ]


def test_templates_get_arguments_as_objects_and_results_with_their_functions_name() -> None:
    _, assistant, result = for_template(history(), HERMES)
    assert assistant["tool_calls"][0]["function"]["arguments"] == {"city": "Rome"}
    assert (result["tool_call_id"], result["name"]) == ("call_1", "weather")


def test_arguments_that_are_no_json_stay_as_they_are() -> None:
    messages = history()
    messages[1]["tool_calls"][0]["function"]["arguments"] = "{oops"
    assert for_template(messages, HERMES)[1]["tool_calls"][0]["function"]["arguments"] == "{oops"


def test_mistrals_templates_get_ids_of_nine_that_still_belong_together() -> None:
    _, assistant, result = for_template(history(), MISTRAL)
    assert len(assistant["tool_calls"][0]["id"]) == 9
    assert result["tool_call_id"] == assistant["tool_calls"][0]["id"]


def test_tools_in_words_join_the_system_message() -> None:
    system, user = in_words([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}], TOOLS)
    assert system["content"].startswith("Be brief.\n\n")
    assert '"name": "weather"' in system["content"]
    assert user["content"] == "Hi"
    assert in_words([{"role": "user", "content": "Hi"}], TOOLS)[0]["role"] == "system"


def test_calls_and_results_in_words_are_messages_that_every_template_knows() -> None:
    _, assistant, result = in_words([*history(), history()[2]], None)[:3]
    assert assistant["content"] == '<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call>'
    assert result == {"role": "user", "content": "\n".join(["<tool_response>\nsunny\n</tool_response>"] * 2)}
