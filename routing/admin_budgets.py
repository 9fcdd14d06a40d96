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
from django.urls import path
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_POST

from providers import actor, cells, charts, pages
from providers.configuration import ADD, Change
from providers.pricing import USD
from providers.tables import SwitchableAdmin
from routing import budget_actions, budget_cells, budget_status, visibility
from routing.admin_subjects import WHOM, CountedForm, CountedPages, RowTeamFilter
from routing.admin_subjects import title as title_of
from routing.allowances import REQUEST
from routing.budget_status import Past, Standing, Status
from routing.budgets import PERIODS
from routing.models import Budget, BudgetRaise, ClientKey
from routing.subjects import EACH_TEAM
from routing.team_pages import OfTeams

CHANGE = "admin:routing_budget_change"
LIST = "admin:routing_budget_changelist"
_SHOWN = 25
"""Standings of one budget on its page."""
_LEAST_PERIODS = 6
"""Of a chart: fewer columns look like a wall."""
_SPANS = (
    (1, gettext_lazy("an hour")),
    (8, gettext_lazy("eight hours")),
    (24, gettext_lazy("a day")),
    (24 * 3, gettext_lazy("three days")),
    (24 * 7, gettext_lazy("a week")),
    (24 * 31, gettext_lazy("a month")),
)


class BudgetForm(CountedForm):
    class Meta:
        model = Budget
        fields = "__all__"
        labels = {
            "amount": gettext_lazy("Amount (USD)"),
            "warn_percent": gettext_lazy("Warn at (percent)"),
            "when_away": gettext_lazy("Meanwhile"),
            "away_amount": gettext_lazy("Up to (USD, each process)"),
            "refuse_unpriced": gettext_lazy("Refuse models without a price"),
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in ("amount", "away_amount"):
            if isinstance(value := self.initial.get(name), Decimal):
                self.initial[name] = f"{value.normalize():f}"


class RaiseForm(forms.Form):
    amount = forms.DecimalField(
        min_value=0, max_digits=20, decimal_places=10, label=gettext_lazy("How much more (USD)")
    )
    hours = forms.TypedChoiceField(choices=_SPANS, initial=24, coerce=int, label=gettext_lazy("For how long, from now"))
    reason = forms.CharField(max_length=500, label=gettext_lazy("Why (kept in the audit log)"))


class BudgetChangeList(ChangeList):
    """Asks for the figures of all rows of the page at once."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        rows = list(self.result_list)
        found = budget_status.of_many(rows)
        for row in rows:
            row.status = _seen_by(request, row, found[row.pk])
        self.result_list = rows


@admin.register(Budget)
class BudgetAdmin(CountedPages, OfTeams, SwitchableAdmin):
    form = BudgetForm
    list_display = ("title", "period_cell", "used_cell", "pace_cell", "anew_cell", "kind", "state")
    list_filter = ("period", "subject", RowTeamFilter, "hard", "enabled")
    search_fields = ("name", *CountedPages.search_fields)
    search_help_text = gettext_lazy("Search by name, key, team, provider, model or tag")
    ordering = ("subject", "id")
    list_before_template = "admin/routing/budget/list_before.html"
    list_after_template = "gateway/twins.html"
    change_form_outer_before_template = "admin/routing/budget/overview.html"
    fieldsets = (
        WHOM,
        (
            gettext_lazy("How much"),
            {"fields": ("period", "amount", "time_zone", "by_role", "warn_percent", "name", "enabled")},
        ),
        (gettext_lazy("When it is used up"), {"fields": ("hard", "strict", "refuse_unpriced")}),
        (gettext_lazy("When Redis does not answer"), {"fields": ("when_away", "away_amount")}),
    )

    # The list

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return BudgetChangeList

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        shown = {"twins": _twins(request), "no_budgets": not Budget.objects.exists()}
        return super().changelist_view(request, {**shown, **(extra_context or {})})

    @admin.display(description=gettext_lazy("Budget"), ordering="subject")
    def title(self, row: Budget) -> SafeString:
        return title_of(row, row.name)

    @admin.display(description=gettext_lazy("Period"), ordering="period")
    def period_cell(self, row: Budget) -> SafeString:
        return format_html('<span title="{}">{}</span>', PERIODS[row.period], row.period)

    @admin.display(description=gettext_lazy("Used"), ordering="amount")
    def used_cell(self, row: Any) -> SafeString:
        worst, others = row.status.worst, row.status.others
        if worst is None:
            told = _("each of %(count)d") % {"count": others} if row.period == REQUEST else _("each")
            return budget_cells.unused(row.amount, told)
        return budget_cells.bar(worst, worst.who if _is_each(row) else "")

    @admin.display(description=gettext_lazy("At this pace"))
    def pace_cell(self, row: Any) -> SafeString:
        return budget_cells.pace(row.status.worst) if row.status.worst is not None else cells.EMPTY

    @admin.display(description=gettext_lazy("Begins anew"))
    def anew_cell(self, row: Any) -> SafeString:
        return budget_cells.anew(row.status.worst) if row.status.worst is not None else cells.EMPTY

    @admin.display(description=gettext_lazy("Kind"), ordering="hard")
    def kind(self, row: Budget) -> SafeString:
        if not row.hard:
            return cells.pill(_("soft"), "", _("It only warns."))
        if row.strict:
            return cells.pill(_("strict"), "", _("Holds what a request may cost at most: nothing ever goes beyond."))
        return cells.pill(_("hard"), "", _("Holds what a request is likely to cost; refuses when nothing is left."))

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
        found, now = _seen_by(request, row, budget_status.of(row)), timezone.now()
        # Who spent the most of a shared one is not for the members of one team.
        past = budget_status.past(row) if not _is_each(row) or visibility.sees_everything(request.user) else []
        return {
            "budget": row,
            "standings": [_shown(one) for one in found.standings[:_SHOWN]],
            "others": found.others + max(0, len(found.standings) - _SHOWN),
            "is_each": _is_each(row),
            "past": (ended := _history(past, row)),
            "past_chart": _past_chart(ended, row),
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
                told = _("%(amount)s more until %(until)s UTC, in every process.") % {
                    "amount": f"{more.amount.normalize():f} {USD}",
                    "until": f"{until:%Y-%m-%d %H:%M}",
                }
                self.message_user(request, told, messages.SUCCESS)
                return redirect(CHANGE, row.pk)
        shown = {
            "title": _("Raise %(budget)s for a while") % {"budget": row},
            "budget": row,
            "form": form,
            "standings": [_shown(one) for one in budget_status.of(row).standings[:3]],
        }
        return pages.render(request, "admin/routing/budget/raise.html", shown)

    def end_raise_view(self, request: HttpRequest, pk: int, number: int) -> HttpResponse:
        row = self._row(request, pk, "routing.delete_budgetraise")
        more = BudgetRaise.objects.filter(pk=number, budget=row).first()
        if more is None:
            raise Http404
        more.delete()
        self.message_user(request, _("The raise has ended."), messages.SUCCESS)
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
                self.message_user(request, _("The usual budgets are set up."), messages.SUCCESS)
            return redirect(LIST)
        shown = {
            "title": _("The usual budgets"),
            "changes": [_changed(one) for one in budget_actions.apply_usual(write=False).changes],
        }
        return pages.render(request, "admin/routing/budget/usual.html", shown)

    def _row(self, request: HttpRequest, pk: int, permission: str) -> Budget:
        if not request.user.has_perm(permission):
            raise PermissionDenied
        row = self.get_object(request, str(pk))
        if row is None:
            raise Http404
        if not self.may_write(request, row):
            raise PermissionDenied
        return row


def _seen_by(request: HttpRequest, row: Budget, found: Status) -> Status:
    """Of a budget for each key or team, members see where those of their own teams stand."""
    teams = visibility.teams_of(request.user)
    if teams is None or not _is_each(row):
        return found
    ids = (
        teams
        if row.subject == EACH_TEAM
        else set(ClientKey.objects.filter(team__in=teams).values_list("pk", flat=True))
    )
    return Status(tuple(one for one in found.standings if one.name in ids))


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
    """Oldest first, from the first period in which anything was spent; nothing where nothing ever was."""
    found = [_ended(one, row) for one in reversed(past)]
    first = next((number for number, one in enumerate(found) if one["amount"]), None)
    return [] if first is None else found[max(0, min(first, len(found) - _LEAST_PERIODS)) :]


def _past_chart(past: list[dict[str, Any]], row: Budget) -> charts.Chart | None:
    """What was spent within the amount of today, and what went beyond it."""
    if not past:
        return None
    within = [float(min(one["amount"], row.amount)) for one in past]
    beyond = [float(max(Decimal(0), one["amount"] - row.amount)) for one in past]
    series = [charts.Series(_("Spent"), within)]
    if any(beyond):
        series.append(charts.Series(_("beyond the amount of today"), beyond, "bad"))
    return charts.stacked(
        [one["from"] for one in past], series, lambda told: f"{cells.amount(Decimal(repr(told)))}\u202f{USD}"
    )


def _ended(one: Past, row: Budget) -> dict[str, Any]:
    percent = float(one.used / row.amount * 100) if row.amount else 100.0
    pattern = {"month": "%Y-%m", "day": "%Y-%m-%d"}.get(row.period, "%Y-%m-%d %H:%M")
    return {
        "from": one.span.start.strftime(pattern),
        "title": _("%(begin)s to %(end)s") % {"begin": one.span.start.isoformat(), "end": one.span.end.isoformat()},
        "who": one.who if one.used else "",
        "used": cells.money(one.used),
        "percent": f"{percent:.0f}",
        "amount": one.used,
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
        (_("Where all of them stand"), "python manage.py budgets"),
        (_("The usual ones in one step"), "python manage.py budgets --usual --apply"),
        (_("The budgets"), f"curl {key} {base}/budgets"),
        (_("Add one"), f"curl -X POST {key} -H \"Content-Type: application/json\" \\\n  -d '{body}' {base}/budgets"),
    ]


def _twins_of(request: HttpRequest, row: Budget) -> list[tuple[str, str]]:
    base, key = request.build_absolute_uri("/api/v1"), '-H "Authorization: Bearer $GATEWAY_KEY"'
    body = '{"amount": "50", "reason": "The fair", "expires_at": "2027-01-31T00:00:00Z"}'
    return [
        (_("Where it stands"), f"python manage.py budgets {row.pk}"),
        (_("The same over HTTP"), f"curl {key} {base}/budgets/{row.pk}/status"),
        (_("More of it for a day"), f'python manage.py budgets {row.pk} --raise 50 --hours 24 --reason "The fair"'),
        (
            _("The same over HTTP"),
            f"curl -X POST {key} -H \"Content-Type: application/json\" \\\n  -d '{body}' {base}/budgets/{row.pk}/raises",
        ),
    ]
