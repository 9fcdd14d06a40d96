"""Prices of one's own in the admin: contracts, discounts, models that no list knows, each from a moment on."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as lazy

from providers import cells, model_cells, price_list
from providers.models import PriceOverride
from providers.short_filters import ShortRelatedFilter
from providers.tables import RegistryAdmin


@admin.register(PriceOverride)
class PriceOverrideAdmin(RegistryAdmin):
    list_display = ("models", "whose", "state", "price_in", "price_out", "price_cached", "why")
    list_filter = (("provider", ShortRelatedFilter),)
    list_select_related = ("provider",)
    search_fields = ("model_prefix", "note", "provider__provider_id")
    search_help_text = lazy("Search by prefix, provider or note")
    ordering = ("model_prefix", "-valid_from")
    autocomplete_fields = ("provider",)
    list_before_template = "admin/providers/priceoverride/list_before.html"
    list_after_template = "admin/providers/priceoverride/list_after.html"
    change_form_outer_before_template = "admin/providers/priceoverride/form_before.html"
    compressed_fields = True
    fieldsets = (
        (None, {"fields": (("model_prefix", "provider"), "valid_from")}),
        (
            lazy("Prices per million tokens"),
            {
                "fields": (
                    ("input_cost_per_million", "output_cost_per_million"),
                    ("cached_input_cost_per_million", "currency"),
                ),
                "description": lazy(
                    "It counts as a whole: what is left empty is unknown, and cached input costs what input does."
                ),
            },
        ),
        (lazy("Why"), {"fields": ("note",)}),
    )

    @admin.display(description=lazy("Models"), ordering="model_prefix")
    def models(self, row: PriceOverride) -> SafeString:
        return format_html('<code class="gw-code">{}…</code>', row.model_prefix)

    @admin.display(description=lazy("Note"), ordering="note")
    def why(self, row: PriceOverride) -> str:
        origin = row.managed_by and _("from %(file)s") % {"file": row.managed_by}
        return ", ".join(filter(None, (row.note, origin))) or "–"

    @admin.display(description=lazy("Provider"), ordering="provider__provider_id")
    def whose(self, row: PriceOverride) -> str:
        return str(row.provider) if row.provider is not None else _("any")

    @admin.display(description=lazy("Valid from"), ordering="valid_from")
    def state(self, row: PriceOverride) -> SafeString:
        coming = row.valid_from > timezone.now()
        pill = cells.pill(_("coming"), "warn", _("Counts from its moment on, without an edit.")) if coming else ""
        return format_html("{} {}", cells.ago(row.valid_from), pill)

    @admin.display(description=lazy("In / M"), ordering="input_cost_per_million")
    def price_in(self, row: PriceOverride) -> SafeString:
        return model_cells.price(row.input_cost_per_million, row.currency)

    @admin.display(description=lazy("Out / M"), ordering="output_cost_per_million")
    def price_out(self, row: PriceOverride) -> SafeString:
        return model_cells.price(row.output_cost_per_million, row.currency)

    @admin.display(description=lazy("Cache / M"))
    def price_cached(self, row: PriceOverride) -> SafeString:
        return model_cells.price(row.cached_input_cost_per_million, row.currency)

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        edition = f"{price_list.PACKAGE} {price_list.list_version()}"
        return super().changelist_view(request, {"edition": edition, **_twins(request), **(extra_context or {})})

    def changeform_view(
        self, request: HttpRequest, object_id: str | None = None, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        return super().changeform_view(request, object_id, form_url, {**_twins(request), **(extra_context or {})})


def _twins(request: HttpRequest) -> dict[str, Any]:
    base = request.build_absolute_uri("/api/v1")
    body = '{"provider_id": null, "model_prefix": "gpt-4o", "input_cost_per_million": "2.0", "output_cost_per_million": "8.0"}'
    return {
        "twins": [
            (_("What every model costs, and who says so"), "python manage.py prices"),
            (_("The same over HTTP"), f'curl -H "Authorization: Bearer $GATEWAY_KEY" {base}/model-prices'),
            (
                _("Add a price"),
                f'curl -X POST -H "Authorization: Bearer $GATEWAY_KEY" -H "Content-Type: application/json" \\\n'
                f"  -d '{body}' {base}/prices",
            ),
        ]
    }
