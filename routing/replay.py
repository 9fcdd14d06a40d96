"""What past requests would have come to under another policy, without asking any model. Pure.

Each request is decided twice, in the registry of today: as it is now and as it would be. Both under nominal conditions, with the
same chance drawn from the request's own name, so nothing but the two registries can make a difference, and the active policy
replayed against itself makes none. What really happened stands beside it: it came from the conditions and prices of its day.

Tokens are those that the upstream counted, where anybody counted; each side's cost is those tokens at its model's price of today.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from decimal import Decimal
from hashlib import blake2b
from typing import NamedTuple

from providers import pricing
from providers.pricing import USD
from routing import estimates
from routing.decide import decide
from routing.types import NOMINAL, UNSEEN, Dropped, ModelView, RequestFacts, RouteDecision, Snapshot

MOST_DIFFERENCES = 1000
"""Pairs of models that are told apart; the requests of further ones are counted together."""
MOST_EXAMPLES = 20
_MOST_REMEMBERED = 100_000
_MANY_OTHERS = "others"
_STEPS = 2**64


class Past(NamedTuple):
    """A request and what became of it. `route` is empty when nobody served it, or nobody knows who did."""

    request_id: str
    facts: RequestFacts
    route: str = ""
    status: int = 0
    at: str = ""
    """As people read it."""
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int = 0
    cost: Decimal | None = None
    """USD."""
    estimated: bool = False
    """Nobody counted the tokens: those that are told are an estimate, and where none are told one is made. Otherwise a request
    without tokens has no known cost."""


class Choice(NamedTuple):
    """Whom one side would ask first."""

    model: ModelView | None
    reason: str = ""
    """Why nobody could serve: the code that decided it."""
    limited: bool = False
    """A limit of cost kept a model out."""

    @property
    def route(self) -> str:
        return "" if self.model is None else self.model.route


class Compared(NamedTuple):
    past: Past
    before: Choice
    after: Choice
    cost_before: Decimal | None
    cost_after: Decimal | None

    @property
    def differs(self) -> bool:
        return self.before.route != self.after.route or self.before.reason != self.after.reason


@dataclass(slots=True)
class SideSums:
    """Of one side. `cost` sums the requests whose price is known there; the others are counted in `unknown`."""

    served: int = 0
    refused: int = 0
    limited: int = 0
    """Requests for which a limit of cost kept a model out, whether another one served or not."""
    unknown: int = 0
    cost: Decimal = Decimal(0)
    reasons: Counter[str] = field(default_factory=Counter)
    """Why nobody could serve."""
    models: Counter[str] = field(default_factory=Counter)

    def take(self, choice: Choice, cost: Decimal | None) -> None:
        self.limited += choice.limited
        if choice.model is None:
            self.refused += 1
            self.reasons[choice.reason] += 1
            return
        self.served += 1
        self.models[choice.model.route] += 1
        if cost is None:
            self.unknown += 1
        else:
            self.cost += cost


@dataclass(slots=True)
class Difference:
    """Requests that go from one model to another, or to a refusal and back; costs of those whose cost is known on both sides."""

    before: str
    after: str
    requests: int = 0
    cost_before: Decimal = Decimal(0)
    cost_after: Decimal = Decimal(0)


@dataclass(slots=True)
class Report:
    requests: int = 0
    happened_cost: Decimal = Decimal(0)
    happened_unknown: int = 0
    as_happened: int = 0
    """Requests that the active side would send where they went."""
    served_then: int = 0
    estimated: int = 0
    """Requests whose tokens nobody counted."""
    before: SideSums = field(default_factory=SideSums)
    after: SideSums = field(default_factory=SideSums)
    comparable: int = 0
    """Requests whose cost is known on both sides: what the next two sum up."""
    comparable_before: Decimal = Decimal(0)
    comparable_after: Decimal = Decimal(0)
    different: int = 0
    newly_refused: int = 0
    newly_served: int = 0
    newly_limited: int = 0
    refused_clients: Counter[str] = field(default_factory=Counter)
    """By the client key's prefix: requests that are served now and would not be."""
    differences: dict[tuple[str, str], Difference] = field(default_factory=dict)
    examples: list[Compared] = field(default_factory=list)

    @property
    def saving(self) -> float | None:
        """The share of the cost that the other side saves; below zero when it costs more."""
        if not self.comparable_before:
            return None
        return float(1 - self.comparable_after / self.comparable_before)

    def take(self, one: Compared) -> None:
        self.requests += 1
        self._take_what_happened(one)
        self.before.take(one.before, one.cost_before)
        self.after.take(one.after, one.cost_after)
        if one.cost_before is not None and one.cost_after is not None:
            self.comparable += 1
            self.comparable_before += one.cost_before
            self.comparable_after += one.cost_after
        self.newly_limited += one.after.limited and not one.before.limited
        if one.differs:
            self._take_difference(one)

    def _take_what_happened(self, one: Compared) -> None:
        past = one.past
        self.estimated += past.estimated
        if not past.route:
            return
        self.served_then += 1
        self.as_happened += past.route == one.before.route
        if past.cost is None:
            self.happened_unknown += 1
        else:
            self.happened_cost += past.cost

    def _take_difference(self, one: Compared) -> None:
        self.different += 1
        if one.after.model is None and one.before.model is not None:
            self.newly_refused += 1
            identity = one.past.facts.identity
            self.refused_clients["" if identity is None else identity.prefix] += 1
        elif one.before.model is None and one.after.model is not None:
            self.newly_served += 1
        pair = (_named(one.before), _named(one.after))
        if pair not in self.differences and len(self.differences) >= MOST_DIFFERENCES:
            pair = (_MANY_OTHERS, _MANY_OTHERS)
        difference = self.differences.setdefault(pair, Difference(*pair))
        difference.requests += 1
        if one.cost_before is not None and one.cost_after is not None:
            difference.cost_before += one.cost_before
            difference.cost_after += one.cost_after
        if difference.requests == 1 and len(self.examples) < MOST_EXAMPLES:
            self.examples.append(one)


def _named(choice: Choice) -> str:
    return choice.route or f"refused: {choice.reason}"


def replay(
    pasts: Iterable[Past], before: Snapshot, after: Snapshot, *, now: float, always: str = ""
) -> Iterator[Compared]:
    """Both sides' choices for each request. With `always`, the side before asks that one model whatever is asked for: what
    requests would cost without routing."""
    first, second = _Side(before, now, always), _Side(after, now)
    for past in pasts:
        one, other = first.choose(past), second.choose(past)
        yield Compared(past, one, other, cost(past, one.model), cost(past, other.model))


def report(compared: Iterable[Compared]) -> Report:
    told = Report()
    for one in compared:
        told.take(one)
    return told


def cost(past: Past, model: ModelView | None) -> Decimal | None:
    """USD that the request's tokens cost at a model; None when that is not known. What was cached counts as cached only where it
    was."""
    told, answered = past.input_tokens, past.output_tokens
    if model is None or model.prices.currency != USD or (told is None and not past.estimated):
        return None
    facts, prices = past.facts, model.prices
    return pricing.cost(
        prices.input_cost_per_million,
        prices.output_cost_per_million,
        input_tokens=estimates.input_tokens(facts, UNSEEN) if told is None else told,
        output_tokens=estimates.output_tokens(facts, model) if answered is None else answered,
        cached_tokens=past.cached_tokens if model.route == past.route else 0,
        cached_input_cost_per_million=prices.cached_input_cost_per_million,
    )


class _Side:
    """One registry's choices. Requests alike are decided once, where the decision says that it holds for them all."""

    def __init__(self, snapshot: Snapshot, now: float, always: str = "") -> None:
        self._snapshot, self._now, self._always = snapshot, now, always
        self._known: dict[tuple[object, ...], tuple[Choice, int | None]] = {}

    def choose(self, past: Past) -> Choice:
        facts = past.facts
        question = _question(facts)
        known = self._known.get(question)
        if known is not None and (known[1] is None or facts.prompt_bytes < known[1]):
            return known[0]
        decision = decide(self._asked(facts), self._snapshot, NOMINAL, now=self._now, chance=_chance(past.request_id))
        choice, steady = _choice(decision), decision.steady_bytes
        if not decision.varies and (steady is None or facts.prompt_bytes < steady):
            if len(self._known) >= _MOST_REMEMBERED:
                self._known.clear()
            self._known[question] = choice, steady
        return choice

    def _asked(self, facts: RequestFacts) -> RequestFacts:
        if not self._always:
            return facts
        return replace(facts, model=self._always, provider_id=None, preferred_model=None, task="", strategy="")


def _question(facts: RequestFacts) -> tuple[object, ...]:
    """What requests alike have in common. Length, session and key are missing: a decision that depends on them says so."""
    identity = facts.identity
    return (
        facts.model,
        facts.operation,
        facts.provider_id,
        None if identity is None else (identity.allowed_models, identity.allowed_policies, identity.allowed_providers),
        facts.preferred_model,
        facts.require_vision,
        facts.images,
        facts.max_cost,
        facts.input_tokens,
        facts.task,
        facts.capabilities,
        facts.max_cost_tier,
        facts.local_only,
        facts.data_tags,
        facts.strategy,
    )


def _chance(request_id: str) -> float:
    """The same for the same request, evenly spread."""
    digest = blake2b(request_id.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return (int.from_bytes(digest, "little") >> 11) * 2048 / _STEPS


def _choice(decision: RouteDecision) -> Choice:
    limited = any(dropped.reason == "max_cost" for dropped in decision.dropped)
    if decision.candidates:
        return Choice(decision.candidates[0].model, "", limited)
    return Choice(None, _why_nobody(decision.dropped), limited)


_TELLING = ("max_cost", "price_unknown", "prompt_too_long", "missing_capability", "missing_vision", "cost_tier")
"""Reasons in the order in which they tell most: what would have served but for this."""


def _why_nobody(dropped: Iterable[Dropped]) -> str:
    reasons = Counter(one.reason for one in dropped)
    telling = next((reason for reason in _TELLING if reason in reasons), None)
    if telling is not None:
        return telling
    return reasons.most_common(1)[0][0] if reasons else "unknown_model"
