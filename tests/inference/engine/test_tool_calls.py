"""The reader must find the same however the text is cut: each answer is read letter by letter, in threes, and whole."""

from __future__ import annotations

import json

import pytest

from inference.engine.call_ids import id_maker
from inference.engine.tool_calls import HERMES, LISTED, LLAMA_3, MISTRAL, MISTRAL_NAMED, CallReader, Form, form_of


def read(form: Form, answer: str, size: int, *, parallel: bool = True) -> tuple[str, list[tuple[str, str]]]:
    """The text and the calls, each a name and its arguments."""
    reader = CallReader(form, ["f", "g"], id_maker(form), parallel=parallel)
    pieces = [answer[at : at + size] for at in range(0, len(answer), size)]
    said, calls = "", {}
    for number, piece in enumerate([*pieces, ""]):
        text, deltas = reader.push(piece, last=number == len(pieces))
        said += text
        for delta in deltas:
            name, arguments = calls.get(delta["index"], ("", ""))
            function = delta["function"]
            calls[delta["index"]] = (name + function.get("name", ""), arguments + function["arguments"])
    assert reader.calls == len(calls)
    return said, list(calls.values())


TRICKY = '{"a": "}{\\"<", "b": [1, {"c": 2}]}'
ANSWERS = [
    (
        HERMES,
        "Sure.\n<tool_call>\n" + f'{{"name": "f", "arguments": {TRICKY}}}' + "\n</tool_call>",
        "Sure.",
        [("f", TRICKY)],
    ),
    (
        HERMES,
        '<tool_call>{"name": "f", "arguments": {}}</tool_call>\n<tool_call>{"name": "g", "arguments": {}}</tool_call>',
        "",
        [("f", "{}"), ("g", "{}")],
    ),
    (HERMES, '<tool_call>{"arguments": {"a": 1}, "name": "f"}</tool_call>', "", [("f", '{"a": 1}')]),
    (HERMES, '<tool_call>{"name": "f"}</tool_call>', "", [("f", "{}")]),
    (HERMES, '<tool_call>{"name": "f", "arguments": "{\\"a\\": 1}"}</tool_call>', "", [("f", '{"a": 1}')]),
    (HERMES, '<tool_call>{"name": "f", "arguments": {"a":', "", [("f", '{"a":')]),
    (HERMES, '{"name": "f", "arguments": {"a": 1}}', "", [("f", '{"a": 1}')]),
    (HERMES, '{"name": "John", "age": 3}', '{"name": "John", "age": 3}', []),
    (HERMES, '{"f": {"name": "f"}}', '{"f": {"name": "f"}}', []),
    (HERMES, "a <tool_ b < c <tool_call", "a <tool_ b < c <tool_call", []),
    (HERMES, "<tool_call>oops</tool_call> bye", "<tool_call>oops</tool_call> bye", []),
    (
        HERMES,
        '<tool_call>{"x": 1}</tool_call><tool_call>{"name": "f"}</tool_call>',
        '<tool_call>{"x": 1}</tool_call>',
        [("f", "{}")],
    ),
    (HERMES, " two\n\nlines \n", " two\n\nlines \n", []),
    (LLAMA_3, '{"name": "f", "parameters": {}}; {"name": "g", "parameters": {}}', "", [("f", "{}"), ("g", "{}")]),
    (LLAMA_3, '<|python_tag|>{"type": "function", "name": "f", "parameters": {}}', "", [("f", "{}")]),
    (LLAMA_3, "<|python_tag|>search.call(x)", "<|python_tag|>search.call(x)", []),
    (
        MISTRAL,
        '[TOOL_CALLS] [{"name": "f", "arguments": {}}, {"name": "g", "arguments": {}, "id": "abcdefghi"}]',
        "",
        [("f", "{}"), ("g", "{}")],
    ),
    (MISTRAL_NAMED, '[TOOL_CALLS]f[ARGS]{"a": 1}[TOOL_CALLS]g[ARGS]{}', "", [("f", '{"a": 1}'), ("g", "{}")]),
    (LISTED, '<|tool_call|>[{"name": "f", "arguments": {}}]<|/tool_call|>', "", [("f", "{}")]),
]


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_calls_are_found_however_the_text_is_cut(size: int) -> None:
    for form, answer, text, calls in ANSWERS:
        assert read(form, answer, size) == (text, calls), answer


def test_the_name_comes_first_and_the_arguments_as_they_are_written() -> None:
    reader = CallReader(HERMES, ["f"], id_maker(HERMES))
    _, (first, *_) = reader.push('<tool_call>{"name": "f", "arguments": {"cit')
    assert first["type"] == "function"
    assert first["id"].startswith("call_")
    assert first["function"] == {"name": "f", "arguments": ""}
    assert reader.push('y": "Ro') == ("", [{"index": 0, "function": {"arguments": 'y": "Ro'}}])


def test_mistrals_ids_are_nine_letters_and_digits() -> None:
    _, (first, *_) = CallReader(MISTRAL, ["f"], id_maker(MISTRAL)).push('[TOOL_CALLS][{"name": "f", "arguments": {}}]')
    assert len(first["id"]) == 9
    assert first["id"].isalnum()


def test_without_parallel_calls_the_first_completes_the_answer() -> None:
    two = json.dumps({"name": "f", "arguments": {}}).join(["<tool_call>", "</tool_call>"]) * 2
    assert read(HERMES, two, 3, parallel=False) == ("", [("f", "{}")])


@pytest.mark.parametrize(
    ("template", "form"),
    [
        ("{% if tools %}<tool_call>", HERMES),
        ("{% if tools %}[TOOL_CALLS]", MISTRAL),
        ("{% if tools %}[TOOL_CALLS][ARGS]", MISTRAL_NAMED),
        ("{% if tools %}<|python_tag|>", LLAMA_3),
        ("{% if tools %}<|tool_call|>", LISTED),
        ("{% if tools %}<tool_call><function=", None),
        ("{% for m in messages %}<tool_call>", None),
    ],
)
def test_the_template_tells_the_form(template: str, form: Form | None) -> None:
    assert form_of(template) == form


@pytest.mark.parametrize(
    ("form", "answer"),
    [
        (MISTRAL, "[TOOL_CALLS] [1, 2] is a list."),
        (MISTRAL, "[TOOL_CALLS] [ "),
        (HERMES, "<tool_call>\n no call </tool_call>"),
    ],
)
@pytest.mark.parametrize("size", [1, 99])
def test_what_stands_after_a_mark_and_is_no_call_is_given_whole(form: Form, answer: str, size: int) -> None:
    assert read(form, answer, size) == (answer, [])
