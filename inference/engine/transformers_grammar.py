"""Answers bound to a form: which tokens may come next, by llguidance (https://github.com/guidance-ai/llguidance).

Schemas become its own grammars, a client's GBNF and the calls of tools its dialect of Lark
(https://github.com/guidance-ai/llguidance/blob/main/docs/syntax.md).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import llguidance
import llguidance.hf
import numpy as np
from llguidance.gbnf_to_lark import GbnfToLarkError, gbnf_to_lark

from inference.engine.requests import GenerateRequest
from inference.engine.tool_calls import Form
from inference.engine.tools import Tools
from inference.engine.transformers_tokens import Tokens
from inference.errors import InvalidRequest, UnsupportedCapability

_ANY_OBJECT: dict[str, Any] = {"type": "object"}
_COMPACT = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
"""A model that likes spaces would otherwise write them until its tokens are spent."""
_LONGEST_WHOLE = 10**15
"""Beyond it a model that likes digits writes them without end, and no double tells neighbours apart."""
_MOST_MORE_CALLS = 7


class Grammars:
    """Of one tokenizer; made at the first request that needs it, which takes up to a second. `marks` are the control tokens that
    stand around calls of tools.
    """

    def __init__(self, tokens: Tokens, vocabulary_size: int, marks: Mapping[int, str]) -> None:
        try:
            self._tokenizer = llguidance.hf.from_tokenizer(tokens.raw, n_vocab=vocabulary_size)
        except (ValueError, TypeError, AttributeError) as error:
            raise UnsupportedCapability(
                "This model's tokenizer allows no `response_format` but text.",
                detail=repr(error),
                param="response_format",
            ) from error
        self._vocabulary_size = vocabulary_size
        controls = set(tokens.control_texts)
        self._marks = {mark: f"<[{token}]>" for token, mark in marks.items() if mark in controls}

    def open(self, request: GenerateRequest, form: Form) -> Grammar | None:
        """For one answer; None when it is free. Raises `InvalidRequest`."""
        text = self._text(request, form)
        if text is None:
            return None
        try:
            matcher = llguidance.LLMatcher(self._tokenizer, text)
        except ValueError as error:
            raise _not_supported(request, str(error)) from error
        if matcher.is_error():
            raise _not_supported(request, matcher.get_error())
        return Grammar(matcher, self._vocabulary_size)

    def _text(self, request: GenerateRequest, form: Form) -> str | None:
        schema = _schema(request)
        tools = request.tools
        if tools is not None and (tools.required or schema is not None):
            return self._calls(tools, form, None if tools.required else schema)
        try:
            if request.grammar is not None:
                lark: str = gbnf_to_lark(request.grammar)
                return lark
            if schema is not None:
                made: str = llguidance.LLMatcher.grammar_from_json_schema(schema, defaults=_COMPACT)
                return made
        except (ValueError, GbnfToLarkError) as error:
            raise _not_supported(request, str(error)) from error
        return None

    def _calls(self, tools: Tools, form: Form, answer: dict[str, Any] | None) -> str:
        """One call or more, or else `answer`."""
        calls = [f"call{number}" for number in range(len(tools.functions))]
        rules = [f"call: {' | '.join(calls)}"]
        for number, (name, schema) in enumerate(tools.schemas.items()):
            head, tail = f'{{"name": {json.dumps(name)}, "{form.arguments}": ', _quoted("}")
            if form.named:
                head, tail = f"{name}[ARGS]", ""
            rules += [f"call{number}: {self._literal(head)} args{number} {tail}", f"args{number}: {_json(schema)}"]
        root = self._several(form, parallel=tools.parallel)
        if answer is not None:
            root = f"( {root} ) | answer"
            rules.append(f"answer: {_json(answer)}")
        return "\n".join([f"start: {root}", *rules])

    def _several(self, form: Form, *, parallel: bool) -> str:
        begin, more = self._literal(form.begin), f"{{0,{_MOST_MORE_CALLS}}}"
        if form.listed:
            again = f"( {_quoted(', ')} call ){more}" if parallel else ""
            return f"{begin} {_quoted('[')} call {again} {_quoted(']')}"
        if form.bare:
            again, one = _quoted("; "), "call"
        elif form.named:
            again, one = "", f"{begin} call"
        else:
            again = _quoted("\n")
            one = f"{begin} {_quoted(chr(10))} call {_quoted(chr(10))} {self._literal(form.end)}"
        return f"{one} ( {again} {one} ){more}" if parallel else one

    def _literal(self, text: str) -> str:
        """Text, the marks in it as the tokens that they are."""
        for mark, token in self._marks.items():
            before, found, after = text.partition(mark)
            if found:
                return f"{self._literal(before)} {token} {self._literal(after)}"
        return _quoted(text) if text else ""


class Grammar:
    """Where one answer stands in its grammar."""

    def __init__(self, matcher: Any, vocabulary_size: int) -> None:
        self._matcher = matcher
        self._size = vocabulary_size

    @property
    def complete(self) -> bool:
        """Nothing may follow."""
        return bool(self._matcher.is_stopped())

    def allowed(self) -> np.ndarray:
        """For each token of the vocabulary, whether it may come."""
        mask = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        bits = np.unpackbits(mask, bitorder="little")[: self._size].astype(bool)
        return np.pad(bits, (0, self._size - len(bits)))

    def take(self, token: int) -> None:
        self._matcher.consume_token(token)


def _schema(request: GenerateRequest) -> dict[str, Any] | None:
    if request.json_schema is not None:
        found = json.loads(request.json_schema)
        return _bounded(found) if isinstance(found, dict) else found
    return _ANY_OBJECT if request.json_object else None


def _bounded(schema: Any) -> Any:
    """The same with an end to whole numbers that have none."""
    if isinstance(schema, list):
        return [_bounded(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    found = {name: value if name in ("enum", "const") else _bounded(value) for name, value in schema.items()}
    bounds = {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}
    if found.get("type") == "integer" and not bounds & found.keys():
        found |= {"minimum": -_LONGEST_WHOLE, "maximum": _LONGEST_WHOLE}
    return found


def _json(schema: Any) -> str:
    return f"%json {json.dumps({**_bounded(schema), 'x-guidance': _COMPACT})}"


def _quoted(text: str) -> str:
    return json.dumps(text)


def _not_supported(request: GenerateRequest, reason: str) -> InvalidRequest:
    field = request.bound_by
    first = reason.strip().splitlines()[0] if reason.strip() else "no reason given"
    if field == "grammar":
        return InvalidRequest(f"The `grammar` cannot be read: {first}", param=field)
    return InvalidRequest(f"A schema in `{field}` is not supported: {first}", param=field)
