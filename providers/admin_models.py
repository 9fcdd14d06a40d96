"""The models of all providers in the admin."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.views import ChangeList

from providers import cells, price_cells, price_rows
from providers.forms import ProviderModelForm
from providers.models import ProviderModel
from providers.prices import Prices
from providers.provider_filters import ProviderTypeFilter
from providers.tables import SwitchableAdmin

_PRICE_COLUMNS = ("price_in", "price_out", "price_cached", "price_source")


class PricedChangeList(ChangeList):
    """Works out what every model of the page costs, in as many queries as for one."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        rows = list(self.result_list)
        prices = price_rows.of_models(rows)
        for row in rows:
            row.prices = prices[row.pk]
        self.result_list = rows


def _foreign(prices: Prices) -> str:
    """The currency, where it is not the usual one."""
    return "" if prices.currency == "USD" else prices.currency


@admin.register(ProviderModel)
class ProviderModelAdmin(SwitchableAdmin):
    form = ProviderModelForm
    list_display = ("title", "provider_name", "model_type", "context", "abilities", *_PRICE_COLUMNS, "is_on")
    list_filter = (ProviderTypeFilter, "enabled", "model_type", "provider")
    list_select_related = ("provider",)
    search_fields = ("model_id", "display_name", "provider__provider_id", "provider__display_name")
    search_help_text = "Search by model or provider"
    autocomplete_fields = ("provider",)
    ordering = ("provider__priority", "model_id")
    readonly_fields = ("price_now",)
    fieldsets = (
        (None, {"fields": ("provider", "model_id", "display_name", "model_type", "enabled")}),
        ("Limits", {"fields": ("context_window", "max_tokens", "dimension")}),
        ("What it can do", {"fields": ("capabilities", "tasks", "cost_tier")}),
        (
            "Prices per million tokens",
            {
                "fields": (
                    "price_now",
                    "input_cost_per_million",
                    "output_cost_per_million",
                    "cached_input_cost_per_million",
                    "currency",
                ),
                "description": "What stands here wins over the vendor's list, as a whole: left empty beside another, a price is unknown.",
            },
        ),
        ("Parameters", {"fields": ("parameters",)}),
    )

    @admin.display(description="Model", ordering="model_id")
    def title(self, row: ProviderModel) -> SafeString:
        known_as = row.display_name if row.display_name != row.model_id else ""
        return format_html('<span class="gw-name"><strong>{}</strong><small>{}</small></span>', row.model_id, known_as)

    @admin.display(description="Provider", ordering="provider__provider_id")
    def provider_name(self, row: ProviderModel) -> SafeString:
        url = reverse("admin:providers_provider_change", args=[row.provider_id])
        shown = row.provider.display_name or row.provider.provider_id
        off = "" if row.provider.enabled else cells.pill("provider off", "warn", "Its provider is disabled.")
        return format_html('<a href="{}">{}</a> {}', url, shown, off)

    @admin.display(description="Context", ordering="context_window")
    def context(self, row: ProviderModel) -> SafeString:
        return cells.number(row.context_window)

    @admin.display(description="Can")
    def abilities(self, row: ProviderModel) -> SafeString:
        words = row.capabilities if isinstance(row.capabilities, list) else []
        shown = ", ".join(map(str, words[:3])) + (f" +{len(words) - 3}" if len(words) > 3 else "")
        return format_html('<span title="{}">{}</span>', ", ".join(map(str, words)), shown or cells.EMPTY)

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return PricedChangeList

    @admin.display(description="In / M")
    def price_in(self, row: Any) -> SafeString:
        return cells.money(row.prices.input_cost_per_million, _foreign(row.prices))

    @admin.display(description="Out / M")
    def price_out(self, row: Any) -> SafeString:
        return cells.money(row.prices.output_cost_per_million, _foreign(row.prices))

    @admin.display(description="Cached / M")
    def price_cached(self, row: Any) -> SafeString:
        return cells.money(row.prices.cached_input_cost_per_million, _foreign(row.prices))

    @admin.display(description="Price")
    def price_source(self, row: Any) -> SafeString:
        return price_cells.source(row.prices)

    @admin.display(description="What it costs now")
    def price_now(self, row: ProviderModel) -> SafeString:
        return price_cells.in_words(price_rows.of_models([row])[row.pk]) if row.pk else cells.EMPTY

    @admin.display(description="Enabled", ordering="enabled")
    def is_on(self, row: ProviderModel) -> SafeString:
        if row.enabled and row.auto_disabled_at is not None:
            return cells.pill("disabled itself", "bad", row.auto_disabled_reason)
        return cells.on_or_off(row.enabled)

    def switch(self, queryset: QuerySet, *, on: bool) -> int:
        """One statement and one entry for the selection, whatever its size: a catalogue may hold thousands."""
        return queryset.filter(enabled=not on).update(enabled=on, updated_at=timezone.now())
