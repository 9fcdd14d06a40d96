"""Eligibility: one function for each rule, each with a reason code and a sentence. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from fnmatch import translate
from functools import lru_cache

from providers.capabilities import serves
from routing.types import Dropped, Identity, ModelView, RequestFacts


def refusal(model: ModelView, facts: RequestFacts, now: float) -> Dropped | None:
    """Why this model may not serve the request; None when it may."""
    for rule in _RULES:
        reason = rule(model, facts, now)
        if reason is not None:
            return reason
    return None


def permits(identity: Identity | None, model: ModelView) -> bool:
    """Whether a key's patterns allow a model, by its own name or by `provider/model`."""
    if identity is None or identity.allowed_models is None:
        return True
    matches = _matcher(identity.allowed_models)
    return matches(model.model_id) is not None or matches(model.route) is not None


@lru_cache(maxsize=4096)
def _matcher(patterns: tuple[str, ...]) -> Callable[[str], re.Match[str] | None]:
    return re.compile("|".join(translate(pattern) for pattern in patterns) or r"(?!)").match


def pinned_elsewhere(model: ModelView, facts: RequestFacts, now: float) -> Dropped | None:
    if facts.provider_id is None or facts.provider_id == model.provider.provider_id:
        return None
    return Dropped(model.route, "provider_pinned", f"the request asks for provider {facts.provider_id!r}")


def not_allowed(model: ModelView, facts: RequestFacts, now: float) -> Dropped | None:
    if permits(facts.identity, model):
        return None
    return Dropped(model.route, "model_not_allowed", "the client key is not allowed to use this model")


def wrong_operation(model: ModelView, facts: RequestFacts, now: float) -> Dropped | None:
    if serves(model.model_type, model.capabilities, facts.operation):
        return None
    return Dropped(
        model.route, "unsupported_operation", f"a model of type {model.model_type!r} does not serve {facts.operation}"
    )


def no_usable_key(model: ModelView, facts: RequestFacts, now: float) -> Dropped | None:
    keys = model.provider.keys
    if model.provider.lacks_key:
        return Dropped(model.route, "no_usable_key", "no key of the provider may be used in this environment")
    if not keys or any(key.expires_at is None or key.expires_at > now for key in keys):
        return None
    return Dropped(model.route, "no_usable_key", "every key of the provider has expired")


_RULES = (pinned_elsewhere, not_allowed, wrong_operation, no_usable_key)
