"""A client's fields, checked, as what an engine is asked to do.

The names and ranges are OpenAI's (https://platform.openai.com/docs/api-reference/chat/create) with llama.cpp's additions
`top_k`, `min_p`, `repeat_penalty` and `grammar`. A wrong value is an `InvalidRequest` naming the field; what these engines
cannot do, such as pictures, is an `UnsupportedCapability`. Fields that change nothing here (`user`, `metadata`) are ignored.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from inference.engine import grammar_choices
from inference.engine.schemas import nests_too_deeply, problem_of
from inference.engine.tools import Tools, tools_of
from inference.errors import InvalidRequest, UnsupportedCapability

MOST_CHOICES = 16
MOST_STOPS = 16
MOST_PROMPTS = 256
MOST_INPUTS = 2048
_LONGEST_GRAMMAR = 64 * 1024


class Sampling(msgspec.Struct, frozen=True, omit_defaults=True):
    """How the next token is chosen. Temperature 0 takes the likeliest and ignores the rest but penalties and biases."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repeat_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int | None = None
    logit_bias: dict[int, float] = {}


class GenerateRequest(msgspec.Struct, frozen=True, omit_defaults=True):
    """One answer to make: from `messages` by the model's chat template, or from `prompt` (text or tokens) as it is.

    `top_logprobs` is None for no log probabilities, else how many alternatives go with each token. `json_schema` (as JSON
    text), `json_object` or `grammar` (GBNF) bind the answer, `tools` are what it may call instead. `max_tokens` None goes on to the end of the context.
    """

    messages: list[dict[str, Any]] | None = None
    prompt: str | list[int] | None = None
    max_tokens: int | None = None
    sampling: Sampling = Sampling()
    stop: tuple[str, ...] = ()
    json_object: bool = False
    json_schema: str | None = None
    grammar: str | None = None
    tools: Tools | None = None
    top_logprobs: int | None = None
    template_arguments: dict[str, Any] = {}

    @property
    def bound_by(self) -> str:
        """The client's field that an answer is bound by, for an error that names it."""
        return "tools" if self.tools else "grammar" if self.grammar else "response_format"


class EmbedRequest(msgspec.Struct, frozen=True, omit_defaults=True):
    """`truncate` cuts each input to so many tokens, -1 to as many as the model takes; None refuses one that is too long."""

    inputs: list[str | list[int]]
    truncate: int | None = None

    def room(self, most: int) -> int | None:
        """To how many tokens an input is cut where a model takes `most`."""
        if self.truncate is None:
            return None
        return most if self.truncate < 0 else min(self.truncate, most)


def generate_requests(
    operation: Literal["chat", "completions"],
    fields: Mapping[str, Any],
    defaults: Mapping[str, Any],
    *,
    most_tokens: int | None = None,
) -> list[GenerateRequest]:
    """One request per choice, in the order of the choices' index. `defaults` are the model's own sampling parameters."""
    _refuse_what_engines_lack(fields)
    choices = _number(fields, "n", 1, least=1, most=MOST_CHOICES, whole=True)
    sampling = _sampling(fields, defaults)
    shared = {
        "max_tokens": _max_tokens(fields, defaults, most_tokens),
        "stop": _stop(fields),
        "top_logprobs": _top_logprobs(operation, fields),
        **_answer_format(fields),
    }
    if operation == "chat":
        sources: list[dict[str, Any]] = [
            {
                "messages": _messages(fields),
                "template_arguments": _template_arguments(fields),
                "tools": tools_of(fields),
            }
        ]
    else:
        sources = [{"prompt": prompt} for prompt in _prompts(fields)]
    return [
        GenerateRequest(**source, **shared, sampling=_for_choice(sampling, choice))
        for source in sources
        for choice in range(choices)
    ]


def embed_request(fields: Mapping[str, Any], *, truncates: bool = False) -> EmbedRequest:
    """`truncates`: the model cuts what is too long unless the request says otherwise (`truncate_prompt_tokens`, vLLM's)."""
    given = fields.get("input")
    inputs = _texts_or_tokens("input", given)
    if len(inputs) > MOST_INPUTS:
        raise InvalidRequest(f"`input` holds {len(inputs)} items; the most is {MOST_INPUTS}.", param="input")
    if any(len(item) == 0 for item in inputs):
        raise InvalidRequest("`input` must not hold an empty item.", param="input")
    truncate = _number(fields, "truncate_prompt_tokens", -1 if truncates else None, least=-1, most=1 << 24, whole=True)
    if truncate == 0:
        raise InvalidRequest("`truncate_prompt_tokens` must leave at least one token.", param="truncate_prompt_tokens")
    return EmbedRequest(inputs=inputs, truncate=truncate)


def _refuse_what_engines_lack(fields: Mapping[str, Any]) -> None:
    for name in ("suffix", "audio"):
        if fields.get(name):
            raise UnsupportedCapability(
                f"This model runs in the gateway's own engine, which has no `{name}`.", param=name
            )
    best_of = fields.get("best_of")
    if best_of is not None and best_of != (fields.get("n") or 1):
        raise UnsupportedCapability(
            "This model runs in the gateway's own engine, which has no `best_of`.", param="best_of"
        )


def _number(
    fields: Mapping[str, Any], name: str, default: Any, *, least: float, most: float, whole: bool = False
) -> Any:
    value = fields.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
        raise InvalidRequest(f"`{name}` must be {'a whole number' if whole else 'a number'}.", param=name)
    if not least <= value <= most:
        raise InvalidRequest(f"`{name}` must be from {least} to {most}.", param=name)
    return value


def _sampling(fields: Mapping[str, Any], defaults: Mapping[str, Any]) -> Sampling:
    own = {name: fields[name] for name in _RANGES if fields.get(name) is not None}
    merged = {name: _as_number(defaults.get(name)) for name in _RANGES} | own
    values = {
        name: _number(merged, name, getattr(_DEFAULTS, name), least=least, most=most, whole=whole)
        for name, (least, most, whole) in _RANGES.items()
    }
    return Sampling(**values, logit_bias=_logit_bias(fields))


def _as_number(value: Any) -> Any:
    """Registry parameters may have been typed as text."""
    try:
        return json.loads(value) if isinstance(value, str) and value else value
    except ValueError:
        return None


_DEFAULTS = Sampling()
_RANGES: dict[str, tuple[float, float, bool]] = {
    "temperature": (0, 2, False),
    "top_p": (0, 1, False),
    "top_k": (0, 1_000_000, True),
    "min_p": (0, 1, False),
    "repeat_penalty": (0.01, 10, False),
    "presence_penalty": (-2, 2, False),
    "frequency_penalty": (-2, 2, False),
    "seed": (-(1 << 63), (1 << 63) - 1, True),
}


def _for_choice(sampling: Sampling, choice: int) -> Sampling:
    """Choices of one request differ: each has the seed of the one before plus one."""
    if sampling.seed is None or choice == 0:
        return sampling
    return msgspec.structs.replace(sampling, seed=sampling.seed + choice)


def _logit_bias(fields: Mapping[str, Any]) -> dict[int, float]:
    given = fields.get("logit_bias")
    if not given:
        return {}
    if not isinstance(given, Mapping) or len(given) > 1024:
        raise InvalidRequest(
            "`logit_bias` must be an object of token ids and numbers, at most 1024.", param="logit_bias"
        )
    biases = {}
    for token, bias in given.items():
        if (
            not str(token).isdigit()
            or isinstance(bias, bool)
            or not isinstance(bias, int | float)
            or not -100 <= bias <= 100
        ):
            raise InvalidRequest("`logit_bias` maps token ids to numbers from -100 to 100.", param="logit_bias")
        biases[int(token)] = float(bias)
    return biases


def _max_tokens(fields: Mapping[str, Any], defaults: Mapping[str, Any], most_tokens: int | None) -> int | None:
    for name in ("max_completion_tokens", "max_tokens"):
        if fields.get(name) is not None:
            return int(_number(fields, name, None, least=1, most=1 << 31, whole=True))
    default = defaults.get("max_tokens")
    return default if isinstance(default, int) and default > 0 else most_tokens


def _stop(fields: Mapping[str, Any]) -> tuple[str, ...]:
    given = fields.get("stop")
    if given is None:
        return ()
    stops = [given] if isinstance(given, str) else given
    if (
        not isinstance(stops, list)
        or not all(isinstance(stop, str) and stop for stop in stops)
        or len(stops) > MOST_STOPS
    ):
        raise InvalidRequest(
            f"`stop` must be a text or a list of at most {MOST_STOPS} texts, none empty.", param="stop"
        )
    return tuple(dict.fromkeys(stops))


def _top_logprobs(operation: str, fields: Mapping[str, Any]) -> int | None:
    alternatives: int | None
    if operation == "completions":
        alternatives = _number(fields, "logprobs", None, least=0, most=20, whole=True)
        return alternatives
    wanted = fields.get("logprobs")
    if wanted is not None and not isinstance(wanted, bool):
        raise InvalidRequest("`logprobs` must be true or false.", param="logprobs")
    alternatives = _number(fields, "top_logprobs", None, least=0, most=20, whole=True)
    if alternatives is not None and not wanted:
        raise InvalidRequest("`top_logprobs` needs `logprobs` to be true.", param="top_logprobs")
    return (alternatives or 0) if wanted else None


def _answer_format(fields: Mapping[str, Any]) -> dict[str, Any]:
    given, grammar = fields.get("response_format"), fields.get("grammar")
    if grammar:
        return {"grammar": _grammar(grammar, given)}
    if given is None:
        return {}
    kind = given.get("type") if isinstance(given, Mapping) else None
    if kind == "text":
        return {}
    if kind == "json_object":
        schema = given.get("schema")
        return {"json_schema": _schema_text(schema)} if schema else {"json_object": True}
    if kind == "json_schema":
        holder = given.get("json_schema")
        schema = holder.get("schema") if isinstance(holder, Mapping) else None
        if not isinstance(schema, Mapping):
            raise InvalidRequest("`response_format.json_schema.schema` must be a JSON schema.", param="response_format")
        return {"json_schema": _schema_text(schema)}
    raise InvalidRequest("`response_format.type` must be text, json_object or json_schema.", param="response_format")


def _grammar(grammar: Any, answer_format: Any) -> str:
    if not isinstance(grammar, str) or len(grammar) > _LONGEST_GRAMMAR:
        raise InvalidRequest("`grammar` must be a GBNF grammar of at most 64 KiB.", param="grammar")
    if answer_format is not None and answer_format != {"type": "text"}:
        raise InvalidRequest("`grammar` and `response_format` cannot both bind the answer.", param="grammar")
    if (problem := grammar_choices.problem_of(grammar)) is not None:
        raise InvalidRequest(f"`grammar` {problem}.", param="grammar")
    return grammar


def _schema_text(schema: Any) -> str:
    problem = problem_of(schema)
    if problem is not None:
        raise InvalidRequest(f"The schema in `response_format` {problem}.", param="response_format")
    return json.dumps(schema)


def _template_arguments(fields: Mapping[str, Any]) -> dict[str, Any]:
    given = fields.get("chat_template_kwargs")
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise InvalidRequest("`chat_template_kwargs` must be an object.", param="chat_template_kwargs")
    if nests_too_deeply(given):
        raise InvalidRequest("`chat_template_kwargs` is nested too deeply.", param="chat_template_kwargs")
    return given


def _messages(fields: Mapping[str, Any]) -> list[dict[str, Any]]:
    given = fields.get("messages")
    if not isinstance(given, list) or not given:
        raise InvalidRequest("`messages` must be a list with at least one message.", param="messages")
    return [_message(number, message) for number, message in enumerate(given)]


def _message(number: int, message: Any) -> dict[str, Any]:
    where = f"messages[{number}]"
    if not isinstance(message, dict) or not isinstance(message.get("role"), str):
        raise InvalidRequest(f"`{where}` must be an object with a `role`.", param=f"{where}.role")
    if nests_too_deeply(message):
        raise InvalidRequest(f"`{where}` is nested too deeply.", param=where)
    shown = {**message, "content": _content(where, message.get("content"))}
    if message["role"] == "developer":
        shown["role"] = "system"  # OpenAI's newer word, which no template of an open model knows
    calls = message.get("tool_calls")
    if calls:
        shown["tool_calls"] = _calls(where, calls)
    return shown


def _calls(where: str, calls: Any) -> list[dict[str, Any]]:
    """What the model called earlier; the arguments stay the JSON text that they are on the wire."""
    if not isinstance(calls, list):
        raise InvalidRequest(f"`{where}.tool_calls` must be a list.", param=f"{where}.tool_calls")
    shown = []
    for place, call in enumerate(calls):
        function = call.get("function") if isinstance(call, dict) else None
        name = function.get("name") if isinstance(function, dict) else None
        arguments = function.get("arguments", "") if isinstance(function, dict) else None
        if not isinstance(name, str) or not name or not isinstance(arguments, str):
            spot = f"{where}.tool_calls[{place}].function"
            raise InvalidRequest(f"`{spot}` must have a `name`, and `arguments` as a text.", param=spot)
        identifier = str(call.get("id") or "")
        shown.append({"id": identifier, "type": "function", "function": {"name": name, "arguments": arguments}})
    return shown


def _content(where: str, content: Any) -> str:
    """Templates expect one text: the parts of a list are joined; parts that are no text cannot be read here."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise InvalidRequest(f"`{where}.content` must be a text or a list of parts.", param=f"{where}.content")
    texts = []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind not in ("text", "input_text", "refusal"):
            if isinstance(kind, str) and kind:
                raise UnsupportedCapability(
                    f"This model runs in the gateway's own engine, which reads text only, not `{kind}`.",
                    param=f"{where}.content",
                )
            raise InvalidRequest(f"A part of `{where}.content` has no `type`.", param=f"{where}.content")
        text = part.get("refusal" if kind == "refusal" else "text")
        if not isinstance(text, str):
            raise InvalidRequest(f"A part of `{where}.content` has no `text`.", param=f"{where}.content")
        texts.append(text)
    return "\n".join(texts)


def _prompts(fields: Mapping[str, Any]) -> list[str | list[int]]:
    prompts = _texts_or_tokens("prompt", fields.get("prompt"))
    if len(prompts) > MOST_PROMPTS:
        raise InvalidRequest(f"`prompt` holds {len(prompts)} prompts; the most is {MOST_PROMPTS}.", param="prompt")
    return prompts


def _texts_or_tokens(name: str, given: Any) -> list[str | list[int]]:
    """A text, texts, tokens or lists of tokens, always as a list."""
    if isinstance(given, str):
        return [given]
    if isinstance(given, list) and given:
        if _are_tokens(given):
            return [given]
        if all(isinstance(item, str) or (isinstance(item, list) and item and _are_tokens(item)) for item in given):
            return given
    raise InvalidRequest(f"`{name}` must be a text, a list of texts, or tokens.", param=name)


def _are_tokens(items: list[Any]) -> bool:
    return all(isinstance(item, int) and not isinstance(item, bool) and 0 <= item < 1 << 31 for item in items)
