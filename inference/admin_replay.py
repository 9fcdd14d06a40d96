"""Replay a policy: what its past requests would have come to under another version or a draft, beside what happened.

A look: the newest requests, for a few seconds. The command goes through all of them. No model is asked and nothing is changed.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any

import yaml
from django import forms
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as lazy
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextareaWidget, UnfoldAdminTextInputWidget

from inference import policy_replays, replay_sources
from inference.policy_replays import CannotReplay, Plan
from providers import cells, pages
from providers.pricing import USD
from routing import snapshot, visibility
from routing.models import Policy
from routing.policy_documents import BadPolicy
from routing.replay import Choice, Difference, Report, SideSums
from routing.types import Snapshot

MAY_REPLAY = ("routing.view_policy", "inference.view_trace")
MOST_REQUESTS = 20_000
MOST_SECONDS = 8.0
SPANS = {"24h": timedelta(days=1), "7d": timedelta(days=7), "4w": timedelta(weeks=4)}
_LABELS = {"24h": lazy("the last 24 hours"), "7d": lazy("the last 7 days"), "4w": lazy("the last 4 weeks")}
_SHOWN = 20
_LONGEST = 200_000


class ReplayForm(forms.Form):
    policy = forms.ChoiceField(label=lazy("Policy"), widget=UnfoldAdminSelectWidget)
    version = forms.IntegerField(
        label=lazy("Against version"),
        required=False,
        min_value=1,
        widget=UnfoldAdminTextInputWidget(attrs={"inputmode": "numeric", "placeholder": lazy("the active one")}),
        help_text=lazy("An earlier one, or the one on trial."),
    )
    document = forms.CharField(
        label=lazy("…or a draft, as YAML or JSON"),
        required=False,
        max_length=_LONGEST,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 6, "class": "gw-code", "spellcheck": "false"}),
        help_text=lazy("It is not stored."),
    )
    always = forms.CharField(
        label=lazy("Compare with always asking"),
        required=False,
        max_length=600,
        widget=UnfoldAdminTextInputWidget(
            attrs={"list": "gw-names", "placeholder": lazy("no: with the active version")}
        ),
        help_text=lazy("One model, whatever is asked for: what it would cost without routing."),
    )
    span = forms.ChoiceField(label=lazy("Requests of"), choices=list(_LABELS.items()), widget=UnfoldAdminSelectWidget)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        names = Policy.objects.filter(enabled=True).values_list("name", flat=True)
        self.fields["policy"].choices = [(name, name) for name in names]  # type: ignore[attr-defined]

    def clean_document(self) -> dict[str, Any] | None:
        told = self.cleaned_data["document"].strip()
        if not told:
            return None
        try:
            document = yaml.safe_load(told)
        except yaml.YAMLError:
            raise forms.ValidationError(_("This is neither YAML nor JSON.")) from None
        if not isinstance(document, dict):
            raise forms.ValidationError(_("A policy's document is an object."))
        return document


@dataclass(frozen=True, slots=True)
class Row:
    label: str
    happened: Any
    before: Any
    after: Any


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def replay_view(request: HttpRequest) -> HttpResponse:
    if not (request.user.has_perms(MAY_REPLAY) and visibility.sees_everything(request.user)):
        raise PermissionDenied
    held = snapshot.refresh()
    form = _form(request)
    context = {
        "title": _("Replay a policy"),
        "form": form,
        "names": list(held.by_name)[:2000],
        "twins": _twins(form),
        **(_answer(form, held) if form.is_bound and form.is_valid() else {}),
    }
    return pages.render(request, "admin/replay/page.html", context)


def _form(request: HttpRequest) -> ReplayForm:
    """Filled in by what was sent, or by a link's `policy` and `version`."""
    if request.method == "POST":
        return ReplayForm(request.POST)
    return ReplayForm(
        initial={"span": "7d", **{name: request.GET[name] for name in ("policy", "version") if name in request.GET}}
    )


def _answer(form: ReplayForm, held: Snapshot) -> dict[str, Any]:
    told = form.cleaned_data
    try:
        plan = policy_replays.plan(
            held, told["policy"], document=told["document"], version=told["version"], always=told["always"].strip()
        )
    except BadPolicy as error:
        for place, sentence in error.problems:
            form.add_error("document", f"{place}: {sentence}" if place else sentence)
        return {}
    except CannotReplay as error:
        return {"problem": str(error)}
    now = timezone.now()
    rows = replay_sources.rows(now - SPANS[told["span"]], now, plan.names)
    pasts = replay_sources.usage(rows, held.client_keys, most=MOST_REQUESTS)
    report, cut = policy_replays.run(plan, pasts, seconds=MOST_SECONDS, every=200)
    return {"plan": plan, "report": report, "cut": cut or report.requests >= MOST_REQUESTS, **_shown(plan, report)}


def _shown(plan: Plan, report: Report) -> dict[str, Any]:
    differences = sorted(report.differences.values(), key=lambda one: -one.requests)
    return {
        "rows": _rows(report),
        "saving": _saving(report),
        "share": f"{100 * report.different / report.requests:.3g} %" if report.requests else "",
        "differences": [(one, *_costs(one), one.after.startswith("refused")) for one in differences[:_SHOWN]],
        "further_differences": max(0, len(differences) - _SHOWN),
        "clients": report.refused_clients.most_common(_SHOWN),
        "examples": [(one.past, _choice(one.before), _choice(one.after)) for one in report.examples],
    }


def _rows(report: Report) -> list[Row]:
    before, after = report.before, report.after
    rows = [
        Row(_("Served"), f"{report.served_then:,}", f"{before.served:,}", f"{after.served:,}"),
        Row(_("Refused"), "", _refused(before), _refused(after)),
        Row(_("Kept out by a cost limit"), "", f"{before.limited:,}", f"{after.limited:,}"),
        Row(_("Cost"), _money(report.happened_cost), _money(before.cost), _money(after.cost)),
        Row(
            _("Cost not known"),
            f"{report.happened_unknown:,}",
            f"{before.unknown:,}",
            f"{after.unknown:,}",
        ),
    ]
    if report.comparable:
        was, would = _money(report.comparable_before), _money(report.comparable_after)
        rows.append(Row(_("Cost of %s that compare") % f"{report.comparable:,}", "", was, would))
    return rows


def _refused(side: SideSums) -> str:
    why = ", ".join(f"{reason} {count:,}" for reason, count in side.reasons.most_common(3))
    return f"{side.refused:,} ({why})" if why else f"{side.refused:,}"


def _saving(report: Report) -> tuple[str, str] | None:
    """In words, with their tone."""
    saving = report.saving
    if saving is None or abs(saving) < 0.0005:
        return None
    return (_("%s cheaper") % f"{saving:.1%}", "good") if saving > 0 else (_("%s dearer") % f"{-saving:.1%}", "warn")


def _costs(one: Difference) -> tuple[Any, Any]:
    """Nothing, where one side serves nobody and the two cannot be compared."""
    if not one.cost_before and not one.cost_after:
        return "", ""
    return _money(one.cost_before), _money(one.cost_after)


def _choice(choice: Choice) -> str:
    return choice.route or _("refused: %s") % choice.reason


def _money(amount: Decimal) -> Any:
    return cells.money(amount, USD)


def _twins(form: ReplayForm) -> list[tuple[str, str]]:
    told = getattr(form, "cleaned_data", None) or {}
    parts = ["manage.py", "replay_policy", shlex.quote(str(told.get("policy") or "NAME"))]
    if told.get("version"):
        parts += ["--with-version", str(told["version"])]
    elif told.get("document") or not told:
        parts += ["--document", "draft.yaml"]
    if told.get("always"):
        parts += ["--always", shlex.quote(told["always"])]
    parts += ["--since", told.get("span") or "7d"]
    return [(_("Command, for every request of the span"), " ".join(parts))]


pages.register("replay/", "replay", replay_view)
