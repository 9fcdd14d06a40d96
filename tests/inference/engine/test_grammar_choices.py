"""Grammars that an engine would follow for ever are known before it gets them, and honest ones are let through."""

from __future__ import annotations

import json
import runpy
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from inference.engine.grammar_choices import open_at_once, problem_of


def doubling(levels: int) -> str:
    rules = [f"r{level} ::= r{level + 1} r{level + 1}" for level in range(levels)]
    return "\n".join(["root ::= r0", *rules, f'r{levels} ::= "a"?'])


@pytest.mark.parametrize(
    "grammar",
    [
        doubling(10),
        "\n".join(reversed(doubling(30).splitlines())),
        'root ::= ("a"?){300} "z"',
        'root ::= ("a"?){0,300} "z"',
        'root ::= (("a"?){30}){30}',
        'root ::= "x" (item | "q")\nitem ::= (" "* [a-z]?){250}',
        "root ::= " + '("a"?) ' * 300,
        "root ::= " + '"a"? ' * 300,
    ],
)
def test_optional_parts_without_end_are_found_wherever_they_stand(grammar: str) -> None:
    assert "repeats an optional part" in (problem_of(grammar) or "")


@pytest.mark.parametrize(
    "grammar",
    [
        'root ::= "yes" | "no" # ("a"?){300}',
        'root ::= [a-z]{1,1000} ("," [a-z]{0,1000})* "(\\"a\\"?){300}"',
        "root ::= " + " ".join(f'("{name}"?)' for name in range(500)),
        "root ::= " + " | ".join(f'"{name}"' for name in range(5000)),
        'root ::= "[" (root ("," root)*)? "]"\nws ::= [ \\t\\n]*',
        "root ::= root | ((",
        "",
    ],
)
def test_what_can_be_told_apart_is_let_through(grammar: str) -> None:
    assert problem_of(grammar) is None


def test_the_ways_are_counted() -> None:
    assert open_at_once(doubling(7)) == 2**7
    assert open_at_once('root ::= ("a" | "b"?){12} "c"') == 12
    assert open_at_once('root ::= "a"? "b" "a"?') == 1, "what must be there ends it"


@pytest.mark.parametrize(
    "text", ["(" * 9000, "[" * 60_000, '"' * 60_001, "{" * 60_000, '["\\' * 20_000, "a ::= " * 10_000]
)
def test_a_text_that_is_no_grammar_is_taken_apart_too(text: str) -> None:
    assert open_at_once(text) == 0


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {f"p{number}": {"type": "string"} for number in range(300)}},
        {"type": "array", "maxItems": 900, "items": {"type": "array", "maxItems": 900, "items": {"type": "string"}}},
        {"enum": [f"value {number}" for number in range(2000)]},
        {"type": "string", "pattern": "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"},
        {"type": "string", "pattern": "^-?[a-z]{0,200}( [a-z]{0,9}){0,40}$"},
    ],
)
def test_grammars_of_honest_schemas_leave_little_open(schema: dict[str, Any]) -> None:
    engine = find_spec("llama_cpp")
    if engine is None or engine.origin is None:
        pytest.skip("llama.cpp is not built")
    # Its converter alone: the library itself is only for processes that may crash.
    converter = runpy.run_path(str(Path(engine.origin).with_name("llama_grammar.py")))
    assert open_at_once(converter["json_schema_to_gbnf"](json.dumps(schema))) < 10
