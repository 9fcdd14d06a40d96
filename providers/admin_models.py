"""The models of all providers in the admin: what each is called, takes, can do and costs, and how much it is used."""

from __future__ import annotations

import shlex
from typing import Any
from urllib.parse import urlencode

from django.contrib import admin, messages
from django.db.models import Field, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as lazy
from unfold.views import ChangeList

from providers import cells, live_figures, model_cells, price_cells, price_rows
from providers.capabilities import MODEL_TYPES
from providers.forms import ProviderModelForm
from providers.models import ProviderModel
from providers.provider_filters import ProviderTypeFilter
from providers.provider_rows import shown_base_url
from providers.short_filters import ShortRelatedFilter
from providers.tables import SwitchableAdmin

_PRICES = ("price_in", "price_out", "price_source")


class PricedChangeList(ChangeList):
    """Works out what every model of the page costs and was used for, in as many queries as for one."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        rows = list(self.result_list)
        prices = price_rows.of_models(rows)
        used = live_figures.use_of(sorted({row.provider.provider_id for row in rows}))
        for row in rows:
            row.prices = prices[row.pk]
            row.used = used.get((row.provider.provider_id, row.model_id), live_figures.UNUSED)
        self.result_list = rows


@admin.register(ProviderModel)
class ProviderModelAdmin(SwitchableAdmin):
    form = ProviderModelForm
    list_display = ("title", "provider_name", "kind", "context", "abilities", *_PRICES, "day", "is_on")
    list_filter = (ProviderTypeFilter, "enabled", "model_type", ("provider", ShortRelatedFilter))
    list_select_related = ("provider",)
    search_fields = ("model_id", "display_name", "provider__provider_id", "provider__display_name")
    search_help_text = lazy("Search by model or provider")
    autocomplete_fields = ("provider",)
    ordering = ("provider__priority", "model_id")
    readonly_fields = ("price_now",)
    compressed_fields = True
    warn_unsaved_form = True
    list_before_template = "admin/providers/providermodel/list_before.html"
    list_after_template = "admin/providers/providermodel/list_after.html"
    change_form_outer_before_template = "admin/providers/providermodel/head.html"

    def formfield_for_dbfield(self, db_field: Field[Any, Any], request: HttpRequest, **kwargs: Any) -> Any:
        field = super().formfield_for_dbfield(db_field, request, **kwargs)
        if db_field.name == "model_type" and field is not None:
            field.help_text = _("What it serves: %(types)s. Other words are kept.") % {"types": ", ".join(MODEL_TYPES)}
        return field

    def get_fieldsets(self, request: HttpRequest, obj: ProviderModel | None = None) -> list[tuple[Any, dict]]:
        own = [
            *([] if obj is None else ["price_now"]),
            ("input_cost_per_million", "output_cost_per_million"),
            ("cached_input_cost_per_million", "currency"),
        ]
        told = _(
            "What stands here wins over the vendor's list, as a whole: left empty beside another, a price is unknown."
        )
        return [
            (None, {"fields": [("provider", "model_id"), ("display_name", "model_type"), "enabled"]}),
            (
                _("What it takes and can do"),
                {"fields": [("context_window", "max_tokens"), ("capabilities", "tasks"), ("cost_tier", "dimension")]},
            ),
            (_("Prices per million tokens"), {"fields": own, "description": told}),
            (_("Parameters"), {"fields": ["parameters"], "classes": ["collapse"]}),
        ]

    @admin.display(description=lazy("Model"), ordering="model_id")
    def title(self, row: ProviderModel) -> SafeString:
        known_as = row.display_name if row.display_name != row.model_id else ""
        parameters = row.parameters if isinstance(row.parameters, dict) else {}
        upstream = parameters.get("upstream_model_id")
        small = " · ".join(filter(None, (known_as, _("asked as %(name)s") % {"name": upstream} if upstream else "")))
        why = model_cells.deprecation(row, shown_base_url(row.provider))
        old = format_html(" {}", cells.pill(_("deprecated"), "warn", why)) if why else ""
        return format_html(
            '<span class="gw-name"><span title="{0}"><strong>{0}</strong>{1}</span><small>{2}</small></span>',
            row.model_id,
            old,
            small,
        )

    @admin.display(description=lazy("Provider"), ordering="provider__provider_id")
    def provider_name(self, row: ProviderModel) -> SafeString:
        url = reverse("admin:providers_provider_change", args=[row.provider_id])
        shown = row.provider.display_name or row.provider.provider_id
        off = "" if row.provider.enabled else cells.pill(_("off"), "warn", _("Its provider is disabled."))
        return format_html('<a href="{}">{}</a> {}', url, shown, off)

    @admin.display(description=lazy("Kind"), ordering="model_type")
    def kind(self, row: ProviderModel) -> SafeString:
        tasks = ", ".join(map(str, row.tasks)) if isinstance(row.tasks, list) else ""
        return format_html('<span class="gw-name"><span>{}</span><small>{}</small></span>', row.model_type, tasks)

    @admin.display(description=lazy("Context"), ordering="context_window")
    def context(self, row: ProviderModel) -> SafeString:
        return model_cells.context(row.context_window)

    @admin.display(description=lazy("Can"))
    def abilities(self, row: ProviderModel) -> SafeString:
        return model_cells.abilities(row.capabilities if isinstance(row.capabilities, list) else ())

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return PricedChangeList

    @admin.display(description=lazy("In / M"))
    def price_in(self, row: Any) -> SafeString:
        return model_cells.price_in(row.prices)

    @admin.display(description=lazy("Out / M"))
    def price_out(self, row: Any) -> SafeString:
        return model_cells.price(row.prices.output_cost_per_million, row.prices.currency)

    @admin.display(description=lazy("Price"))
    def price_source(self, row: Any) -> SafeString:
        return price_cells.source(row.prices)

    @admin.display(description=lazy("24 h"))
    def day(self, row: Any) -> SafeString:
        return model_cells.use(row.used)

    @admin.display(description=lazy("What it costs now"))
    def price_now(self, row: ProviderModel) -> SafeString:
        return price_cells.in_words(price_rows.of_models([row])[row.pk]) if row.pk else cells.EMPTY

    @admin.display(description=lazy("Enabled"), ordering="enabled")
    def is_on(self, row: ProviderModel) -> SafeString:
        return model_cells.enabled(row)

    def switch(self, queryset: QuerySet, *, on: bool) -> int:
        """One statement and one entry for the selection, whatever its size: a catalogue may hold thousands."""
        return queryset.filter(enabled=not on).update(enabled=on, updated_at=timezone.now())

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        return super().changelist_view(request, {"twins": _twins(request), **(extra_context or {})})

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        row = self.get_object(request, object_id)
        more: dict[str, Any] = {}
        if row is not None and self.has_view_permission(request, row):
            used = live_figures.use_of([row.provider.provider_id])
            more = {
                "row": row,
                "prices": price_rows.of_models([row])[row.pk],
                "used": used.get((row.provider.provider_id, row.model_id), live_figures.UNUSED),
                "deprecated": model_cells.deprecation(row, shown_base_url(row.provider)),
                "twins": _twins(request, row),
                "requests_link": f"{reverse('admin:inference_trace_changelist')}?{urlencode({'served_by': row.route})}",
            }
        return super().change_view(request, object_id, form_url, {**more, **(extra_context or {})})

    def response_change(self, request: HttpRequest, obj: ProviderModel) -> HttpResponse:
        if {"_addanother", "_popup", "_saveasnew"} & request.POST.keys():
            return super().response_change(request, obj)
        self.message_user(request, _("%(model)s is saved.") % {"model": obj}, messages.SUCCESS)
        return redirect("admin:providers_providermodel_change", obj.pk)


def _twins(request: HttpRequest, row: ProviderModel | None = None) -> list[tuple[str, str]]:
    base = request.build_absolute_uri("/").rstrip("/")
    curl = 'curl -H "Authorization: Bearer $GATEWAY_KEY"'
    if row is None:
        return [
            (_("All models, narrowed"), f"{curl} '{base}/api/v1/provider-models?capability=vision&enabled=true'"),
            (_("What each costs, and who says so"), f"python manage.py prices\n{curl} {base}/api/v1/model-prices"),
            (
                _("Switch one off, or on"),
                f'python manage.py breakers --off PROVIDER/MODEL --reason "too dear"\n'
                f'{curl} -X PATCH -H "Content-Type: application/json" -d \'{{"enabled": false}}\' {base}/api/v1/provider-models/ID',
            ),
        ]
    one, route = f"{base}/api/v1/provider-models/{row.pk}", shlex.quote(row.route)
    return [
        (_("This model"), f"{curl} {one}"),
        (
            _("Change it"),
            f'{curl} -X PATCH -H "Content-Type: application/json" \\\n  -d \'{{"input_cost_per_million": "2.5"}}\' {one}',
        ),
        (
            _("Switch it off, or on"),
            f"python manage.py breakers --off {route}\npython manage.py breakers --on {route}",
        ),
    ]
