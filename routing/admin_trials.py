"""A policy's trial in the admin: both versions beside each other, the share, and its ways to end.

Whoever may view policies sees it; a step needs the right to change them. Every step names the user and the reason in the audit log.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import yaml
from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as lazy
from django.views.decorators.http import require_GET, require_POST
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextareaWidget, UnfoldAdminTextInputWidget

from providers import cells, ownership, pages
from providers.document_text import as_yaml
from routing import policy_documents, trials
from routing.models import Policy
from routing.trial_gates import BROKEN, KEPT, Figures, Gate
from routing.trials import Comparison, NoTrial, Trial, TrialRunning

PAGE = "admin:routing_policy_trial"
VERSIONS_OFFERED = 50
LIVE_SECONDS = 5
_USUAL = Gate()


class GateForm(forms.Form):
    """An empty limit is not looked at."""

    max_error_points = forms.DecimalField(
        required=False,
        min_value=0,
        max_value=100,
        label=lazy("Errors: at most so many points above"),
        help_text=lazy("Empty: not looked at."),
        widget=UnfoldAdminTextInputWidget,
    )
    max_latency_ratio = forms.DecimalField(
        required=False,
        min_value=1,
        max_value=100,
        label=lazy("Time to the reply: at most so many times"),
        help_text=lazy("Empty: not looked at."),
        widget=UnfoldAdminTextInputWidget,
    )
    min_requests = forms.IntegerField(
        min_value=1,
        max_value=1_000_000,
        label=lazy("Requests of each before it judges"),
        widget=UnfoldAdminTextInputWidget,
    )
    window_minutes = forms.DecimalField(
        min_value=1, max_value=43_200, label=lazy("Looks back, in minutes"), widget=UnfoldAdminTextInputWidget
    )

    def gate(self) -> dict[str, Any]:
        told = self.cleaned_data
        points, ratio = told["max_error_points"], told["max_latency_ratio"]
        return {
            "max_error_rate_increase": None if points is None else float(points) / 100,
            "max_latency_ratio": None if ratio is None else float(ratio),
            "min_requests": told["min_requests"],
            "window_seconds": float(told["window_minutes"]) * 60,
        }


class StartForm(GateForm):
    """What to try: a version that is there already, or a document."""

    version = forms.TypedChoiceField(
        required=False,
        coerce=int,
        empty_value=None,
        label=lazy("Try again"),
        help_text=lazy("A version of before; otherwise the document counts."),
        widget=UnfoldAdminSelectWidget,
    )
    document = forms.CharField(
        required=False,
        label=lazy("Document to try"),
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 14, "class": "gw-code", "spellcheck": "false"}),
    )
    percentage = forms.DecimalField(
        min_value=0,
        max_value=100,
        max_digits=5,
        decimal_places=2,
        label=lazy("Share of the clients, %"),
        widget=UnfoldAdminTextInputWidget,
    )
    note = forms.CharField(
        required=False, max_length=500, label=lazy("Why (kept with the version)"), widget=UnfoldAdminTextInputWidget
    )

    def __init__(self, policy: Policy, data: Any = None) -> None:
        super().__init__(
            data,
            initial=_gate_initial(_USUAL) | {"document": as_yaml(policy.document), "percentage": "5"},
        )
        others = policy.versions.exclude(number=policy.version).order_by("-number")[:VERSIONS_OFFERED]
        self.documents = {version.number: version.document for version in others}
        self.fields["version"].choices = [
            ("", _("the document below")),
            *((version.number, f"v{version.number} {version.note}"[:80]) for version in others),
        ]

    def gate_fields(self) -> list[forms.BoundField]:
        return [self[name] for name in GateForm.base_fields]

    def clean(self) -> dict[str, Any]:
        told = super().clean() or {}
        number = told.get("version")
        if number is not None:
            told["read"] = self.documents[number]
            return told
        try:
            told["read"] = yaml.safe_load(told.get("document") or "")
        except yaml.YAMLError as error:
            self.add_error("document", _("It does not read as YAML or JSON: %s") % error)
        return told

    def take(self, error: ValidationError) -> None:
        """What the policy said of the values, at the fields that hold them."""
        places = {"candidate": "document", "candidate_percentage": "percentage"}
        for field, sentences in error.message_dict.items():
            name = places.get(field, field)
            self.add_error(name if name in self.fields else None, sentences)


class ShareForm(forms.Form):
    """A slider and a number for one share: whichever was moved from `was`."""

    was = forms.DecimalField(min_value=0, max_value=100)
    slider = forms.IntegerField(required=False, min_value=0, max_value=100)
    percentage = forms.DecimalField(required=False, min_value=0, max_value=100, max_digits=5, decimal_places=2)
    note = forms.CharField(required=False, max_length=500)

    def share(self) -> Decimal:
        was, typed, slid = (self.cleaned_data[name] for name in ("was", "percentage", "slider"))
        if typed is not None and typed != was:
            return typed
        return was if slid is None or slid == round(was) else Decimal(slid)


@dataclass(frozen=True, slots=True)
class Row:
    label: str
    candidate: Any
    active: Any
    verdict: str = ""
    tone: str = ""


def _gate_initial(gate: Gate) -> dict[str, str]:
    points, ratio = gate.max_error_rate_increase, gate.max_latency_ratio
    return {
        "max_error_points": "" if points is None else f"{points * 100:g}",
        "max_latency_ratio": "" if ratio is None else f"{ratio:g}",
        "min_requests": str(gate.min_requests),
        "window_minutes": f"{gate.window_seconds / 60:g}",
    }


# --- The page and its steps -------------------------------------------------------------------------------------------------


def trial_view(request: HttpRequest, pk: int) -> HttpResponse:
    _need(request, "view")
    policy = get_object_or_404(Policy, pk=pk)
    if request.method != "POST":
        return _page(request, policy)
    _need(request, "change", policy)
    form = StartForm(policy, request.POST)
    if form.is_valid():
        try:
            trials.start(
                policy,
                form.cleaned_data["read"],
                form.cleaned_data["percentage"],
                form.gate(),
                note=form.cleaned_data["note"],
            )
        except ValidationError as error:
            form.take(error)
        except TrialRunning as error:
            messages.error(request, str(error))
            return redirect(PAGE, pk)
        else:
            messages.success(request, _("%s of the clients get it now.") % _percent(form.cleaned_data["percentage"]))
            return redirect(PAGE, pk)
    return _page(request, policy, start=form)


@require_POST
def share_view(request: HttpRequest, pk: int) -> HttpResponse:
    policy = get_object_or_404(Policy, pk=pk)
    form = ShareForm(request.POST)
    if not form.is_valid():
        _need(request, "change", policy)
        messages.error(request, _("Nothing was changed: %s") % _said(form))
        return redirect(PAGE, pk)
    # Whoever took the policy from a file may still take its clients from a candidate.
    _need(request, "change", policy if form.share() else None)
    if policy.candidate_percentage != form.cleaned_data["was"]:
        told = _("Nothing was changed: meanwhile the share became %(share)s.")
        messages.error(request, told % {"share": _percent(policy.candidate_percentage)})
        return redirect(PAGE, pk)
    return _step(
        request,
        pk,
        lambda: trials.change(policy, percentage=form.share(), note=form.cleaned_data["note"]),
        _("%s of the clients get it now.") % _percent(form.share()),
    )


@require_POST
def gate_view(request: HttpRequest, pk: int) -> HttpResponse:
    policy = get_object_or_404(Policy, pk=pk)
    _need(request, "change", policy)
    form = GateForm(request.POST)
    if not form.is_valid():
        messages.error(request, _("Nothing was changed: %s") % _said(form))
        return redirect(PAGE, pk)
    return _step(request, pk, lambda: trials.change(policy, gate=form.gate()), _("The gate is as you said."))


@require_POST
def promote_view(request: HttpRequest, pk: int) -> HttpResponse:
    policy = get_object_or_404(Policy, pk=pk)
    _need(request, "change", policy)
    done = _("Version %s counts for all.") % policy.candidate_version
    return _step(request, pk, lambda: trials.promote(policy, note=request.POST.get("note", "")[:500]), done)


@require_POST
def stop_view(request: HttpRequest, pk: int) -> HttpResponse:
    policy = get_object_or_404(Policy, pk=pk)
    _need(request, "change")
    done = _("Every client gets version %s.") % policy.version
    return _step(request, pk, lambda: trials.stop(policy, note=request.POST.get("note", "")[:500]), done)


@require_GET
def live_view(request: HttpRequest, pk: int) -> HttpResponse:
    """The figures anew; "over" when the state has become another one."""
    _need(request, "view")
    trial = trials.of(get_object_or_404(Policy, pk=pk))
    response = TemplateResponse(request, "admin/routing/policy/trial_figures.html", _figures(trial))
    response["Cache-Control"] = "no-store"
    if trial.state != request.GET.get("state"):
        response["X-Live"] = "over"
    return response


def _step(request: HttpRequest, pk: int, step: Any, done: str) -> HttpResponse:
    try:
        step()
    except (NoTrial, TrialRunning) as error:
        messages.error(request, _("Nothing was changed: %s") % error)
    except ValidationError as error:
        messages.error(request, _("Nothing was changed: %s") % " ".join(error.messages))
    else:
        messages.success(request, f"{done} {_('Every process follows within two seconds.')}")
    return redirect(PAGE, pk)


def _need(request: HttpRequest, right: str, policy: Policy | None = None) -> None:
    """The right, and that no file owns the policy that would be changed."""
    if not request.user.has_perm(f"routing.{right}_policy"):  # type: ignore[union-attr]
        raise PermissionDenied
    if policy is not None:
        try:
            ownership.refuse_if_owned(policy)
        except ownership.OwnedByFile as error:
            raise PermissionDenied(str(error)) from None


def _said(form: forms.Form) -> str:
    return " ".join(str(sentence) for sentences in form.errors.values() for sentence in sentences)


# --- What it shows ----------------------------------------------------------------------------------------------------------


def _page(request: HttpRequest, policy: Policy, start: StartForm | None = None) -> HttpResponse:
    trial = trials.of(policy)
    may_change = request.user.has_perm("routing.change_policy") and not policy.managed_by  # type: ignore[union-attr]
    has_candidate = trial.state != trials.NONE
    offers_start = trial.state in (trials.NONE, trials.ROLLED_BACK)
    context = {
        "policy": policy,
        "trial": trial,
        "may_change": may_change,
        "may_end": request.user.has_perm("routing.change_policy"),  # type: ignore[union-attr]
        "has_candidate": has_candidate,
        "share": _percent(trial.percentage),
        "slider": round(trial.percentage),
        "tone": {trials.RUNNING: "warn", trials.ROLLED_BACK: "bad"}.get(trial.state, ""),
        "found_at": _moment(trial.finding),
        "differences": policy_documents.told_differences(policy.document, trial.document or {})
        if has_candidate
        else [],
        "gate_form": GateForm(initial=_gate_initial(trial.gate or _USUAL)),
        "start": (start or StartForm(policy)) if offers_start and may_change else None,
        "live": f"{reverse('admin:routing_policy_trial_live', args=[policy.pk])}?state={trial.state}",
        "live_seconds": LIVE_SECONDS,
        "twins": _twins(request, policy, trial),
        **_figures(trial),
    }
    title = _("Version on trial: %s") % policy.name
    return pages.render(request, "admin/routing/policy/trial.html", {"title": title, **context})


def _moment(finding: Mapping[str, Any] | None) -> Any:
    return timezone.datetime.fromisoformat(finding["at"]) if finding is not None else None  # type: ignore[attr-defined]


def _figures(trial: Trial) -> dict[str, Any]:
    comparison = trials.compare(trial, timezone.now())
    if comparison is None:
        return {"trial": trial, "comparison": None}
    tones = {BROKEN: (_("breaks its gate"), "bad"), KEPT: (_("keeps to its gate"), "good")}
    word, tone = tones.get(comparison.verdict.outcome, (_("too early to say"), ""))
    return {
        "trial": trial,
        "comparison": comparison,
        "rows": _rows(comparison),
        "verdict_word": word,
        "verdict_tone": tone,
        "earlier": comparison.active_since < comparison.since,
    }


def _rows(comparison: Comparison) -> list[Row]:
    candidate, active = comparison.candidate, comparison.active
    return [
        Row(_("Requests"), cells.number(candidate.requests), cells.number(active.requests)),
        Row(_("Failed"), _rate(candidate), _rate(active), *_points(candidate, active)),
        Row(
            _("Median until the reply"),
            cells.milliseconds(candidate.latency_ms),
            cells.milliseconds(active.latency_ms),
            *_ratio(candidate.latency_ms, active.latency_ms),
        ),
        Row(_("Cost of a request"), _money(candidate), _money(active), *_ratio(candidate.cost, active.cost)),
    ]


def _rate(figures: Figures) -> Any:
    return cells.number(figures.error_rate * 100 if figures.requests else None, "%", 2)


def _money(figures: Figures) -> Any:
    return cells.money(None if figures.cost is None else Decimal(str(figures.cost)))


def _points(candidate: Figures, active: Figures) -> tuple[str, str]:
    if not candidate.requests or not active.requests:
        return "", ""
    points = (candidate.error_rate - active.error_rate) * 100
    if abs(points) < 0.005:
        return "level", ""
    return f"{points:+.2f} points", "bad" if points > 0 else "good"


def _ratio(candidate: float | None, active: float | None) -> tuple[str, str]:
    if not candidate or not active:
        return "", ""
    ratio = candidate / active
    if abs(ratio - 1) < 0.005:
        return "level", ""
    return f"×{ratio:.2f}", "bad" if ratio > 1 else "good"


def _percent(share: Decimal) -> str:
    return f"{float(share):g}\u202f%"


def _twins(request: HttpRequest, policy: Policy, trial: Trial) -> list[tuple[str, str]]:
    url = request.build_absolute_uri(f"/api/v1/policies/{policy.pk}/trial")
    name = shlex.quote(policy.name)
    key = '-H "Authorization: Bearer $GATEWAY_KEY"'
    body = json.dumps({"document": policy.document, "percentage": 5}, ensure_ascii=False).replace("'", r"'\''")
    if trial.state == trials.NONE:
        return [
            ("Begin a trial", f"python manage.py policy_trial {name} --document new.yaml --percentage 5"),
            ("The same over HTTP", f"curl -X PUT {key} -H 'Content-Type: application/json' \\\n  -d '{body}' {url}"),
        ]
    return [
        ("How it does", f"python manage.py policy_trial {name}\ncurl {key} {url}"),
        ("Another share", f"python manage.py policy_trial {name} --percentage 25"),
        ("Promote it", f"python manage.py policy_trial {name} --promote\ncurl -X POST {key} {url}/promote"),
        ("Stop it", f"python manage.py policy_trial {name} --stop\ncurl -X DELETE {key} {url}"),
    ]


for _name, _path, _view in (
    ("", "", trial_view),
    ("_share", "share/", share_view),
    ("_gate", "gate/", gate_view),
    ("_promote", "promote/", promote_view),
    ("_stop", "stop/", stop_view),
    ("_live", "live/", live_view),
):
    pages.register(f"routing/policy/<int:pk>/trial/{_path}", f"routing_policy_trial{_name}", _view)
