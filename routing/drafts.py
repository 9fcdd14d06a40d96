"""A policy as it would be: the registry of a snapshot with one document in place of, or beside, those that count. Pure but for
the resolving, which the building of snapshots does the same way."""

from __future__ import annotations

from dataclasses import replace

from routing.policy_documents import PolicyDocument
from routing.policy_views import Resolving
from routing.types import PolicyView, Snapshot
from routing.validation import policies_of


def with_draft(snapshot: Snapshot, name: str, kind: str, document: PolicyDocument) -> Snapshot:
    """The snapshot in which the policy says `document`, to all clients; an override that stands over it still does."""
    policies = policies_of(snapshot)
    documents = {policy.name: policy.active.document for policy in policies} | {name: document}
    kinds = {policy.name: policy.kind for policy in policies} | {name: kind}
    version = Resolving(documents, kinds, snapshot.models, snapshot.by_name).version(name, 0, document)
    held = snapshot.policies.get(name)
    if held is not None and held.name == name:
        draft = replace(held, kind=kind, active=version, candidate=None, share=0)
    else:
        draft = PolicyView(name, kind, version)
    return replace(snapshot, policies={**snapshot.policies, name: draft, f"{kind}/{name}": draft})
