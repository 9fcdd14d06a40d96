"""Corrections of costs in the admin, to read: each run with its reason, and both figures of each record. They are made by the command
and over REST."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import Count, QuerySet, Sum
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from inference.models import CostCorrection, RatingRun
from providers import cells
from providers.prices import of_document
from providers.tables import ReadOnlyAdmin
from routing import visibility

_NOTHING = Decimal(0)
_MOST_LINES = 200


@admin.register(RatingRun)
class RatingRunAdmin(ReadOnlyAdmin):
    list_display = ("title", "made", "span_cell", "of", "corrections_cell", "difference")
    list_before_template = "admin/inference/ratingrun/list_before.html"
    list_after_template = "gateway/twins.html"
    search_fields = ("reason", "made_by")
    search_help_text = gettext_lazy("Reason, or who made it")
    ordering = ("-id",)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Its sums are of all teams together."""
        return visibility.sees_everything(request.user) and super().has_view_permission(request, obj)

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        none = not RatingRun.objects.exists()
        return super().changelist_view(request, {"none": none, "twins": _twins(), **(extra_context or {})})

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        run = self.get_object(request, object_id)
        if run is None:
            raise Http404("There is no such correction.")
        request.current_app = self.admin_site.name  # type: ignore[attr-defined]
        context = {
            "title": _("Price correction"),
            "above": [(_("Price corrections"), reverse("admin:inference_ratingrun_changelist"))],
            "crumb": _("Run %(n)s") % {"n": run.pk},
            "run": run,
            "made": cells.ago(run.made_at),
            "span": self.span(run),
            "of": self.of(run),
            "by_prices": self.by_prices(run),
            "records": _corrections_of(run),
            "lines": _lines(run),
            "twins": [("REST", f'curl "$GATEWAY/api/v1/rating-runs/{run.pk}" -H "Authorization: Bearer $ADMIN_KEY"')],
        }
        page = "admin/inference/ratingrun/run.html"
        return TemplateResponse(request, page, {**self.admin_site.each_context(request), **context})

    @admin.display(description=gettext_lazy("Reason"))
    def title(self, run: RatingRun) -> str:
        return run.reason

    @admin.display(description=gettext_lazy("Made"), ordering="made_at")
    def made(self, run: RatingRun) -> SafeString:
        return format_html(
            '<span class="gw-name">{}<small>{}</small></span>', cells.ago(run.made_at), cells.who(run.made_by)
        )

    @admin.display(description=gettext_lazy("Usage (UTC)"))
    def span_cell(self, run: RatingRun) -> SafeString:
        days = f"{run.since:%Y-%m-%d} – {run.until:%Y-%m-%d}"
        return format_html('<span class="gw-time" title="{}">{}</span>', self.span(run), days)

    def span(self, run: RatingRun) -> str:
        return f"{run.since:%Y-%m-%d %H:%M} – {run.until:%Y-%m-%d %H:%M}"

    @admin.display(description=gettext_lazy("Of"))
    def of(self, run: RatingRun) -> str:
        return " / ".join(filter(None, (run.provider_id, run.model_id))) or _("everything")

    def by_prices(self, run: RatingRun) -> str:
        return _in_words(run.prices) if run.prices else _("the registry's prices for the time of each record")

    @admin.display(description=gettext_lazy("Records"))
    def corrections_cell(self, run: RatingRun) -> SafeString:
        return format_html('<span class="gw-num"><a href="{}">{}</a></span>', _corrections_of(run), f"{run.records:,}")

    @admin.display(description=gettext_lazy("Comes to"))
    def difference(self, run: RatingRun) -> SafeString:
        sums = run.corrections.order_by("currency").values("currency")
        told = sums.annotate(before=Sum("cost_before"), after=Sum("cost_after"))
        texts = [_signed(one["before"], one["after"], one["currency"]) for one in told]
        return format_html('<span class="gw-num">{}</span>', "; ".join(texts) or _("nothing"))


def _corrections_of(run: RatingRun) -> str:
    return f"{reverse('admin:inference_costcorrection_changelist')}?run__id__exact={run.pk}"


def _lines(run: RatingRun) -> list[dict[str, Any]]:
    """What it came to, by model: the dearest change first."""
    names = ("record__provider_id", "record__model_id", "currency")
    sums = run.corrections.order_by().values(*names)
    told = sums.annotate(count=Count("pk"), before=Sum("cost_before"), after=Sum("cost_after"))
    lines = [
        {
            "model": f"{one['record__provider_id']}/{one['record__model_id']}",
            "count": one["count"],
            "before": cells.money(one["before"] or _NOTHING, one["currency"]),
            "after": cells.money(one["after"] or _NOTHING, one["currency"]),
            "change": _signed(one["before"], one["after"], one["currency"]),
            "tone": "up" if (one["after"] or _NOTHING) < (one["before"] or _NOTHING) else "down",
            "size": abs((one["after"] or _NOTHING) - (one["before"] or _NOTHING)),
        }
        for one in told
    ]
    return sorted(lines, key=lambda line: -line["size"])[:_MOST_LINES]


def _signed(before: Decimal | None, after: Decimal | None, currency: str) -> str:
    change = (after or _NOTHING) - (before or _NOTHING)
    sign = "+" if change > 0 else "−" if change < 0 else "±"
    return f"{sign}{cells.amount(abs(change))}\u202f{currency}"


def _in_words(document: str) -> str:
    prices = of_document(document, "")
    told = {
        _("input"): prices.input_cost_per_million,
        _("output"): prices.output_cost_per_million,
        _("cached input"): prices.cached_input_cost_per_million,
    }
    named = ", ".join(f"{name} {format(price, 'f')}" for name, price in told.items() if price is not None)
    return _("%(prices)s per million tokens; %(source)s") % {"prices": named, "source": prices.note or prices.source}


def _twins() -> list[tuple[str, str]]:
    return [
        (
            _("What it would come to, over REST; without dry_run it is written"),
            'curl "$GATEWAY/api/v1/rating-runs?dry_run=true" -H "Authorization: Bearer $ADMIN_KEY" \\\n'
            '  -H "Content-Type: application/json" -d \'{"since": "2026-11-01T00:00:00Z", "reason": "…"}\'',
        ),
        (
            _("Command; with --apply it is written"),
            'manage.py rerate_usage --since 2026-11-01\nmanage.py rerate_usage --since 2026-11-01 --apply --reason "…"',
        ),
    ]


@admin.register(CostCorrection)
class CostCorrectionAdmin(ReadOnlyAdmin):
    list_display = ("request_cell", "when", "model_cell", "before", "after", "run")
    list_filter = ("run",)
    list_select_related = ("record", "run")
    search_fields = ("=record__request_id",)
    search_help_text = gettext_lazy("A request's id, exactly")
    ordering = ("-id",)
    fields = ("run", "request_cell", "at", "model_cell", "before", "after", "by_prices")
    readonly_fields = ("request_cell", "model_cell", "before", "after", "by_prices")

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        corrections = super().get_queryset(request)
        teams = visibility.teams_of(request.user)
        return corrections if teams is None else corrections.filter(record__team_id__in=teams)

    @admin.display(description=gettext_lazy("Request"))
    def request_cell(self, correction: CostCorrection) -> SafeString:
        record: Any = correction.record
        tries = _(" (try %(n)s)") % {"n": record.attempt} if record.attempt else ""
        return format_html('<code class="gw-code">{}</code>{}', record.request_id, tries)

    @admin.display(description=gettext_lazy("Asked"))
    def when(self, correction: CostCorrection) -> SafeString:
        return cells.ago(correction.at)

    @admin.display(description=gettext_lazy("Model"))
    def model_cell(self, correction: CostCorrection) -> str:
        return f"{correction.record.provider_id}/{correction.record.model_id}"

    @admin.display(description=gettext_lazy("Cost before"))
    def before(self, correction: CostCorrection) -> SafeString:
        return cells.money(correction.cost_before, correction.currency)

    @admin.display(description=gettext_lazy("Corrected"))
    def after(self, correction: CostCorrection) -> SafeString:
        return cells.money(correction.cost_after, correction.currency)

    @admin.display(description=gettext_lazy("By"))
    def by_prices(self, correction: CostCorrection) -> str:
        return _in_words(correction.prices)
