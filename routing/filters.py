"""Eligibility: one function for each rule, each with a reason code and a sentence. Pure.

Lasting rules look at what is configured and asked; passing ones at the state of the moment, which waiting may cure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from decimal import Decimal
from fnmatch import translate
from functools import lru_cache

from providers.capabilities import meant_for, serves
from providers.cost_tiers import rank
from providers.pricing import USD
from routing import estimates
from routing.policy_documents import Requirements
from routing.types import NOMINAL, Asked, Dropped, Identity, ModelView, RequestFacts

_SMALL = Decimal("0.0001")

Rule = Callable[[ModelView, Asked], Dropped | None]

NOT_ALLOWED = frozenset({"policy_not_allowed", "provider_not_allowed", "model_not_allowed"})
"""What a client key keeps from its bearer, and what its bearer is not told of."""


def refusal(model: ModelView, asked: Asked) -> Dropped | None:
    """Why this model may not serve the request, whatever the moment; None when it may."""
    return _first(LASTING, model, asked)


def fixed_refusal(model: ModelView, asked: Asked) -> Dropped | None:
    """Why it may serve no request that demands the same."""
    return _first(FIXED, model, asked)


def refusal_of_size(model: ModelView, asked: Asked) -> Dropped | None:
    """Why this very request is too much for it."""
    return _first(OF_SIZE, model, asked)


def out_for_now(model: ModelView, asked: Asked) -> Dropped | None:
    """Why it cannot serve at this moment."""
    return _first(PASSING, model, asked)


def meets(model: ModelView, requirements: Requirements) -> bool:
    """Whether a model is what a policy demands, whoever asks."""
    return _first(DEMANDS, model, Asked(RequestFacts(), requirements, NOMINAL, now=0.0)) is None


def _first(rules: tuple[Rule, ...], model: ModelView, asked: Asked) -> Dropped | None:
    for rule in rules:
        reason = rule(model, asked)
        if reason is not None:
            return reason
    return None


def permits(identity: Identity | None, model: ModelView) -> bool:
    """Whether a key may name a model, by its own name or by `provider/model`."""
    if identity is None:
        return True
    named = permits_name(identity, model.model_id) or permits_name(identity, model.route)
    return named and permits_provider(identity, model.provider.provider_id)


def permits_name(identity: Identity | None, name: str) -> bool:
    """Whether a key may name the model of that name. One that is limited to policies names those models alone that it is allowed
    besides."""
    if identity is None:
        return True
    if identity.allowed_models is None:
        return identity.allowed_policies is None
    return matches(identity.allowed_models, name)


def permits_policy(identity: Identity | None, names: Iterable[str]) -> bool:
    """Whether a key may name the policy that has these names, and with it whatever the policy chooses."""
    if identity is None:
        return True
    patterns = identity.allowed_policies if identity.allowed_policies is not None else identity.allowed_models
    return patterns is None or any(matches(patterns, name) for name in names)


def permits_provider(identity: Identity | None, provider_id: str) -> bool:
    if identity is None or identity.allowed_providers is None:
        return True
    return matches(identity.allowed_providers, provider_id)


def matches(patterns: tuple[str, ...], name: str) -> bool:
    return _matcher(patterns)(name) is not None


@lru_cache(maxsize=4096)
def _matcher(patterns: tuple[str, ...]) -> Callable[[str], re.Match[str] | None]:
    return re.compile("|".join(translate(pattern) for pattern in patterns) or r"(?!)").match


# --- Lasting ----------------------------------------------------------------------------------------------------------------


def pinned_elsewhere(model: ModelView, asked: Asked) -> Dropped | None:
    pin = asked.facts.provider_id
    if pin is None or pin == model.provider.provider_id:
        return None
    return Dropped(model.route, "provider_pinned", f"the request asks for provider {pin!r}")


def not_allowed(model: ModelView, asked: Asked) -> Dropped | None:
    if asked.allowed_by_name or asked.barred_policy:
        return None  # the policy's name decides, either way
    identity = asked.facts.identity
    if permits_name(identity, model.model_id) or permits_name(identity, model.route):
        return None
    return Dropped(model.route, "model_not_allowed", "the client key is not allowed to use this model")


def policy_not_allowed(model: ModelView, asked: Asked) -> Dropped | None:
    if not asked.barred_policy:
        return None
    return Dropped(
        model.route, "policy_not_allowed", f"the client key is not allowed to use the policy {asked.barred_policy!r}"
    )


def provider_not_allowed(model: ModelView, asked: Asked) -> Dropped | None:
    if permits_provider(asked.facts.identity, model.provider.provider_id):
        return None
    return Dropped(model.route, "provider_not_allowed", "the client key is not allowed to use its provider")


def switched_off(model: ModelView, asked: Asked) -> Dropped | None:
    if model.provider.provider_type not in asked.barred_types:
        return None
    return Dropped(
        model.route, "provider_type_off", f"providers of type {model.provider.provider_type} are switched off here"
    )


def wrong_operation(model: ModelView, asked: Asked) -> Dropped | None:
    operation, offered = asked.facts.operation, model.provider.operations
    if offered is not None and operation not in offered:
        kind = model.provider.provider_type
        return Dropped(model.route, "unsupported_operation", f"providers of type {kind!r} do not offer {operation}")
    if serves(model.model_type, model.capabilities, operation):
        return None
    return Dropped(
        model.route,
        "unsupported_operation",
        f"a model of type {model.model_type!r} does not serve {operation}",
    )


def not_local(model: ModelView, asked: Asked) -> Dropped | None:
    if not asked.requirements.local_only or model.provider.local:
        return None
    return Dropped(model.route, "not_local", "only local providers may get this request")


def data_not_allowed(model: ModelView, asked: Asked) -> Dropped | None:
    missing = asked.requirements.data_tags - model.provider.data_tags
    if not missing:
        return None
    return Dropped(model.route, "data_not_allowed", f"its provider may not get data tagged {_listed(missing)}")


def lacks_capability(model: ModelView, asked: Asked) -> Dropped | None:
    missing = asked.requirements.capabilities - model.capabilities
    if not missing:
        return None
    return Dropped(model.route, "missing_capability", f"it lacks {_listed(missing)}")


def cannot_see(model: ModelView, asked: Asked) -> Dropped | None:
    if not asked.requirements.vision or "vision" in model.capabilities or model.model_type == "vision":
        return None
    return Dropped(model.route, "missing_vision", "it cannot see pictures")


def cannot_reason(model: ModelView, asked: Asked) -> Dropped | None:
    if not asked.requirements.reasoning or "reasoning" in model.capabilities:
        return None
    return Dropped(model.route, "missing_reasoning", "it is no reasoning model")


def other_task(model: ModelView, asked: Asked) -> Dropped | None:
    task = asked.requirements.task
    if not task or meant_for(task, model.tasks, model.model_type, model.capabilities):
        return None
    return Dropped(model.route, "other_task", f"it is not meant for {task}")


def too_dear_a_tier(model: ModelView, asked: Asked) -> Dropped | None:
    most = asked.requirements.max_cost_tier
    if not most or rank(model.cost_tier) <= rank(most):
        return None
    return Dropped(model.route, "cost_tier", f"its tier is {model.cost_tier}, above {most}")


def window_too_small(model: ModelView, asked: Asked) -> Dropped | None:
    least, window = asked.requirements.min_context_window, model.context_window
    if window is None or window >= least:
        return None
    return Dropped(model.route, "context_window", f"its context of {window} tokens is below {least}")


def prompt_too_long(model: ModelView, asked: Asked) -> Dropped | None:
    window, facts = model.context_window, asked.facts
    if window is None or (facts.input_tokens is None and facts.prompt_bytes < window and not facts.images):
        return None
    tokens = estimates.input_tokens(facts, asked.conditions.of(model.route))
    if tokens < window:
        return None
    return Dropped(
        model.route, "prompt_too_long", f"about {tokens} tokens of prompt do not fit its context of {window}"
    )


def affordable(model: ModelView, asked: Asked) -> bool:
    """Whether the estimate keeps the limit of cost, without a word about it."""
    if asked.max_cost is None:
        return True
    cost = estimates.cost(asked.facts, model, asked.conditions.of(model.route))
    return cost is not None and cost <= asked.max_cost


def too_expensive(model: ModelView, asked: Asked) -> Dropped | None:
    if asked.max_cost is None:
        return None
    cost = estimates.cost(asked.facts, model, asked.conditions.of(model.route))
    if cost is None:
        currency = model.prices.currency
        why = "its price is not known" if currency == USD else f"its price is told in {currency}"
        return Dropped(model.route, "price_unknown", f"{why}, so no limit of cost can be kept")
    if cost <= asked.max_cost:
        return None
    return Dropped(
        model.route, "max_cost", f"about {_amount(cost)} USD are above the limit of {_amount(asked.max_cost)} USD"
    )


def _amount(usd: Decimal) -> str:
    """Six places, and of less than that the first digits that are not zero."""
    shown = f"{usd:.6f}" if not usd or abs(usd) >= _SMALL else format(Decimal(f"{usd:.2e}"), "f")
    return shown.rstrip("0").rstrip(".") or "0"


DEMANDS = (
    not_local,
    data_not_allowed,
    lacks_capability,
    cannot_see,
    cannot_reason,
    other_task,
    too_dear_a_tier,
    window_too_small,
)
"""Look at nothing but the requirements."""

FIXED = (
    pinned_elsewhere,
    policy_not_allowed,
    provider_not_allowed,
    not_allowed,
    switched_off,
    wrong_operation,
    *DEMANDS,
)
"""Say the same for every request that demands the same."""

OF_SIZE = (prompt_too_long, too_expensive)
"""Look at the prompt and its price."""

LASTING = (*FIXED, *OF_SIZE)


# --- Passing ----------------------------------------------------------------------------------------------------------------


def no_usable_key(model: ModelView, asked: Asked) -> Dropped | None:
    keys = model.provider.keys
    if model.provider.lacks_key:
        return Dropped(model.route, "no_usable_key", "no key of the provider may be used in this environment")
    if not keys or any(key.expires_at is None or key.expires_at > asked.now for key in keys):
        return None
    return Dropped(model.route, "no_usable_key", "every key of the provider has expired")


def disabled_itself(model: ModelView, asked: Asked) -> Dropped | None:
    if not model.auto_disabled:
        return None
    return Dropped(model.route, "auto_disabled", f"out of service until a probe finds it well: {model.auto_disabled}")


def keys_exhausted(model: ModelView, asked: Asked) -> Dropped | None:
    back_at = asked.conditions.of(model.route).keys_back_at
    if back_at is None or back_at <= asked.now:
        return None
    return Dropped(model.route, "keys_exhausted", "every key of the provider has used up its quota", back_at)


def breaker_open(model: ModelView, asked: Asked) -> Dropped | None:
    condition = asked.conditions.of(model.route)
    if condition.breaker != "open" or (condition.retry_at is not None and condition.retry_at <= asked.now):
        return None
    return Dropped(
        model.route,
        "breaker_open",
        f"its circuit breaker is open after {condition.failures} failures in a row"
        if condition.failures
        else "its circuit breaker was opened by hand",
        condition.retry_at,
    )


PASSING = (no_usable_key, disabled_itself, keys_exhausted, breaker_open)

PASSING_REASONS = frozenset({"no_usable_key", "auto_disabled", "keys_exhausted", "breaker_open"})
"""What waiting, or a key, may cure."""


def _listed(words: frozenset[str]) -> str:
    return ", ".join(sorted(words))
