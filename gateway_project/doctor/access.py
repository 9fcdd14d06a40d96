"""Client keys and policies: who may ask for what, and whether somebody can answer."""

from __future__ import annotations

import time
from collections import defaultdict

from django.conf import settings
from django.db.models import Q
from django.utils import timezone

from gateway_project.doctor.findings import (
    ACCESS,
    ERROR,
    MOST_ALIKE,
    WARNING,
    Finding,
    Fix,
    Told,
    check,
    counted,
    page,
)
from inference import offered
from inference.admission import GENERATE
from routing import client_keys, filters, health, snapshot
from routing.client_keys import KeyRefused
from routing.decide import decide
from routing.models import ClientKey, Policy
from routing.types import Conditions, PolicyView, RequestFacts, Snapshot
from routing.validation import OPERATIONS

_GENERATES = {"generate", "admin"}
_WHY_REFUSED = {
    "expired": "It has expired.",
    "rotated": "It has been replaced by a newer one.",
    "disabled": "It is disabled.",
    "revoked": "It has been revoked.",
    "team_disabled": "Its team is disabled.",
}


@check("client_keys", "Every client key can use something", ACCESS)
def keys_can_use_something() -> Told:
    held = snapshot.current()
    active = ClientKey.objects.filter(enabled=True, revoked_at__isnull=True).exclude(expires_at__lte=timezone.now())
    limited = active.filter(
        Q(allowed_models__isnull=False) | Q(allowed_policies__isnull=False) | Q(allowed_providers__isnull=False)
    )
    # Many keys are limited alike, and each kind is looked at once.
    alike: dict[str, list[ClientKey]] = defaultdict(list)
    for key in limited.select_related("team"):
        if _GENERATES & set(key.scopes):
            alike[repr((key.allowed_models, key.allowed_policies, key.allowed_providers))].append(key)
    stuck = [key for keys in alike.values() if not _permits_anything(keys[0], held) for key in keys]
    for key in stuck[:MOST_ALIKE]:
        yield Finding(
            WARNING,
            f"The client key {key.name} can use nothing.",
            "No model and no policy that there is matches what it is limited to: each of its requests is refused.",
            Fix("Change what it may use, or revoke it.", page("routing_clientkey_change", key.pk)),
        )
    if len(stuck) > MOST_ALIKE:
        yield Finding(
            WARNING,
            f"{counted(len(stuck) - MOST_ALIKE, 'more client key')} can use nothing.",
            "Only the first of them are told here.",
            Fix("See the list.", page("routing_clientkey_changelist")),
        )
    yield f"{counted(active.count(), 'key')} in force."


def _permits_anything(key: ClientKey, held: Snapshot) -> bool:
    identity = key.identity
    if any(filters.permits(identity, model) for model in held.models):
        return True
    return any(offered.may_use(policy, identity) for policy in held.each_policy())


@check("ollama_key", "Ollama's clients without a key are served as was said", ACCESS)
def ollama_key_lets_in() -> Told:
    presented = settings.GATEWAY_OLLAMA_KEY
    if not presented:
        yield "GATEWAY_OLLAMA_KEY is not set: they are not served."
        return
    try:
        identity = client_keys.find(presented, snapshot.current(), now=time.time()).view.identity
        why = "" if identity.may(GENERATE) else f"It lacks the scope {GENERATE}."
    except KeyRefused as refused:
        why = _WHY_REFUSED.get(refused.reason, "There is no such client key.")
    if why:
        yield Finding(
            ERROR,
            "The client key in GATEWAY_OLLAMA_KEY cannot be used.",
            f"{why} Clients of Ollama that send no key are refused.",
            Fix(
                "Make a client key for them, put it into GATEWAY_OLLAMA_KEY and restart.", page("routing_clientkey_add")
            ),
        )
        return
    yield f"They are served in the name of the client key {identity.name}."


@check("policies", "Every policy has somebody to serve it now", ACCESS)
def policies_are_served() -> Told:
    held, conditions = snapshot.current(), health.read()
    policies = held.each_policy()
    unserved = [policy for policy in policies if not _is_served(policy, held, conditions)]
    pks = dict(Policy.objects.filter(name__in=[policy.name for policy in unserved]).values_list("name", "pk"))
    for policy in unserved[:MOST_ALIKE]:
        yield Finding(
            ERROR,
            f"Nobody can serve {policy.name} now.",
            _reasons(policy, held, conditions) or "It has no target that exists.",
            Fix(
                "Give it another target, or mend one of its own.",
                page("routing_policy_change", pks[policy.name])
                if policy.name in pks
                else page("routing_policy_changelist"),
                f"manage.py explain_route --model {policy.name}",
            ),
        )
    if len(unserved) > MOST_ALIKE:
        yield Finding(
            ERROR,
            f"Nobody can serve {counted(len(unserved) - MOST_ALIKE, 'more policy', 'more policies')} now.",
            "Only the first of them are told here.",
            Fix("See the list.", page("routing_policy_changelist"), "manage.py validate_policies"),
        )
    yield f"{len(policies)} looked at." if policies else "There is no policy."


def _is_served(policy: PolicyView, held: Snapshot, conditions: Conditions) -> bool:
    now = time.time()
    return any(
        decide(RequestFacts(model=policy.name, operation=operation), held, conditions, now=now).candidates
        for operation in OPERATIONS
    )


def _reasons(policy: PolicyView, held: Snapshot, conditions: Conditions) -> str:
    decision = decide(RequestFacts(model=policy.name, operation=OPERATIONS[0]), held, conditions, now=time.time())
    details = dict.fromkeys(f"{dropped.route}: {dropped.detail}" for dropped in decision.dropped)
    return "; ".join(list(details)[:3])
