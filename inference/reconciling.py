"""The ledger against a provider's own account: figures of both by day and model, and what may explain a difference."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

from django.db.models import Count, Q, QuerySet, Sum
from django.db.models.functions import Coalesce, TruncDate

from inference import rating
from inference.invoices import Billed, Invoice
from inference.models import UsageRecord
from providers.models import ProviderModel
from routing.rollout import LEGACY

_DATED = re.compile(r"-(?:\d{8}|\d{4}-\d{2}-\d{2}|latest)$")
_NOT_LETTERS = re.compile(r"[^a-z0-9]+")
_NOTHING = Decimal(0)

MISSING_HERE = "only on the invoice: used past the gateway with the same key, or before it kept a ledger"
MISSING_THERE = "only in the ledger: the invoice is of another account or project, or not complete yet"
ESTIMATED = "estimated here: the provider did not say what streams that broke off or were left had used"
UNPRICED = "some of it has no price here: enter one and run rerate_usage"
PRICE = "the tokens agree and the money does not: another price, a discount or tax; correct it with rerate_usage"
DAYS = "close to midnight: the provider may count a request on the day after"
CACHE = "tokens out of a cache are counted differently"
UNKNOWN = "nothing in the ledger explains it"


@dataclass(slots=True)
class Booked:
    """The ledger's figures. Costs are the corrected ones where there are corrections."""

    requests: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    cost: Decimal = _NOTHING
    estimated: int = 0
    """How many of the requests."""
    estimated_tokens: int = 0
    unpriced: int = 0


@dataclass(slots=True)
class Compared:
    day: date
    model: str
    billed: Billed
    booked: Booked
    agrees: bool = True
    why: list[str] = field(default_factory=list)


def compare(
    invoice: Invoice,
    provider_id: str,
    *,
    tolerance: Decimal = Decimal("0.001"),
    aliases: Mapping[str, str] | None = None,
) -> list[Compared]:
    """Each day and model of either side. `tolerance` is a share, by which figures may differ and still agree; `aliases` names a model
    of the invoice as the ledger does."""
    if not invoice.billed:
        return []
    days = [day for day, _ in invoice.billed]
    booked = _booked(provider_id, min(days), max(days))
    billed = _by_our_names(invoice.billed, {model for _, model in booked}, aliases or {})
    found = []
    for day, model in sorted({*billed, *booked}):
        one = Compared(day, model, billed.get((day, model), Billed()), booked.get((day, model), Booked()))
        one.agrees = _agrees(one.billed, one.booked, tolerance)
        found.append(one)
    _explain(found, tolerance)
    return found


def upstream_names(provider_id: str) -> dict[str, str]:
    """What the provider calls the registry's models, where it has another name for them."""
    rows = ProviderModel.objects.filter(provider__provider_id=provider_id).values_list("model_id", "parameters")
    named = {own: (told or {}).get("upstream_model_id") for own, told in rows if isinstance(told, dict | None)}
    return {there: own for own, there in named.items() if there and there != own}


def _booked(provider_id: str, first: date, last: date) -> dict[tuple[date, str], Booked]:
    since = datetime(first.year, first.month, first.day, tzinfo=UTC)
    until = datetime(last.year, last.month, last.day, tzinfo=UTC) + timedelta(days=1)
    records: QuerySet[UsageRecord] = rating.costs(
        UsageRecord.objects.filter(provider_id=provider_id, at__gte=since, at__lt=until).exclude(side=LEGACY)
    )
    used = Q(input_tokens__gt=0) | Q(output_tokens__gt=0)
    rows = (
        records.annotate(day=TruncDate("at", tzinfo=UTC), counted=Coalesce("corrected", "cost"))
        .values("day", "model_id")
        .order_by("day", "model_id")
        .annotate(
            requests=Count("id", filter=used),
            input_sum=Sum("input_tokens"),
            cached_sum=Sum("cached_tokens"),
            output_sum=Sum("output_tokens"),
            cost_sum=Sum("counted"),
            guessed=Count("id", filter=Q(estimated=True) & used),
            guessed_input=Sum("input_tokens", filter=Q(estimated=True)),
            guessed_output=Sum("output_tokens", filter=Q(estimated=True)),
            unpriced=Count("id", filter=Q(counted=None) & used),
        )
    )
    return {
        (row["day"], row["model_id"]): Booked(
            row["requests"],
            row["input_sum"],
            row["cached_sum"],
            row["output_sum"],
            row["cost_sum"] or _NOTHING,
            row["guessed"],
            (row["guessed_input"] or 0) + (row["guessed_output"] or 0),
            row["unpriced"],
        )
        for row in rows
        if row["requests"]
    }


def _by_our_names(
    billed: Mapping[tuple[date, str], Billed], known: Iterable[str], aliases: Mapping[str, str]
) -> dict[tuple[date, str], Billed]:
    """A dated name, or the one in people's words, is the ledger's model where that one is alone in being like it."""
    like: dict[str, set[str]] = defaultdict(set)
    for name in known:
        like[_plain(name)].add(name)
    found: dict[tuple[date, str], Billed] = {}
    for (day, model), figures in billed.items():
        candidates = like.get(_plain(model), set())
        ours = aliases.get(model) or (model if model in candidates else "")
        key = day, ours or (next(iter(candidates)) if len(candidates) == 1 else model)
        found[key] = _sum(found[key], figures) if key in found else figures
    return found


def _plain(model: str) -> str:
    return _NOT_LETTERS.sub("-", _DATED.sub("", model.strip().lower())).strip("-")


def _sum(one: Billed, other: Billed) -> Billed:
    told = []
    for name in Billed.__slots__:
        pair = [figure for figure in (getattr(one, name), getattr(other, name)) if figure is not None]
        told.append(sum(pair[1:], pair[0]) if pair else None)
    return Billed(*told)


def _agrees(billed: Billed, booked: Booked, tolerance: Decimal) -> bool:
    if billed == Billed():
        return False
    return all(
        there is None or _alike(there, here, tolerance)
        for there, here in (
            (billed.input_tokens, booked.input_tokens),
            (billed.output_tokens, booked.output_tokens),
            (billed.cost, booked.cost),
        )
    )


def _alike(there: int | Decimal, here: int | Decimal, tolerance: Decimal) -> bool:
    return abs(there - here) <= tolerance * max(abs(there), abs(here))


def _explain(found: list[Compared], tolerance: Decimal) -> None:
    by_key = {(one.day, one.model): one for one in found}
    for one in found:
        if one.agrees:
            continue
        billed, booked = one.billed, one.booked
        if billed == Billed():
            one.why.append(MISSING_THERE)
            continue
        if booked == Booked():
            one.why.append(MISSING_HERE)
            continue
        tokens = billed.input_tokens is not None or billed.output_tokens is not None
        tokens_agree = tokens and _agrees(
            Billed(None, billed.input_tokens, None, billed.output_tokens), booked, tolerance
        )
        if tokens_agree:
            one.why.append(UNPRICED if booked.unpriced else PRICE)
        elif booked.estimated:
            one.why.append(f"{ESTIMATED} ({booked.estimated:,} requests, {booked.estimated_tokens:,} tokens)")
        if booked.unpriced and not tokens_agree:
            one.why.append(UNPRICED)
        if billed.cached_tokens is not None and not _alike(billed.cached_tokens, booked.cached_tokens, tolerance):
            one.why.append(CACHE)
        if not tokens_agree and any(
            _is_mended_by(one, by_key.get((one.day + timedelta(days=step), one.model)), tolerance) for step in (-1, 1)
        ):
            one.why.append(DAYS)
        if not one.why:
            one.why.append(UNKNOWN)


def _is_mended_by(one: Compared, other: Compared | None, tolerance: Decimal) -> bool:
    """Both days together agree."""
    if other is None or other.billed == Billed():
        return False
    booked = Booked(
        input_tokens=one.booked.input_tokens + other.booked.input_tokens,
        output_tokens=one.booked.output_tokens + other.booked.output_tokens,
        cost=one.booked.cost + other.booked.cost,
    )
    return _agrees(_sum(one.billed, other.billed), booked, tolerance)
