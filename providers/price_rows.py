"""Prices of registry rows: what `providers.prices` decides, asked for models as they are stored."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.conf import settings
from django.utils import timezone

from providers import connection, locality, provider_types
from providers.models import ConnectionParameter, PriceOverride, Provider, ProviderModel
from providers.prices import OVERRIDE, Book, PriceRule, Prices
from providers.pricing import USD
from providers.provider_types import ProviderType


def rules() -> list[PriceRule]:
    """Every override, also those that begin later."""
    return [_rule(row) for row in PriceOverride.objects.select_related("provider")]


def _rule(row: PriceOverride) -> PriceRule:
    whose = "any provider" if row.provider is None else row.provider.provider_id
    note = f"override for {row.model_prefix} of {whose} from {row.valid_from:%Y-%m-%d}"
    prices = Prices(
        row.input_cost_per_million,
        row.output_cost_per_million,
        row.cached_input_cost_per_million,
        row.currency,
        OVERRIDE,
        f"{note}: {row.note}" if row.note else note,
    )
    owner = "" if row.provider is None else row.provider.provider_id
    return PriceRule(row.model_prefix, row.valid_from.timestamp(), prices, owner)


def prices_of(row: ProviderModel, provider_type: str, base_url: str, local: bool, book: Book) -> Prices:
    return book.prices(
        row.provider.provider_id,
        provider_type,
        row.model_id,
        entered_on(row),
        is_free(provider_types.find(provider_type), local),
        base_url=base_url,
    )


def entered_on(row: Any) -> Prices:
    """The prices of a model's own row, or of its columns. Old systems write the currency in any case, or not at all."""
    return Prices(
        row.input_cost_per_million,
        row.output_cost_per_million,
        row.cached_input_cost_per_million,
        row.currency.upper() or USD,
    )


def is_free(kind: ProviderType | None, local: bool) -> bool:
    """A vendor bills whoever shows its key; what runs on one's own machines and asks for none is free."""
    return local and kind is not None and not kind.needs_key


def of_models(rows: Iterable[ProviderModel]) -> dict[int, Prices]:
    """The prices that hold now, by the rows' primary keys; each row comes with its provider."""
    return of_models_at(rows, timezone.now().timestamp())[0]


def of_models_at(rows: Iterable[ProviderModel], at: float) -> tuple[dict[int, Prices], float | None]:
    """The prices that hold at the epoch second `at`, and the next one at which some may differ."""
    rows = list(rows)
    book = Book(rules(), at)
    providers = {row.provider_id: row.provider for row in rows}
    here = _addresses_of_this_environment(providers)
    places = {pk: _place(provider, here.get(pk, "")) for pk, provider in providers.items()}
    found = {row.pk: prices_of(row, row.provider.provider_type, *places[row.provider_id], book) for row in rows}
    return found, book.changes_at


def _addresses_of_this_environment(providers: Iterable[int]) -> dict[int, str]:
    rows = ConnectionParameter.objects.filter(
        provider__in=list(providers),
        param_name="base_url",
        is_sensitive=False,
        environment=settings.GATEWAY_ENVIRONMENT,
    )
    return {owner: value or "" for owner, value in rows.values_list("provider_id", "plain_value")}


def _place(provider: Provider, base_url_here: str) -> tuple[str, bool]:
    """The address, and whether it is local; nothing is decrypted for it."""
    kind = provider_types.find(provider.provider_type)
    if kind is None or kind.runs_in == "worker":
        return "", kind is not None and locality.is_local(provider.locality, kind.local)
    stored = provider.connection_params if isinstance(provider.connection_params, dict) else {}
    merged = connection.canonical(kind.defaults) | connection.canonical(stored)
    base_url = base_url_here or str(merged.get("base_url") or "")
    return base_url, locality.is_local(provider.locality, kind.local, base_url)
