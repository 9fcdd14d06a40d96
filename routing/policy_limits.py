"""What a policy is to a client key that is limited to some policies. Pure.

Such a key gets whatever an allowed policy itself chooses. Where that choice fails, the chain ends at policies that the key is not
allowed, even where the allowed one names them as its fallbacks.
"""

from __future__ import annotations

from typing import Any

from routing import filters
from routing.resolving import Resolving
from routing.types import Identity, PolicyVersionView, PolicyView, Snapshot

_MOST_REMEMBERED = 1000


def limited(
    policy: PolicyView, version: PolicyVersionView, snapshot: Snapshot, identity: Identity
) -> PolicyVersionView:
    """The version as it serves the key; worked out once for all keys with the same limits, as long as the registry stays."""
    known: dict[Any, PolicyVersionView] = snapshot.memory.setdefault(limited, {})
    question = (policy.name, version.number, identity.allowed_policies)
    found = known.get(question)
    if found is None:
        if len(known) >= _MOST_REMEMBERED:
            known.clear()
        found = known[question] = _limited(policy, version, snapshot, identity)
    return found


def _limited(
    policy: PolicyView, version: PolicyVersionView, snapshot: Snapshot, identity: Identity
) -> PolicyVersionView:
    kinds = {view.name: view.kind for view in snapshot.each_policy()}

    def is_open(name: str) -> bool:
        return filters.permits_policy(identity, (name, f"{kinds.get(name, 'policy')}/{name}"))

    return Resolving.over(snapshot, policy.name, policy.kind, version.document).limited(version, policy.name, is_open)
