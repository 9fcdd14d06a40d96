"""What the recorder's thread counts of the requests that it writes down: tokens, money, times and capabilities by model.

Nothing of it is on the request path, which counts only what no row tells.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from providers.pricing import USD
from routing.rollout import LEGACY

if TYPE_CHECKING:
    from inference.deciding import Ruling
    from inference.metrics import Metrics
    from inference.recording import Entry, Row


def tally(metrics: Metrics, entries: Sequence[Entry], rows: Sequence[Row]) -> None:
    """Count what was done for clients and what it cost, failed tries that were paid for included. What the legacy side
    served cost nothing here."""
    tokens, cost = metrics.tokens, metrics.cost
    for entry, row in zip(entries, rows, strict=True):
        if row.side == LEGACY or not row.model_id:
            continue
        provider, model = row.provider_id, row.model_id
        tokens[provider, model, "input"] += row.input_tokens
        tokens[provider, model, "output"] += row.output_tokens
        if row.cost is not None and row.currency == USD:
            cost[provider, model] += row.cost
        elif row.status < 400:
            metrics.unpriced[provider, model] += 1
        for paid in row.paid:
            tokens[paid.provider_id, paid.model_id, "input"] += paid.input_tokens
            tokens[paid.provider_id, paid.model_id, "output"] += paid.output_tokens
            if paid.cost is not None and paid.currency == USD:
                cost[paid.provider_id, paid.model_id] += paid.cost
        metrics.answered[provider, model].observe(entry.duration)
        if entry.ruling is not None:
            for capability in demanded(entry.ruling, entry.stream):
                metrics.demanded[capability] += 1


def demanded(ruling: Ruling, stream: bool) -> frozenset[str]:
    """The capabilities that a request and its policy asked of a model."""
    facts, decision = ruling.facts, ruling.decision
    wanted = facts.capabilities
    if stream:
        wanted |= {"streaming"}
    if facts.require_vision or facts.images:
        wanted |= {"vision"}
    policy = ruling.snapshot.policies.get(decision.policy) if decision.policy else None
    if policy is not None:
        required = policy.active.document.requirements
        wanted |= required.capabilities
        if required.vision:
            wanted |= {"vision"}
        if required.reasoning:
            wanted |= {"reasoning"}
    return wanted
