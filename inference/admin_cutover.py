"""The cut-over in the admin: both sides beside each other, the share, and the ways back.

One page instead of a list, as there is one roll-out. Whoever may view it sees the figures; moving traffic needs the right to
change it. Every change names the user and the reason in the audit log, and is in force everywhere within two seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_POST
from unfold.admin import ModelAdmin

from inference import cutover, cutover_history, cutover_looks, retirement, shadow_reports
from inference.cutover import HOUR
from inference.cutover_forms import LegacyForm, ReasonForm, ShadowForm, ShareForm
from inference.models import ShadowPair
from inference.shadow_budget import CURRENCY
from providers import actor, cells, pages
from providers.secrets import SecretError
from routing import visibility
from routing.models import Rollout
from routing.rollout import GATEWAY, LEGACY

SPANS = {
    1: gettext_lazy("1 hour"),
    6: gettext_lazy("6 hours"),
    24: gettext_lazy("24 hours"),
    168: gettext_lazy("7 days"),
}
USUAL_SPAN = 24
FEWEST_HOURS_DRAWN = 3
RETIREMENT_DAYS = 30
USES_SHOWN = 10
PAIRS_SHOWN = 8
SEE_TEXTS = "inference.view_shadowpair"
HOME = "admin:routing_rollout_changelist"


@admin.register(Rollout)
class CutoverAdmin(ModelAdmin):
    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Its figures are of all teams together, and it names who asks on which side."""
        return visibility.sees_everything(request.user) and super().has_view_permission(request, obj)

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        return self._home(request)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        return redirect(HOME)

    # What moves traffic

    def share_view(self, request: HttpRequest) -> HttpResponse:
        self._need_change(request)
        form = ShareForm(request.POST)
        if not form.is_valid():
            return self._refuse(request, form)
        now = Rollout.load().percentage
        if now != form.cleaned_data["was"]:
            messages.error(request, _("Nothing was changed: meanwhile somebody moved the share to %s.") % _percent(now))
            return redirect(HOME)
        return self._change(request, form, percentage=form.share())

    def back_view(self, request: HttpRequest) -> HttpResponse:
        """Everybody to the legacy side, by the share."""
        self._need_change(request)
        return self._change(request, ReasonForm(request.POST), percentage=Decimal(0))

    def switch_view(self, request: HttpRequest) -> HttpResponse:
        """The kill switch, thrown or taken back."""
        self._need_change(request)
        return self._change(request, ReasonForm(request.POST), gateway_enabled=request.POST.get("to") == "on")

    def legacy_view(self, request: HttpRequest) -> HttpResponse:
        self._need_change(request)
        form = LegacyForm(Rollout.load(), request.POST)
        if form.is_valid():
            return self._store(request, form, headers=form.all_headers(), values=form.values(), legacy=form)
        return self._home(request, legacy=form)

    def shadow_view(self, request: HttpRequest) -> HttpResponse:
        self._need_change(request)
        form = ShadowForm(Rollout.load(), request.POST)
        if form.is_valid():
            return self._store(request, form, headers=None, values=form.values(), shadow=form)
        return self._home(request, shadow=form)

    def _change(self, request: HttpRequest, form: ReasonForm, **values: Any) -> HttpResponse:
        if not form.is_valid():
            return self._refuse(request, form)
        try:
            with actor.giving_reason(form.cleaned_data["reason"]):
                row = Rollout.change(**values)
        except ValidationError as error:
            messages.error(request, _("Nothing was changed.") + f" {' '.join(error.messages)}")
        else:
            messages.success(request, f"{_state(row).sentence} {_('Every process follows within two seconds.')}")
        return redirect(HOME)

    def _store(
        self, request: HttpRequest, form: Any, *, headers: dict[str, str] | None, values: dict[str, Any], **shown: Any
    ) -> HttpResponse:
        try:
            with actor.giving_reason(form.cleaned_data["reason"]):
                Rollout.change(headers=headers, **values)
        except ValidationError as error:
            form.take(error)
            return self._home(request, **shown)
        messages.success(request, _("Saved. Every process follows within two seconds."))
        return redirect(HOME)

    def _refuse(self, request: HttpRequest, form: forms.Form) -> HttpResponse:
        said = [str(sentence) for sentences in form.errors.values() for sentence in sentences]
        messages.error(request, _("Nothing was changed.") + f" {' '.join(said)}")
        return redirect(HOME)

    # What is shown

    def live_view(self, request: HttpRequest) -> HttpResponse:
        """The part of the page that moves."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        response = TemplateResponse(request, "admin/routing/rollout/figures.html", _figures(_span(request)))
        response["Cache-Control"] = "no-store"
        return response

    def pair_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """One question and both answers. What customers wrote is here, so it needs a right of its own."""
        if not request.user.has_perm(SEE_TEXTS):
            raise PermissionDenied
        pair = get_object_or_404(ShadowPair, pk=pk)
        sides = [
            {
                "label": side.capitalize(),
                "text": _text(pair, f"{side}_text"),
                "status": getattr(pair, f"{side}_status"),
                "error": getattr(pair, f"{side}_error"),
                "took": cells.milliseconds(getattr(pair, f"{side}_ms")),
                "tokens_in": getattr(pair, f"{side}_input_tokens"),
                "tokens_out": getattr(pair, f"{side}_output_tokens"),
                "cost": cells.money(getattr(pair, f"{side}_cost"), CURRENCY),
                "answered": pair.answered_by == side,
            }
            for side in (GATEWAY, LEGACY)
        ]
        response = self._page(
            request,
            "admin/routing/rollout/pair.html",
            _("Answers %s") % pair.pk,
            above=[(_("Cut-over"), reverse("admin:routing_rollout_changelist"))],
            pair=pair,
            request_text=_text(pair, "request_text"),
            similarity=_share_of(pair.similarity),
            sides=sides,
            twins=[
                (_("Over REST"), f'curl "$GATEWAY/api/v1/shadow-pairs/{pair.pk}" -H "Authorization: Bearer $ADMIN_KEY"')
            ],
        )
        response["Cache-Control"] = "no-store"
        return response

    def _home(
        self, request: HttpRequest, legacy: LegacyForm | None = None, shadow: ShadowForm | None = None
    ) -> HttpResponse:
        row, hours = Rollout.load(), _span(request)
        context = {
            "row": row,
            "state": _state(row),
            "may_change": self.has_change_permission(request),
            "spans": [(hours_of, label, hours_of == hours) for hours_of, label in SPANS.items()],
            "live": f"{reverse('admin:routing_rollout_live')}?hours={hours}",
            "live_seconds": 5 if hours <= USUAL_SPAN else 60,
            "legacy": legacy or LegacyForm(row),
            "legacy_open": not row.legacy_base_url or legacy is not None,
            "header_names": sorted(row.headers()),
            "shadow": shadow or ShadowForm(row),
            "shadow_open": shadow is not None,
            "copies": _copies(hours),
            "may_see_texts": request.user.has_perm(SEE_TEXTS),
            "changes": cutover_history.changes(),
            "retirement": _retirement(),
            "twins": TWINS,
            **_figures(hours),
        }
        return self._page(request, "admin/routing/rollout/cutover.html", _("Cut-over"), **context)

    def _page(self, request: HttpRequest, template: str, title: str, **context: Any) -> TemplateResponse:
        return pages.render(request, template, {"title": title, "media": self.media, **context})

    def _need_change(self, request: HttpRequest) -> None:
        if not self.has_change_permission(request):
            raise PermissionDenied

    def get_urls(self) -> list:
        wrap = self.admin_site.admin_view
        doing = {
            "share": self.share_view,
            "back": self.back_view,
            "switch": self.switch_view,
            "legacy": self.legacy_view,
            "shadow": self.shadow_view,
        }
        own = [
            path(f"{name}/", wrap(require_POST(view)), name=f"routing_rollout_{name}") for name, view in doing.items()
        ]
        own.append(path("live/", wrap(self.live_view), name="routing_rollout_live"))
        own.append(path("answers/<int:pk>/", wrap(self.pair_view), name="routing_rollout_pair"))
        return own + super().get_urls()


# --- The state ------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class State:
    """Where requests go now, since when and through whom."""

    sentence: str
    tone: str
    share: str
    slider: int
    has_legacy: bool
    stopped: bool
    stopped_by_environment: bool
    since: cutover_history.Since | None
    switched: cutover_history.Since | None


def _state(row: Rollout) -> State:
    by_environment = not settings.GATEWAY_V2_ENABLED
    stopped = bool(row.legacy_base_url) and (not row.gateway_enabled or by_environment)
    share = _percent(row.percentage)
    if not row.legacy_base_url:
        sentence, tone = _("The gateway serves everything: there is no legacy side."), "good"
    elif stopped:
        sentence, tone = _("The kill switch is thrown: the legacy side serves everything."), "bad"
    elif row.percentage == 100:
        sentence, tone = _("All clients are served here."), "good"
    elif row.percentage == 0:
        sentence, tone = _("All clients are served by the legacy side."), "warn"
    else:
        sentence, tone = _("%s of clients are served here, the others by the legacy side.") % share, "warn"
    field = "gateway_enabled" if stopped and not row.gateway_enabled else "percentage"
    return State(
        sentence=sentence,
        tone=tone,
        share=share,
        slider=round(row.percentage),
        has_legacy=bool(row.legacy_base_url),
        stopped=stopped,
        stopped_by_environment=by_environment,
        since=cutover_history.since(field),
        switched=cutover_history.since("gateway_enabled"),
    )


def _percent(share: Decimal) -> str:
    return f"{float(share):g}\u202f%"


# --- The figures ----------------------------------------------------------------------------------------------------------------


def _span(request: HttpRequest) -> int:
    asked = request.GET.get("hours", "")
    return int(asked) if asked.isascii() and asked.isdigit() and int(asked) in SPANS else USUAL_SPAN


def _figures(hours: int) -> dict[str, Any]:
    now = timezone.now()
    told = cutover.figures(now - hours * HOUR, now)
    return {
        "rows": cutover_looks.rows(told),
        "versus": cutover_looks.versus(told),
        "charts": cutover_looks.charts_of(told.hours) if len(told.hours) >= FEWEST_HOURS_DRAWN else [],
        "until": told.until,
        "quiet": not told.gateway.requests and not told.legacy.requests,
        "span_label": SPANS[hours],
    }


def _copies(hours: int) -> dict[str, Any] | None:
    """What comparing both sides' answers came to; None when nothing was compared."""
    days = max(1, hours // 24)
    told = shadow_reports.report(days, timezone.now())
    if not told.pairs:
        return None
    here, there = told.gateway, told.legacy
    return {
        "told": told,
        "span": _("day") if days == 1 else _("%s days") % days,
        "equal": _share_of(told.equal_share),
        "similarity": _share_of(told.mean_similarity),
        "rows": [
            cutover_looks.Row(_("Answered"), cells.number(here.answered), cells.number(there.answered)),
            cutover_looks.Row(_("Failed"), cells.number(here.failed), cells.number(there.failed)),
            cutover_looks.Row(_("Median time"), *cutover_looks.times(here.median_ms, there.median_ms)),
            cutover_looks.Row(
                _("Cost"), cells.money(here.cost, CURRENCY), cells.money(there.cost, CURRENCY), hint=_UNPRICED
            ),
        ],
        "different": [(pair, _share_of(pair.similarity)) for pair in (*told.one_failed, *told.worst)][:PAIRS_SHOWN],
    }


def _share_of(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.0f}\u202f%"


def _text(pair: ShadowPair, name: str) -> str:
    try:
        return getattr(pair, name).reveal()
    except SecretError:
        return _("Cannot be read: the key that it was encrypted with is not on the ring.")


_UNPRICED = gettext_lazy("Of what has a known price.")


def _retirement() -> dict[str, Any]:
    told = retirement.report(RETIREMENT_DAYS, timezone.now())
    return {"told": told, "uses": told.uses[:USES_SHOWN], "more": max(0, len(told.uses) - USES_SHOWN)}


TWINS: Sequence[tuple[Any, str]] = (
    (gettext_lazy("Move the share"), 'manage.py cutover --percentage 25 --reason "first quarter"'),
    (gettext_lazy("Back, at once"), "manage.py cutover --percentage 0"),
    (gettext_lazy("Kill switch"), "manage.py cutover --stop    # and --resume"),
    (gettext_lazy("Both sides' figures"), "manage.py cutover --hours 24"),
    (gettext_lazy("How alike both sides answer"), "manage.py shadow_report --days 7"),
    (gettext_lazy("Ask both sides a set of prompts"), "manage.py shadow_run prompts.jsonl --model gpt-4o"),
    (gettext_lazy("May the old code go?"), f"manage.py retirement_report --days {RETIREMENT_DAYS}"),
    (
        gettext_lazy("Over REST"),
        'curl -X PATCH "$GATEWAY/api/v1/rollout" -H "Authorization: Bearer $ADMIN_KEY" \\\n'
        '     -H "Content-Type: application/json" -d \'{"percentage": "25"}\'',
    ),
    (
        gettext_lazy("Figures over REST"),
        'curl "$GATEWAY/api/v1/rollout/figures?hours=24" -H "Authorization: Bearer $ADMIN_KEY"',
    ),
)
