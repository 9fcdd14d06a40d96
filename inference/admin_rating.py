"""Corrections of costs in the admin, to read: each run with its reason, and both figures of each record. They are made by the command
and over REST."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet, Sum
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from inference.models import CostCorrection, RatingRun
from providers import cells
from providers.prices import of_document
from providers.tables import ReadOnlyAdmin
from routing import visibility

_NOTHING = Decimal(0)


@admin.register(RatingRun)
class RatingRunAdmin(ReadOnlyAdmin):
    list_display = ("title", "made", "made_by", "span", "of", "corrections_cell")
    search_fields = ("reason", "made_by")
    search_help_text = _("Reason, or who made it")
    ordering = ("-id",)
    fields = ("reason", "made_at", "made_by", "span", "of", "by_prices", "corrections_cell", "difference", "unpriced")
    readonly_fields = ("span", "of", "by_prices", "corrections_cell", "difference")

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Its sums are of all teams together."""
        return visibility.sees_everything(request.user) and super().has_view_permission(request, obj)

    @admin.display(description=_("Reason"))
    def title(self, run: RatingRun) -> str:
        return run.reason

    @admin.display(description=_("Made"), ordering="made_at")
    def made(self, run: RatingRun) -> SafeString:
        return cells.ago(run.made_at)

    @admin.display(description=_("Usage from, until before (UTC)"))
    def span(self, run: RatingRun) -> str:
        return f"{run.since:%Y-%m-%d %H:%M} – {run.until:%Y-%m-%d %H:%M}"

    @admin.display(description=_("Of"))
    def of(self, run: RatingRun) -> str:
        return " / ".join(filter(None, (run.provider_id, run.model_id))) or gettext("everything")

    @admin.display(description=_("By"))
    def by_prices(self, run: RatingRun) -> str:
        return _in_words(run.prices) if run.prices else gettext("the registry's prices for the time of each record")

    @admin.display(description=_("Corrections"))
    def corrections_cell(self, run: RatingRun) -> SafeString:
        address = reverse("admin:inference_costcorrection_changelist") + f"?run__id__exact={run.pk}"
        return format_html('<a href="{}">{}</a>', address, f"{run.records:,}")

    @admin.display(description=_("Comes to"))
    def difference(self, run: RatingRun) -> str:
        sums = run.corrections.order_by("currency").values("currency")
        told = sums.annotate(before=Sum("cost_before"), after=Sum("cost_after"))
        return "; ".join(
            f"{(one['after'] or _NOTHING) - (one['before'] or _NOTHING):+,.6f} {one['currency']}" for one in told
        ) or gettext("nothing")


def _in_words(document: str) -> str:
    prices = of_document(document, "")
    told = {
        gettext("input"): prices.input_cost_per_million,
        gettext("output"): prices.output_cost_per_million,
        gettext("cached input"): prices.cached_input_cost_per_million,
    }
    named = ", ".join(f"{name} {format(price, 'f')}" for name, price in told.items() if price is not None)
    told_by = prices.note or prices.source
    return gettext("%(prices)s per million tokens; %(source)s") % {"prices": named, "source": told_by}


@admin.register(CostCorrection)
class CostCorrectionAdmin(ReadOnlyAdmin):
    list_display = ("request_cell", "at", "model_cell", "before", "after", "run")
    list_filter = ("run",)
    list_select_related = ("record", "run")
    search_fields = ("=record__request_id",)
    search_help_text = _("A request's id, exactly")
    ordering = ("-id",)
    fields = ("run", "request_cell", "at", "model_cell", "before", "after", "by_prices")
    readonly_fields = ("request_cell", "model_cell", "before", "after", "by_prices")

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        corrections = super().get_queryset(request)
        teams = visibility.teams_of(request.user)
        return corrections if teams is None else corrections.filter(record__team_id__in=teams)

    @admin.display(description=_("Request"))
    def request_cell(self, correction: CostCorrection) -> SafeString:
        record: Any = correction.record
        tries = gettext(" (try %(number)s)") % {"number": record.attempt} if record.attempt else ""
        return format_html('<code class="gw-code">{}</code>{}', record.request_id, tries)

    @admin.display(description=_("Model"))
    def model_cell(self, correction: CostCorrection) -> str:
        return f"{correction.record.provider_id}/{correction.record.model_id}"

    @admin.display(description=_("Cost before"))
    def before(self, correction: CostCorrection) -> SafeString:
        return cells.money(correction.cost_before, correction.currency)

    @admin.display(description=_("Corrected"))
    def after(self, correction: CostCorrection) -> SafeString:
        return cells.money(correction.cost_after, correction.currency)

    @admin.display(description=_("By"))
    def by_prices(self, correction: CostCorrection) -> str:
        return _in_words(correction.prices)
