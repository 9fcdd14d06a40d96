"""Replaying a policy: which two registries are compared, and which requests through both."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from routing import policy_documents, strategies
from routing.models import Policy, PolicyVersion
from routing.replay import Compared, Past, Report, replay
from routing.resolving import with_document
from routing.types import Snapshot

ACTIVE = "active"


class CannotReplay(Exception):
    """The sentence is for people."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is replayed: the registry as it is and as it would be, and what the two sides are called."""

    policy: str
    before: Snapshot
    after: Snapshot
    before_named: str
    after_named: str
    names: tuple[str, ...]
    """Under which clients ask for the policy."""
    always: str = ""
    notes: tuple[str, ...] = ()


def plan(
    snapshot: Snapshot,
    name: str,
    *,
    document: Mapping[str, Any] | None = None,
    version: int | None = None,
    always: str = "",
) -> Plan:
    """Without a document or a version the active policy is compared with itself. Raises `CannotReplay`, and `BadPolicy` for a
    document that says nothing sensible."""
    row = Policy.objects.filter(name=name).first()
    if row is None:
        raise CannotReplay(f"No policy is named {name!r}.")
    held = snapshot.policies.get(name)
    if held is None:
        raise CannotReplay(f"The policy {name!r} serves nobody now: it is disabled, or does not read.")
    if always and always not in snapshot.by_name and always not in snapshot.policies:
        raise CannotReplay(f"No model is named {always!r}.")
    active = held.active.document
    if document is not None:
        draft, named = policy_documents.read(document, strategies.names()), "draft"
    elif version is not None:
        draft, named = policy_documents.read(_version(row, version)), f"version {version}"
    else:
        draft, named = active, f"active version {row.version}"
    return Plan(
        policy=name,
        before=with_document(snapshot, name, active, number=row.version),
        after=with_document(snapshot, name, draft, number=version or 0),
        before_named=f"always {always}" if always else f"active version {row.version}",
        after_named=named,
        names=(name, f"{held.kind}/{name}", *_renamed(snapshot, name)),
        always=always,
        notes=tuple(_notes(snapshot, name)),
    )


def _version(row: Policy, number: int) -> Mapping[str, Any]:
    found = PolicyVersion.objects.filter(policy=row, number=number).first()
    if found is not None:
        return dict(found.document)
    if row.candidate is not None and row.candidate_version == number:
        return dict(row.candidate)
    raise CannotReplay(f"The policy {row.name!r} has no version {number}.")


def _renamed(snapshot: Snapshot, name: str) -> Iterator[str]:
    for known, view in snapshot.policies.items():
        if view.stands_for == name:
            yield known


def _notes(snapshot: Snapshot, name: str) -> Iterator[str]:
    held = snapshot.policies[name]
    if held.override is not None:
        yield f"An override puts {held.override.target} over the policy now; it is left out on both sides."
    if held.candidate is not None:
        yield "A version is on trial now; both sides are shown without it."


def run(
    plan: Plan,
    pasts: Iterator[Past],
    *,
    seconds: float | None = None,
    progress: Callable[[int], None] = lambda requests: None,
    every: int = 1000,
) -> tuple[Report, bool]:
    """The report, and whether it ended early because the time was up. `progress` is told how many requests are done."""
    told = Report()
    begun = time.monotonic()
    compared: Iterator[Compared] = replay(pasts, plan.before, plan.after, now=time.time(), always=plan.always)
    for one in compared:
        told.take(one)
        if told.requests % every == 0:
            progress(told.requests)
            if seconds is not None and time.monotonic() - begun > seconds:
                return told, True
    progress(told.requests)
    return told, False


def document_of(plan: Plan, report: Report, *, cut: bool = False) -> dict[str, Any]:
    """The report as plain values."""
    return {
        "policy": plan.policy,
        "before": plan.before_named,
        "after": plan.after_named,
        "requests": report.requests,
        "cut": cut,
        "notes": list(plan.notes),
        "estimated": report.estimated,
        "happened": {
            "served": report.served_then,
            "as_before": report.as_happened,
            "cost_usd": str(report.happened_cost),
            "cost_unknown": report.happened_unknown,
        },
        "sides": {
            side: {
                "served": sums.served,
                "refused": sums.refused,
                "limited_by_cost": sums.limited,
                "cost_usd": str(sums.cost),
                "cost_unknown": sums.unknown,
                "reasons": dict(sums.reasons.most_common()),
                "models": dict(sums.models.most_common()),
            }
            for side, sums in (("before", report.before), ("after", report.after))
        },
        "comparable": {
            "requests": report.comparable,
            "before_usd": str(report.comparable_before),
            "after_usd": str(report.comparable_after),
            "saving": report.saving,
        },
        "different": report.different,
        "newly_refused": report.newly_refused,
        "newly_served": report.newly_served,
        "newly_limited_by_cost": report.newly_limited,
        "refused_clients": dict(report.refused_clients.most_common(20)),
        "differences": [
            {
                "before": one.before,
                "after": one.after,
                "requests": one.requests,
                "before_usd": str(one.cost_before),
                "after_usd": str(one.cost_after),
            }
            for one in sorted(report.differences.values(), key=lambda one: -one.requests)
        ],
        "examples": [_example(one) for one in report.examples],
    }


def _example(one: Compared) -> dict[str, Any]:
    return {
        "request_id": one.past.request_id,
        "at": one.past.at,
        "model": one.past.facts.model,
        "happened": one.past.route or None,
        "status": one.past.status,
        "before": one.before.route or f"refused: {one.before.reason}",
        "after": one.after.route or f"refused: {one.after.reason}",
        "before_usd": None if one.cost_before is None else str(one.cost_before),
        "after_usd": None if one.cost_after is None else str(one.cost_after),
    }
