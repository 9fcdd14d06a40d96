"""What a model costs, and who says so. Pure: rows and time are arguments, the list is data that is read on first use.

The first that knows the model counts, as a whole: what it leaves empty stays unknown and is not filled from the next one, so no
price is put together from two. They are, in order:

1. the overrides of the provider, then those for any provider: of the longest prefix that fits, the newest that holds already;
2. the prices on the model's own row;
3. nothing to pay, where the provider runs on one's own machines;
4. the list price of the vendor; see `providers.price_list`.

Where nobody knows, the price is unknown: None, never zero.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal

from providers import price_list, pricing
from providers.price_list import ListPrice
from providers.pricing import USD

OWN, OVERRIDE, LIST, FREE = "own", "override", "list", "free"


@dataclass(frozen=True, slots=True)
class Prices:
    """Money per million tokens; None is unknown, never zero."""

    input_cost_per_million: Decimal | None = None
    output_cost_per_million: Decimal | None = None
    cached_input_cost_per_million: Decimal | None = None
    currency: str = USD
    source: str = ""
    """Where they come from: `own` (the model's row), `override`, `list`, `free`, or empty where nothing is known."""
    note: str = ""
    """The source in words, with its date or version."""
    document: str = field(init=False, compare=False, repr=False)
    """As the ledger keeps them with what was paid by them: JSON."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "document", _document(self))

    @property
    def known(self) -> bool:
        return self.input_cost_per_million is not None and self.output_cost_per_million is not None

    def cost(self, *, input_tokens: int, output_tokens: int, cached_tokens: int = 0) -> Decimal | None:
        """What a call costs in this currency; None when a price that is needed is unknown. No more counts as cached than was asked."""
        return pricing.cost(
            self.input_cost_per_million,
            self.output_cost_per_million,
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            cached_tokens=min(cached_tokens, input_tokens),
            cached_input_cost_per_million=self.cached_input_cost_per_million,
        )

    @property
    def says_something(self) -> bool:
        """A price for cached input alone prices nothing."""
        return self.input_cost_per_million is not None or self.output_cost_per_million is not None


def _document(prices: Prices) -> str:
    told = {
        "input": prices.input_cost_per_million,
        "output": prices.output_cost_per_million,
        "cached_input": prices.cached_input_cost_per_million,
    }
    known = {name: format(price.normalize(), "f") for name, price in told.items() if price is not None}
    if not known:
        return ""
    return json.dumps({**known, "source": prices.source, "note": prices.note[:_LONGEST_NOTE]}, separators=(",", ":"))


def of_document(document: str, currency: str) -> Prices:
    """The prices that a row of the ledger keeps; see `Prices.document`. Raises `ValueError` where it is none."""
    told = json.loads(document) if document else {}
    price = {name: Decimal(told[name]) for name in ("input", "output", "cached_input") if name in told}
    return Prices(
        price.get("input"),
        price.get("output"),
        price.get("cached_input"),
        currency,
        told.get("source", ""),
        told.get("note", ""),
    )


_LONGEST_NOTE = 80


UNKNOWN = Prices()
NOTHING_TO_PAY = Prices(Decimal(0), Decimal(0), Decimal(0), source=FREE, note="runs on your own machines")


@dataclass(frozen=True, slots=True)
class PriceRule:
    """An override as resolution looks at it. `provider_id` is empty for any provider, `valid_from` in epoch seconds."""

    model_prefix: str
    valid_from: float
    prices: Prices
    provider_id: str = ""


def resolve(
    provider_id: str,
    provider_type: str,
    model_id: str,
    own: Prices = UNKNOWN,
    free: bool = False,
    overrides: Sequence[PriceRule] = (),
    at: float = 0.0,
    *,
    base_url: str = "",
) -> Prices:
    """The prices of one model at the epoch second `at`. `free` says that a call of the provider costs no money."""
    return Book(overrides, at).prices(provider_id, provider_type, model_id, own, free, base_url=base_url)


@dataclass(slots=True)
class Book:
    """Resolution for many models at one moment; `changes_at` is the next epoch second at which one of its answers may differ."""

    overrides: Iterable[PriceRule]
    at: float
    changes_at: float | None = None
    _in_force: dict[str, dict[str, PriceRule]] = field(default_factory=lambda: defaultdict(dict))
    _lengths: dict[str, list[int]] = field(default_factory=dict)
    """Of the prefixes, by provider, longest first: thousands of rules have few."""

    def __post_init__(self) -> None:
        for rule in sorted(self.overrides, key=lambda rule: rule.valid_from):
            if rule.valid_from > self.at:
                self._changes_by(rule.valid_from)
                break
            self._in_force[rule.provider_id][rule.model_prefix] = rule
        for provider_id, rules in self._in_force.items():
            self._lengths[provider_id] = sorted({len(prefix) for prefix in rules}, reverse=True)

    def prices(
        self, provider_id: str, provider_type: str, model_id: str, own: Prices, free: bool, *, base_url: str = ""
    ) -> Prices:
        rule = self._rule(provider_id, model_id) or self._rule("", model_id)
        if rule is not None:
            return rule.prices
        if own.says_something:
            return replace(own, source=OWN, note=own.note or "entered on the model")
        if free:
            return NOTHING_TO_PAY
        listed = price_list.find(provider_type, model_id, self.at, base_url)
        return UNKNOWN if listed is None else self._listed(listed)

    def _listed(self, listed: ListPrice) -> Prices:
        if listed.changes_at is not None:
            self._changes_by(listed.changes_at)
        prices = Prices(
            listed.input_cost_per_million,
            listed.output_cost_per_million,
            listed.cached_input_cost_per_million,
            source=LIST,
            note=listed.note,
        )
        return prices if prices.says_something else UNKNOWN

    def _rule(self, provider_id: str, model_id: str) -> PriceRule | None:
        rules = self._in_force.get(provider_id)
        if not rules:
            return None
        for length in self._lengths[provider_id]:
            rule = rules.get(model_id[:length])
            if rule is not None:
                return rule
        return None

    def _changes_by(self, moment: float) -> None:
        self.changes_at = moment if self.changes_at is None else min(self.changes_at, moment)
