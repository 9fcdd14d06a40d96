"""What routing saved: what the requests of a policy cost, beside what the same tokens cost at each other model it may choose.

By the sums of tokens, so a year is told in a moment. Prices are today's, as nobody knows what a model would have cost that was not
asked; so the cost is told again at today's prices, too, and that is what others are compared with. Whether the other model would
have answered as well, or in as many tokens, is not known: `replay_policy` decides each past request anew.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.db.models import Sum

from inference.models import TagRollup, UsageRollup
from inference.spend_reports import EVERYTHING, BadReport, Question, Sight, narrowed
from providers.pricing import USD
from routing.types import ModelView, Snapshot

CURRENCY = USD
_TOKENS = ("input_tokens", "output_tokens", "cached_tokens")


@dataclass(frozen=True, slots=True)
class Tokens:
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0

    def plus(self, other: Tokens) -> Tokens:
        return Tokens(*(getattr(self, name) + getattr(other, name) for name in _TOKENS))

    def cost_at(self, model: ModelView) -> Decimal | None:
        """None where a price that is needed is unknown."""
        prices = model.prices
        if prices.currency != CURRENCY:
            return None
        return prices.cost(
            input_tokens=self.input_tokens, output_tokens=self.output_tokens, cached_tokens=self.cached_tokens
        )


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """All requests of a policy at one model."""

    route: str
    cost: Decimal
    saved: Decimal
    """What the policy cost less than that; negative where it cost more."""

    @property
    def percent(self) -> Decimal:
        """Of what it would have cost."""
        return 100 * self.saved / self.cost if self.cost else Decimal(0)


@dataclass(frozen=True, slots=True)
class Saving:
    """A policy and a kind of request. `charged` is by the ledger with later corrections; `cost` is the same tokens at today's prices."""

    policy: str
    operation: str
    requests: int
    tokens: Tokens
    charged: Decimal
    cost: Decimal
    unknown: int
    """Requests to models whose prices are not known today; they are left out of everything but `requests`."""
    elsewhere: tuple[Elsewhere, ...]
    """The dearest first."""

    @property
    def against_dearest(self) -> Elsewhere | None:
        return self.elsewhere[0] if self.elsewhere else None


def report(question: Question, snapshot: Snapshot, *, against: str = "", sight: Sight = EVERYTHING) -> list[Saving]:
    """By policy, the largest saving against its dearest model first. `against` compares with that one model alone.

    Raises `BadReport` when no model is named so.
    """
    others = _named(snapshot, against) if against else None
    savings = [
        _saving(policy, operation, parts, snapshot, others)
        for (policy, operation), parts in _used(question, sight).items()
    ]
    return sorted(savings, key=_by_saving, reverse=True)


def _by_saving(saving: Saving) -> tuple[Decimal, int]:
    best = saving.against_dearest
    return best.saved if best is not None else Decimal(0), saving.requests


def _named(snapshot: Snapshot, name: str) -> list[ModelView]:
    found = [model for model in snapshot.models if name in (model.route, model.model_id)]
    if not found:
        raise BadReport("against", f"No model is named {name!r}.")
    return found


def _used(question: Question, sight: Sight) -> dict[tuple[str, str], list[dict[str, Any]]]:
    sums = TagRollup if question.tag else UsageRollup
    rows = narrowed(question, sight, sums.objects.filter(currency=CURRENCY)).exclude(policy="")
    names = ("requests", *_TOKENS, "cost", "correction")
    by = ("policy", "operation", "provider_id", "model_id")
    found: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for row in rows.order_by().values(*by).annotate(**{f"sum_{name}": Sum(name) for name in names}):
        if row["provider_id"]:
            found[row["policy"], row["operation"]].append(row)
    return found


def _saving(
    policy: str, operation: str, parts: list[dict[str, Any]], snapshot: Snapshot, others: list[ModelView] | None
) -> Saving:
    by_route = {(model.provider.provider_id, model.model_id): model for model in snapshot.models}
    tokens, cost, charged, unknown = Tokens(), Decimal(0), Decimal(0), 0
    for part in parts:
        used = Tokens(*(part[f"sum_{name}"] for name in _TOKENS))
        model = by_route.get((part["provider_id"], part["model_id"]))
        spent = None if model is None else used.cost_at(model)
        if spent is None:
            unknown += part["sum_requests"]
            continue
        tokens, cost = tokens.plus(used), cost + spent
        charged += part["sum_cost"] + part["sum_correction"]
    models = others if others is not None else _choices(snapshot, policy)
    elsewhere = sorted(_elsewhere(models, tokens, cost), key=lambda one: (-one.cost, one.route))
    requests = sum(part["sum_requests"] for part in parts)
    return Saving(policy, operation, requests, tokens, charged, cost, unknown, tuple(elsewhere))


def _elsewhere(models: Iterable[ModelView], tokens: Tokens, cost: Decimal) -> Iterator[Elsewhere]:
    for model in models:
        would = tokens.cost_at(model)
        if would is not None:
            yield Elsewhere(model.route, would, would - cost)


def _choices(snapshot: Snapshot, policy: str) -> list[ModelView]:
    """The models that the policy names today, its fallbacks too, each once; none when it is gone."""
    held = snapshot.policies.get(policy)
    if held is None:
        return []
    version = held.active
    return list({target.model.route: target.model for target in (*version.targets, *version.fallbacks)}.values())
