from __future__ import annotations

from inference.engine.tool_calls import HERMES, LLAMA_3, MISTRAL, MISTRAL_NAMED, Form
from inference.engine.tool_grammar import calls_grammar
from inference.engine.tools import tools_of


def grammar(form: Form, *, parallel: bool = False, answer: str | None = None) -> dict[str, str]:
    tools = tools_of({"tools": [{"function": {"name": "f"}}], "parallel_tool_calls": parallel})
    assert tools is not None
    text = calls_grammar(tools, form, lambda schema: 'root ::= "root" item\nitem ::= [a-z]', answer)
    return dict(line.split(" ::= ") for line in text.splitlines())


def test_a_schemas_rules_get_names_of_their_own_and_its_texts_stay() -> None:
    rules = grammar(HERMES)
    assert rules["t0-root"] == '"root" t0-item'
    assert rules["t0-item"] == "[a-z]"


def test_each_form_is_written_as_its_models_write_it() -> None:
    assert grammar(HERMES)["root"] == r'"<tool_call>" "\n" call "\n</tool_call>"'
    assert grammar(LLAMA_3)["call0"] == r'"{\"name\": \"f\", \"parameters\": " t0-root "}"'
    assert grammar(MISTRAL)["root"] == '"[TOOL_CALLS]" "[" call "]"'
    assert grammar(MISTRAL_NAMED)["call0"] == '"f" "[ARGS]" t0-root'


def test_several_calls_are_allowed_but_not_endlessly() -> None:
    assert grammar(LLAMA_3, parallel=True)["root"] == 'call ( "; " call ){0,7}'


def test_another_answer_may_stand_in_place_of_calls() -> None:
    rules = grammar(HERMES, answer='root ::= "yes"')
    assert rules["root"].endswith("| answer-root")
    assert rules["answer-root"] == '"yes"'
