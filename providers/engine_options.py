"""What an engine of this gateway would refuse of a provider's or a model's parameters, known before anybody asks the model.

The rule is the one by which the engine itself reads them; the layer that has engines registers it here when it starts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from providers import provider_types
from providers.provider_types import ProviderType

Rule = Callable[[ProviderType, Mapping[str, Any]], Mapping[str, str]]


def _nothing_is_wrong(kind: ProviderType, parameters: Mapping[str, Any]) -> Mapping[str, str]:
    return {}


_rule: Rule = _nothing_is_wrong


def check_with(rule: Rule) -> None:
    """Called at start-up by the layer that has engines."""
    global _rule
    _rule = rule


def problems(provider_type: str, parameters: Any, *, beside: Any = None) -> dict[str, str]:
    """Sentences by the name of the parameter. `beside` are the provider's, which hold where a model says nothing: what is wrong
    with them alone is not the model's."""
    kind = provider_types.find(provider_type)
    if kind is None or not isinstance(parameters, Mapping):
        return {}
    if not isinstance(beside, Mapping):
        beside = {}
    own = _rule(kind, {**beside, **parameters})
    return {name: f"{why}." for name, why in new_problems(own, _rule(kind, beside) if own else {}).items()}


def new_problems(now: Mapping[str, str], before: Mapping[str, str]) -> dict[str, str]:
    """What is wrong now and was not in the row that is stored: that one may go on, and be changed elsewhere."""
    return {name: why for name, why in now.items() if before.get(name) != why}
