"""A grammar (GBNF) of answers that are calls of tools, in a model's own form. Pure but for the converter it is given.

https://github.com/ggml-org/llama.cpp/blob/master/grammars/README.md
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from inference.engine.tool_calls import Form
from inference.engine.tools import Tools

_MOST_MORE_CALLS = 7
"""A model that is bound to calls might otherwise never end."""
_WORDS = re.compile(r'"(?:[^"\\]|\\.)*"|\[(?:[^\]\\]|\\.)*\]|[A-Za-z][A-Za-z0-9-]*', re.DOTALL)


def calls_grammar(tools: Tools, form: Form, convert: Callable[[str], str], answer: str | None = None) -> str:
    """One call or more. `convert` turns a JSON schema into a grammar; `answer` is a grammar of what may come instead of calls."""
    rules = []
    for number, (name, schema) in enumerate(tools.schemas.items()):
        rules.append(_prefixed(convert(json.dumps(schema)), f"t{number}-"))
        rules.append(f"call{number} ::= {_call(name, f't{number}-root', form)}")
    rules.append(f"call ::= {' | '.join(f'call{number}' for number in range(len(tools.functions)))}")
    root = _several("call", form, parallel=tools.parallel)
    if answer is not None:
        rules.append(_prefixed(answer, "answer-"))
        root = f"( {root} ) | answer-root"
    return "\n".join([f"root ::= {root}", *rules])


def _call(name: str, arguments: str, form: Form) -> str:
    if form.named:
        return f"{_literal(name)} {_literal('[ARGS]')} {arguments}"
    head = f'{{"name": {json.dumps(name)}, "{form.arguments}": '
    return f"{_literal(head)} {arguments} {_literal('}')}"


def _several(call: str, form: Form, *, parallel: bool) -> str:
    begin = _literal(form.begin)
    more = f"{{0,{_MOST_MORE_CALLS}}}" if parallel else "{0,0}"
    if form.listed:
        again = f" ( {_literal(', ')} {call} ){more}" if parallel else ""
        return f"{begin} {_literal('[')} {call}{again} {_literal(']')}"
    if form.bare:
        again, one = _literal("; "), call
    elif form.named:
        again, one = "", f"{begin} {call}"
    else:
        again, one = _literal("\n"), f"{begin} {_literal(chr(10))} {call} {_literal(chr(10) + form.end)}"
    return f"{one} ( {again} {one} ){more}" if parallel else one


def _literal(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _prefixed(grammar: str, prefix: str) -> str:
    """The same grammar with other names of rules, so that several stand beside each other."""
    return _WORDS.sub(lambda found: found[0] if found[0][0] in '"[' else prefix + found[0], grammar)
