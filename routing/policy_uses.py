"""Which policies ask which providers, from the snapshot that serves: for the pages of the registry."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from django.urls import reverse

from providers.policy_uses import Losses, PolicyUse
from routing import health, snapshot
from routing.breakers import OPEN
from routing.models import Policy
from routing.types import Conditions, ModelView, PolicyView


def of(provider_id: str) -> list[PolicyUse]:
    """The enabled policies that name a model of the provider, as a target or as a fallback, by name."""
    conditions, links = health.read(), _links()
    found = []
    for policy in snapshot.current().each_policy():
        targets = [target.model for target in policy.active.targets]
        fallbacks = [target.model for target in policy.active.fallbacks]
        named = [model for model in (*targets, *fallbacks) if model.provider.provider_id == provider_id]
        if named:
            found.append(
                PolicyUse(
                    policy.name,
                    policy.kind,
                    links.get(policy.name, ""),
                    tuple(dict.fromkeys(model.model_id for model in named)),
                    as_fallback=not any(model in targets for model in named),
                    others=len(_well_elsewhere((*targets, *fallbacks), {provider_id}, conditions)),
                )
            )
    return sorted(found, key=lambda use: (use.others, use.name))


def lost_without(provider_ids: Collection[str]) -> Losses:
    """Of policies that are served now: which have nothing healthy left without these providers, and which fallbacks only."""
    gone, conditions = set(provider_ids), health.read()
    stranded, weakened = [], []
    for policy in snapshot.current().each_policy():
        targets, all_of_it = list(_targets(policy)), list(_models(policy))
        if not _well_elsewhere(all_of_it, set(), conditions) or not any(
            model.provider.provider_id in gone for model in all_of_it
        ):
            continue
        if not _well_elsewhere(all_of_it, gone, conditions):
            stranded.append(policy.name)
        elif _well_elsewhere(targets, set(), conditions) and not _well_elsewhere(targets, gone, conditions):
            weakened.append(policy.name)
    return Losses(tuple(sorted(stranded)), tuple(sorted(weakened)))


def _targets(policy: PolicyView) -> Iterator[ModelView]:
    yield from (target.model for target in policy.active.targets)


def _models(policy: PolicyView) -> Iterator[ModelView]:
    yield from _targets(policy)
    yield from (target.model for target in policy.active.fallbacks)


def _well_elsewhere(models: Collection[ModelView], without: Collection[str], conditions: Conditions) -> set[str]:
    """Routes that would answer now, without those of some providers."""
    return {
        model.route
        for model in models
        if model.provider.provider_id not in without
        and not model.auto_disabled
        and conditions.of(model.route).breaker != OPEN
    }


def _links() -> dict[str, str]:
    rows = Policy.objects.values_list("name", "pk")
    return {name: reverse("admin:routing_policy_change", args=[pk]) for name, pk in rows}
