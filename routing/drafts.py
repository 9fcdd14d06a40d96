"""A policy as its editor shows it: the registry of a snapshot with one document in place of, or beside, those that count. Pure.

Only this policy is resolved anew, as each key that is typed asks for it; `resolving.with_document` does so for all that name it.
"""

from __future__ import annotations

from dataclasses import replace

from routing.policy_documents import PolicyDocument
from routing.resolving import Resolving
from routing.types import PolicyView, Snapshot


def with_draft(snapshot: Snapshot, name: str, kind: str, document: PolicyDocument) -> Snapshot:
    """The snapshot in which the policy says `document`, to all clients; an override that stands over it still does."""
    version = Resolving.over(snapshot, name, kind, document).version(name, 0, document)
    held = snapshot.policies.get(name)
    if held is not None and held.name == name:
        draft = replace(held, kind=kind, active=version, candidate=None, share=0, stands_for="")
    else:
        draft = PolicyView(name, kind, version)
    return replace(snapshot, policies={**snapshot.policies, name: draft, f"{kind}/{name}": draft})
