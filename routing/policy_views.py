"""Policies as the snapshot holds them, from their rows."""

from __future__ import annotations

from collections.abc import Sequence

from django.utils import timezone

from routing import policy_documents, rollout
from routing.models import Override, Policy
from routing.policy_documents import BadPolicy, PolicyDocument
from routing.resolving import Named, Resolving, by_every_name
from routing.types import ModelView, OverrideView, PolicyView

__all__ = ["Resolving", "build"]


def build(models: Sequence[ModelView], by_name: Named, notes: list[str]) -> dict[str, PolicyView]:
    """Every enabled policy by its name, and by `kind/name`. What does not read is left out and named in `notes`."""
    documents: dict[str, PolicyDocument] = {}
    rows: dict[str, Policy] = {}
    for row in Policy.objects.filter(enabled=True):
        try:
            documents[row.name] = policy_documents.read(row.document)
        except BadPolicy as error:
            notes.append(f"policy {row.name}: {error}")
            continue
        rows[row.name] = row
    resolving = Resolving(documents, {name: row.kind for name, row in rows.items()}, models, by_name)
    overrides = _overrides(resolving)
    found = [_view(row, documents[name], resolving, overrides.get(row.pk), notes) for name, row in rows.items()]
    return by_every_name(found)


def _view(
    row: Policy, document: PolicyDocument, resolving: Resolving, override: OverrideView | None, notes: list[str]
) -> PolicyView:
    candidate = None
    if row.candidate is not None and row.candidate_version is not None:
        try:
            candidate = resolving.version(row.name, row.candidate_version, policy_documents.read(row.candidate))
        except BadPolicy as error:
            notes.append(f"policy {row.name}, candidate: {error}")
    return PolicyView(
        name=row.name,
        kind=row.kind,
        description=row.description,
        active=resolving.version(row.name, row.version, document),
        candidate=candidate,
        share=rollout.buckets_below(row.candidate_percentage) if candidate is not None else 0,
        salt=row.salt.encode(),
        override=override,
    )


def _overrides(resolving: Resolving) -> dict[int, OverrideView]:
    live = Override.objects.exclude(expires_at__lte=timezone.now())
    return {
        row.policy_id: OverrideView(
            row.target,
            tuple(resolving.named(row.target)),
            row.expires_at.timestamp() if row.expires_at is not None else None,
        )
        for row in live
    }
