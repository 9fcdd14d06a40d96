"""How many tokens a prompt has and what a request will cost, before anybody counted. Pure.

The tokens come from the prompt's bytes, by the ratio that the model's upstream showed for earlier prompts, and four bytes to a
token where it has shown none. Texts unlike the usual have more: of a prompt that is long enough to matter, `tokens_in` looks at
the text itself, and the higher of the two counts. The cost takes each answer to be as long as the request allows and the model can.
"""

from __future__ import annotations

from decimal import Decimal

from providers.capabilities import WRITE_NOTHING
from providers.pricing import USD
from routing.types import ModelView, RequestFacts, RouteCondition

TOKENS_PER_BYTE = 0.25
TOKENS_PER_IMAGE = 1000
USUAL_OUTPUT_TOKENS = 500
"""Of an answer that the request does not limit."""
WORTH_READING = 4096
"""Bytes of a prompt from which `tokens_in` is asked: below, no text fills a context that anybody serves."""

_CURRENCY = USD
_SIGNS = bytes(range(0x21, 0x30)) + bytes(range(0x3A, 0x41)) + bytes(range(0x5B, 0x61)) + bytes(range(0x7B, 0x7F))
_SIGNS_PER_TOKEN = 2
_LONGEST_WORDS = 20
"""Average bytes between blanks above which a text is no prose: packed JSON, base64, long addresses."""
_TOKENS_PER_PACKED_BYTE = 0.4
_ESCAPE = len(b"\\u0000")


def tokens_in(text: bytes) -> int:
    """About how many tokens a prompt makes, read from its bytes as they came: UTF-8, or JSON with or without escapes.

    A token is four letters of prose, at least every word, every second sign, a character of Chinese or Japanese, half a letter of
    Cyrillic or Greek. It takes some ten microseconds for ten thousand bytes.
    """
    wide = 0 if text.isascii() else (len(text) - len(text.decode("utf-8", "replace"))) // 2
    escaped = text.count(b"\\u")
    plain = max(0, len(text) - 4 * wide - _ESCAPE * escaped)
    words = (
        1 + text.count(b" ") - text.count(b"  ") + text.count(b"\\n")
    )  # counted, not split: this runs on the request path
    signs = len(text) - len(text.translate(None, _SIGNS)) - escaped
    prose = max(plain * TOKENS_PER_BYTE, words * plain / len(text) + signs / _SIGNS_PER_TOKEN) if text else 0
    if plain > _LONGEST_WORDS * words:
        prose = max(prose, plain * _TOKENS_PER_PACKED_BYTE)
    return min(len(text), round(prose) + wide + escaped)


def input_tokens(facts: RequestFacts, condition: RouteCondition) -> int:
    if facts.input_tokens is not None:
        return facts.input_tokens
    tokens = round(facts.prompt_bytes * (condition.tokens_per_byte or TOKENS_PER_BYTE))
    if facts.prompt_tokens is not None:
        tokens = max(tokens, facts.prompt_tokens)
    return tokens + facts.images * TOKENS_PER_IMAGE


def output_tokens(facts: RequestFacts, model: ModelView) -> int:
    if facts.operation in WRITE_NOTHING:
        return 0
    wanted = USUAL_OUTPUT_TOKENS if facts.max_output_tokens is None else facts.max_output_tokens
    return facts.choices * (wanted if model.max_tokens is None else min(wanted, model.max_tokens))


def cost(facts: RequestFacts, model: ModelView, condition: RouteCondition) -> Decimal | None:
    """USD that the request would cost at the model; None when its prices are unknown, or stand in another currency."""
    if model.prices.currency != _CURRENCY:
        return None
    return model.prices.cost(input_tokens=input_tokens(facts, condition), output_tokens=output_tokens(facts, model))
