"""How many tokens a prompt has and what a request will cost, before anybody counted. Pure.

The tokens come from the prompt's bytes, by the ratio that the model's upstream showed for earlier prompts, and four bytes to a
token where it has shown none. The cost takes the answer to be as long as the request allows.
"""

from __future__ import annotations

from decimal import Decimal

from providers import pricing
from routing.types import ModelView, RequestFacts, RouteCondition

TOKENS_PER_BYTE = 0.25
TOKENS_PER_IMAGE = 1000
USUAL_OUTPUT_TOKENS = 500
"""Of an answer that the request does not limit."""


def input_tokens(facts: RequestFacts, condition: RouteCondition) -> int:
    if facts.input_tokens is not None:
        return facts.input_tokens
    ratio = condition.tokens_per_byte or TOKENS_PER_BYTE
    return round(facts.prompt_bytes * ratio) + facts.images * TOKENS_PER_IMAGE


def output_tokens(facts: RequestFacts, model: ModelView) -> int:
    if facts.operation == "embeddings":
        return 0
    wanted = USUAL_OUTPUT_TOKENS if facts.max_output_tokens is None else facts.max_output_tokens
    return wanted if model.max_tokens is None else min(wanted, model.max_tokens)


def cost(facts: RequestFacts, model: ModelView, condition: RouteCondition) -> Decimal | None:
    """USD that the request would cost at the model; None when its prices are unknown."""
    return pricing.cost(
        model.prices.input_cost_per_million,
        model.prices.output_cost_per_million,
        input_tokens=input_tokens(facts, condition),
        output_tokens=output_tokens(facts, model),
    )
