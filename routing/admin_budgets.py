"""Budgets in the admin: bars and forecasts, how past periods ended, and more of one for a while."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import path
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.views.decorators.http import require_POST

from providers import actor, cells
from providers.configuration import ADD, Change
from providers.tables import SwitchableAdmin
from routing import budget_actions, budget_cells, budget_status
from routing.admin_subjects import WHOM, CountedForm, CountedPages, RowTeamFilter
from routing.admin_subjects import title as title_of
from routing.allowances import REQUEST
from routing.budget_status import Past, Standing
from routing.budgets import PERIODS
from routing.models import Budget, BudgetRaise
from routing.team_pages import OfTeams

CHANGE = "admin:routing_budget_change"
LIST = "admin:routing_budget_changelist"
_SHOWN = 25
"""Standings of one budget on its page."""
_SPANS = (
    (1, "an hour"),
    (8, "eight hours"),
    (24, "a day"),
    (24 * 3, "three days"),
    (24 * 7, "a week"),
    (24 * 31, "a month"),
)


class BudgetForm(CountedForm):
    class Meta:
        model = Budget
        fields = "__all__"
        labels = {
            "amount": "Amount (USD)",
            "warn_percent": "Warn at (percent)",
            "when_away": "Meanwhile",
            "away_amount": "Up to (USD, each process)",
            "refuse_unpriced": "Refuse models without a price",
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in ("amount", "away_amount"):
            if isinstance(value := self.initial.get(name), Decimal):
                self.initial[name] = f"{value.normalize():f}"


class RaiseForm(forms.Form):
    amount = forms.DecimalField(min_value=0, max_digits=20, decimal_places=10, label="How much more (USD)")
    hours = forms.TypedChoiceField(choices=_SPANS, initial=24, coerce=int, label="For how long, from now")
    reason = forms.CharField(max_length=500, label="Why (kept in the audit log)")


class BudgetChangeList(ChangeList):
    """Asks for the figures of all rows of the page at once."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        rows = list(self.result_list)
        found = budget_status.of_many(rows)
        for row in rows:
            row.status = found[row.pk]
        self.result_list = rows


@admin.register(Budget)
class BudgetAdmin(CountedPages, OfTeams, SwitchableAdmin):
    form = BudgetForm
    list_display = ("title", "period_cell", "used_cell", "pace_cell", "anew_cell", "kind", "state")
    list_filter = ("period", "subject", RowTeamFilter, "hard", "enabled")
    search_fields = ("name", *CountedPages.search_fields)
    search_help_text = "Search by name, key, team, provider, model or tag"
    ordering = ("subject", "id")
    list_before_template = "admin/routing/budget/list_before.html"
    change_form_outer_before_template = "admin/routing/budget/overview.html"
    fieldsets = (
        WHOM,
        ("How much", {"fields": ("period", "amount", "time_zone", "by_role", "warn_percent", "name", "enabled")}),
        ("When it is used up", {"fields": ("hard", "strict", "refuse_unpriced")}),
        ("When Redis does not answer", {"fields": ("when_away", "away_amount")}),
    )

    # The list

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return BudgetChangeList

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        shown = {"twins": _twins(request), "no_budgets": not Budget.objects.exists()}
        return super().changelist_view(request, {**shown, **(extra_context or {})})

    @admin.display(description="Budget", ordering="subject")
    def title(self, row: Budget) -> SafeString:
        return title_of(row, row.name)

    @admin.display(description="Period", ordering="period")
    def period_cell(self, row: Budget) -> SafeString:
        return format_html('<span title="{}">{}</span>', PERIODS[row.period], row.period)

    @admin.display(description="Used", ordering="amount")
    def used_cell(self, row: Any) -> SafeString:
        worst, others = row.status.worst, row.status.others
        if worst is None:
            told = f"each of {others}" if row.period == REQUEST else "each, nothing used"
            return budget_cells.unused(row.amount, told)
        return budget_cells.bar(worst, worst.who if _is_each(row) else "")

    @admin.display(description="At this pace")
    def pace_cell(self, row: Any) -> SafeString:
        return budget_cells.pace(row.status.worst) if row.status.worst is not None else cells.EMPTY

    @admin.display(description="Begins anew")
    def anew_cell(self, row: Any) -> SafeString:
        return budget_cells.anew(row.status.worst) if row.status.worst is not None else cells.EMPTY

    @admin.display(description="Kind", ordering="hard")
    def kind(self, row: Budget) -> SafeString:
        if not row.hard:
            return cells.pill("soft", "", "It only warns.")
        if row.strict:
            return cells.pill("strict", "", "Holds what a request may cost at most: nothing ever goes beyond.")
        return cells.pill("hard", "", "Holds what a request is likely to cost; refuses when nothing is left.")

    # One budget

    def get_urls(self) -> list[Any]:
        own = [
            path("<int:pk>/raise/", self.admin_site.admin_view(self.raise_view), name="routing_budget_raise"),
            path(
                "<int:pk>/raises/<int:number>/end/",
                self.admin_site.admin_view(require_POST(self.end_raise_view)),
                name="routing_budget_end_raise",
            ),
            path("usual/", self.admin_site.admin_view(self.usual_view), name="routing_budget_usual"),
        ]
        return own + super().get_urls()

    def changeform_view(
        self, request: HttpRequest, object_id: str | None = None, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        shown = {} if object_id is None else self._overview(request, object_id)
        return super().changeform_view(request, object_id, form_url, {**shown, **(extra_context or {})})

    def _overview(self, request: HttpRequest, object_id: str) -> dict[str, Any]:
        row = self.get_object(request, object_id)
        if row is None:
            return {}
        found, now = budget_status.of(row), timezone.now()
        past = budget_status.past(row)
        return {
            "budget": row,
            "standings": [_shown(one) for one in found.standings[:_SHOWN]],
            "others": found.others + max(0, len(found.standings) - _SHOWN),
            "is_each": _is_each(row),
            "past": _history(past, row),
            "raises": [(one, one.expires_at > now) for one in row.raises.all()[:10]],
            "may_raise": row.enabled and request.user.has_perm("routing.add_budgetraise"),
            "may_end": request.user.has_perm("routing.delete_budgetraise"),
            "twins": _twins_of(request, row),
        }

    def raise_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        row = self._row(request, pk, "routing.add_budgetraise")
        form = RaiseForm(request.POST or None)
        if request.method == "POST" and form.is_valid():
            until = timezone.now() + timedelta(hours=form.cleaned_data["hours"])
            try:
                with actor.giving_reason(form.cleaned_data["reason"]):
                    more = budget_actions.raise_for_a_while(
                        row, form.cleaned_data["amount"], form.cleaned_data["reason"], until
                    )
            except ValidationError as error:
                _tell(form, error)
            else:
                told = f"{more.amount.normalize():f} USD more until {until:%Y-%m-%d %H:%M} UTC, in every process."
                self.message_user(request, told, messages.SUCCESS)
                return redirect(CHANGE, row.pk)
        shown = {
            **self.admin_site.each_context(request),
            "title": f"Raise {row} for a while",
            "budget": row,
            "form": form,
            "standings": [_shown(one) for one in budget_status.of(row).standings[:3]],
        }
        request.current_app = self.admin_site.name  # type: ignore[attr-defined]
        return TemplateResponse(request, "admin/routing/budget/raise.html", shown)

    def end_raise_view(self, request: HttpRequest, pk: int, number: int) -> HttpResponse:
        row = self._row(request, pk, "routing.delete_budgetraise")
        more = BudgetRaise.objects.filter(pk=number, budget=row).first()
        if more is None:
            raise Http404
        more.delete()
        self.message_user(request, "The raise has ended.", messages.SUCCESS)
        return redirect(CHANGE, row.pk)

    def usual_view(self, request: HttpRequest) -> HttpResponse:
        """The usual budgets: what they would change, and the button that does it."""
        if not self.has_add_permission(request) or not request.user.has_perm("routing.change_budget"):
            raise PermissionDenied
        if request.method == "POST":
            applied = budget_actions.apply_usual(write=True)
            if applied.message:
                self.message_user(request, applied.message, messages.ERROR)
            else:
                self.message_user(request, "The usual budgets are set up.", messages.SUCCESS)
            return redirect(LIST)
        shown = {
            **self.admin_site.each_context(request),
            "title": "The usual budgets",
            "changes": [_changed(one) for one in budget_actions.apply_usual(write=False).changes],
        }
        request.current_app = self.admin_site.name  # type: ignore[attr-defined]
        return TemplateResponse(request, "admin/routing/budget/usual.html", shown)

    def _row(self, request: HttpRequest, pk: int, permission: str) -> Budget:
        if not request.user.has_perm(permission):
            raise PermissionDenied
        row = self.get_object(request, str(pk))
        if row is None:
            raise Http404
        if not self.may_write(request, row):
            raise PermissionDenied
        return row


def _is_each(row: Budget) -> bool:
    return row.subject.startswith("each_")


def _shown(one: Standing) -> dict[str, Any]:
    return {
        "who": one.who,
        "bar": budget_cells.bar(one),
        "left": cells.money(one.left),
        "held": cells.money(one.reserved) if one.reserved else cells.EMPTY,
        "pace": budget_cells.pace(one) if one.code == budget_status.OK else cells.EMPTY,
        "anew": budget_cells.anew(one),
        "state": budget_cells.state(one),
        "counted": one.counted or one.span is None,
    }


def _history(past: list[Past], row: Budget) -> list[dict[str, Any]]:
    """Oldest first; bars as high as what was spent, the highest of them all, or the amount."""
    if not any(one.used for one in past):
        return []
    highest = max(row.amount, *(one.used for one in past))
    return [_ended(one, row, float(one.used / highest * 100)) for one in reversed(past)]


def _ended(one: Past, row: Budget, height: float) -> dict[str, Any]:
    percent = float(one.used / row.amount * 100) if row.amount else 100.0
    pattern = {"month": "%Y-%m", "day": "%Y-%m-%d"}.get(row.period, "%Y-%m-%d %H:%M")
    return {
        "from": one.span.start.strftime(pattern),
        "title": f"{one.span.start.isoformat()} to {one.span.end.isoformat()}",
        "who": one.who if one.used else "",
        "used": cells.money(one.used),
        "percent": f"{percent:.0f}",
        "height": f"{height:.1f}",
        "tone": "bad" if percent >= 100 else "warn" if percent >= row.warn_percent else "good",
    }


def _changed(change: Change) -> dict[str, Any]:
    """Of one that is added, its amount tells enough."""
    shown = {"amount": change.fields["amount"]} if change.action == ADD else change.fields
    return {"name": change.name.partition(", ")[2], "is_new": change.action == ADD, "fields": shown}


def _tell(form: forms.Form, error: ValidationError) -> None:
    for name, told in error.message_dict.items():
        form.add_error(name if name in form.fields else None, told)


def _twins(request: HttpRequest) -> list[tuple[str, str]]:
    base, key = request.build_absolute_uri("/api/v1"), '-H "Authorization: Bearer $GATEWAY_KEY"'
    body = '{"subject": "team", "team": "research", "period": "month", "amount": "500"}'
    return [
        ("Where all of them stand", "python manage.py budgets"),
        ("The usual ones in one step", "python manage.py budgets --usual --apply"),
        ("The budgets", f"curl {key} {base}/budgets"),
        ("Add one", f"curl -X POST {key} -H \"Content-Type: application/json\" \\\n  -d '{body}' {base}/budgets"),
    ]


def _twins_of(request: HttpRequest, row: Budget) -> list[tuple[str, str]]:
    base, key = request.build_absolute_uri("/api/v1"), '-H "Authorization: Bearer $GATEWAY_KEY"'
    body = '{"amount": "50", "reason": "The fair", "expires_at": "2027-01-31T00:00:00Z"}'
    return [
        ("Where it stands", f"python manage.py budgets {row.pk}"),
        ("The same over HTTP", f"curl {key} {base}/budgets/{row.pk}/status"),
        ("More of it for a day", f'python manage.py budgets {row.pk} --raise 50 --hours 24 --reason "The fair"'),
        (
            "The same over HTTP",
            f"curl -X POST {key} -H \"Content-Type: application/json\" \\\n  -d '{body}' {base}/budgets/{row.pk}/raises",
        ),
    ]
