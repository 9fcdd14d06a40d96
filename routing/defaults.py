"""Which model serves where none is named: the policy `default`, moved to another model in one step."""

from __future__ import annotations

from typing import Any

from django.db import transaction

from providers import ownership
from routing import policy_actions
from routing.live_models import DEFAULT
from routing.models import Policy, RoutingSettings


def make_default(provider_id: str, model_id: str, *, note: str = "") -> Policy:
    """From the next request on this model is the default; the one before becomes the first fallback.

    A policy that is made for it also serves the requests that name no model, where no other does. Raises
    `ownership.OwnedByFile` for a policy that a configuration file owns.
    """
    target = {"model": model_id, "provider": provider_id}
    note = note or f"{provider_id}/{model_id} made the default"
    with transaction.atomic():
        policy = Policy.objects.select_for_update().filter(name=DEFAULT).first()
        if policy is None:
            policy = policy_actions.create(
                {"name": DEFAULT, "kind": "alias", "document": {"targets": [target]}}, note=note
            )
            _serve_the_nameless()
            return policy
        ownership.refuse_if_owned(policy)
        return policy_actions.update(policy, {"document": _moved(policy.document, target)}, note=note)


def _moved(document: dict[str, Any], target: dict[str, Any]) -> dict[str, Any]:
    new = f"{target['provider']}/{target['model']}"
    before = [_name(one) for one in document.get("targets", ()) if one.get("model")]
    chain = dict.fromkeys([*before[:1], *document.get("fallbacks", ())])
    fallbacks = [name for name in chain if name not in (new, target["model"])]
    moved = {**document, "targets": [target], "fallbacks": fallbacks}
    return moved if fallbacks else {name: value for name, value in moved.items() if name != "fallbacks"}


def _name(target: dict[str, Any]) -> str:
    return f"{target['provider']}/{target['model']}" if target.get("provider") else target["model"]


def _serve_the_nameless() -> None:
    settings = RoutingSettings.load()
    if not settings.default_policy and not settings.managed_by:
        settings.default_policy = DEFAULT
        settings.save()
