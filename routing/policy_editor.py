"""One policy in the admin: an editor that explains a request to what is being written, every version with what it changed, and
what stands over it.

What a configuration file owns is shown and left alone; an override stands over it all the same, as it is no change to it.
"""

from __future__ import annotations

import time
from decimal import Decimal
from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from providers import cells, ownership, pages
from providers.actions import AlreadyExists
from providers.pricing import USD
from providers.tables import SwitchableAdmin
from routing import (
    explain,
    health,
    policy_actions,
    policy_cells,
    policy_checks,
    policy_documents,
    policy_standing,
    policy_traffic,
    policy_twins,
    snapshot,
    strategies,
)
from routing.cached_answers import CacheAway
from routing.decide import decide
from routing.drafts import with_draft
from routing.models import Policy
from routing.policy_documents import KINDS, BadPolicy, PolicyDocument
from routing.policy_forms import OverrideForm, PolicyForm, SampleForm
from routing.target_forms import targets_of
from routing.types import RequestFacts, Snapshot

VERSIONS_SHOWN = 30
NAMES_OFFERED = 500
CANDIDATES_SHOWN = 12


class PolicyEditor(SwitchableAdmin):
    """The pages of one policy."""

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        if not self.has_add_permission(request):
            raise PermissionDenied
        return self._edit(request, None)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        row = self._row(object_id)
        if not self.has_view_or_change_permission(request, row):
            raise PermissionDenied
        return self._edit(request, row)

    def _edit(self, request: HttpRequest, row: Policy | None) -> HttpResponse:
        posted = request.POST if request.method == "POST" else None
        form, rows, sample = self._forms(request, row, posted)
        if posted is not None and "_explain" not in posted:
            self._need_change(request, row)
            saved = self._save(request, row, form, rows)
            if saved is not None:
                return saved
        return self._page(request, row, form, rows, sample)

    def _forms(self, request: HttpRequest, row: Policy | None, posted: Any) -> tuple[PolicyForm, Any, SampleForm]:
        """What nobody may change says what is stored, whatever a browser sends or leaves out."""
        may_change = self._may_change(request, row)
        form, rows = PolicyForm(row, posted), targets_of(row, posted, spare=may_change)
        if not may_change:
            for one in (form, *rows.forms):
                for field in one.fields.values():
                    field.disabled = True
        return form, rows, SampleForm(posted)

    def _save(self, request: HttpRequest, row: Policy | None, form: PolicyForm, rows: Any) -> HttpResponse | None:
        """Store what the form says and go on; None where something in it is wrong, which the form then shows."""
        document = _document_of(row, form, rows)
        if document is None:
            return None
        values, note = form.row_values() | {"document": document}, form.cleaned_data["note"]
        try:
            if row is None:
                stored = policy_actions.create(values, note=note)
            else:
                stored = policy_actions.update(row, values, note=note, seen=form.cleaned_data["was"])
        except AlreadyExists as error:
            form.add_error("name", str(error))
        except policy_actions.Overtaken as error:
            form.add_error(
                None,
                _("Meanwhile version %(number)s was saved. Look at it below; saving again puts yours after it.")
                % {"number": error.version},
            )
            form.data = {**form.data.dict(), "was": str(error.version)}
        except ValidationError as error:
            for sentence in error.messages:
                form.add_error(None, sentence)
        else:
            self._say_what_is_stored(request, row, stored)
            return redirect("admin:routing_policy_change", stored.pk)
        return None

    def _say_what_is_stored(self, request: HttpRequest, before: Policy | None, stored: Policy) -> None:
        if before is None or stored.version != before.version:
            messages.success(request, _("Version %s counts from the next request on.") % stored.version)
        else:
            messages.success(request, _("Saved."))
        for issue in policy_checks.current().of(stored.name).issues:
            messages.warning(request, f"{stored.name}: {issue.sentence}")

    def _page(
        self, request: HttpRequest, row: Policy | None, form: PolicyForm, rows: Any, sample: SampleForm
    ) -> HttpResponse:
        registry = snapshot.refresh()
        context = {
            "row": row,
            "form": form,
            "rows": rows,
            "cards": form.cards(),
            "weighted": (form["strategy"].value() or PolicyDocument().strategy) == "weighted",
            "sample": sample,
            "may_change": self._may_change(request, row),
            "may_override": row is not None and self.has_change_permission(request),
            "may_delete": row is not None and self.has_delete_permission(request, row),
            "explained": self._explained(row, form, rows, sample),
            "explain_url": reverse("admin:routing_policy_explain", args=[row.pk])
            if row
            else reverse("admin:routing_policy_explain_new"),
            "strategies": list(strategies.registered().values()),
            "names": list(dict.fromkeys([*registry.policies, *registry.by_name]))[:NAMES_OFFERED],
            "providers": list(registry.providers)[:NAMES_OFFERED],
            "twins": policy_twins.of_one(row),
        }
        if row is not None:
            traffic = policy_traffic.of([row.name])
            told = None if traffic is None else traffic.get(row.name, policy_traffic.NONE)
            context |= {
                "figures": [
                    (_("Can serve now"), policy_cells.standing(_standing(row, registry))),
                    (_("Requests, 24 h"), policy_cells.requests(told)),
                    (_("Failed"), policy_cells.failed(told)),
                    (_("Rescued by another try"), policy_cells.rescued(told)),
                ],
                "override": getattr(row, "override", None),
                "override_pill": policy_cells.override_pill(row),
                "override_form": OverrideForm(),
                "versions": _versions(row),
                "validation": policy_checks.of(registry).of(row.name),
            }
        return self._render(
            request,
            "admin/routing/policy/edit.html",
            _("Policy %s") % row.name if row else _("New policy"),
            above=[(_("Policies"), reverse("admin:routing_policy_changelist"))],
            crumb=row.name if row else _("New"),
            **context,
        )

    # What explains

    def explain_view(self, request: HttpRequest, pk: int | None = None) -> HttpResponse:
        """The panel anew, for what stands in the form now; nothing is stored."""
        row = self._row(pk) if pk is not None else None
        if not self.has_view_or_change_permission(request, row):
            raise PermissionDenied
        form, rows, sample = self._forms(request, row, request.POST)
        response = TemplateResponse(
            request,
            "admin/routing/policy/explained.html",
            {"explained": self._explained(row, form, rows, sample)},
        )
        response["Cache-Control"] = "no-store"
        return response

    def _explained(self, row: Policy | None, form: PolicyForm, rows: Any, sample: SampleForm) -> dict[str, Any]:
        """How a request would be served under what the form says; what does not read is said instead."""
        name = row.name if row is not None else (form.data.get("name") or "new-policy").strip()
        if form.is_bound:
            document = _document_of(row, form, rows)
            if document is None:
                said = [str(sentence) for errors in form.errors.values() for sentence in errors]
                said += [str(one) for errors in rows.errors for sentences in errors.values() for one in sentences]
                said += map(str, rows.non_form_errors())
                return {"unread": said or [_("The form does not read yet.")]}
        else:
            document = row.document if row is not None else {}
        try:
            read = policy_documents.read(document, strategies.names())
        except BadPolicy as error:
            return {"unread": [str(error)]}
        return _explanation(name, row.kind if row is not None else KINDS[0], read, sample.facts(name))

    # What stands over it

    def override_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        row = self._row(pk)
        self._need_plain_change(request)
        form = OverrideForm(request.POST)
        if not form.is_valid():
            return self._refused(request, row, form)
        target = form.cleaned_data["target"]
        registry = snapshot.refresh()
        if target not in registry.by_name and target not in registry.policies:
            messages.error(request, _("Nothing was changed: no enabled model or policy is named %s.") % target)
            return redirect("admin:routing_policy_change", row.pk)
        try:
            policy_actions.set_override(
                row.name, target, ttl_seconds=form.ttl_seconds(), reason=form.cleaned_data["reason"]
            )
        except policy_actions.NotOverridable as error:
            messages.error(request, _("Nothing was changed: %s") % error)
        else:
            messages.success(
                request,
                _("%(target)s serves %(policy)s from the next request on.") % {"target": target, "policy": row.name},
            )
        return redirect("admin:routing_policy_change", row.pk)

    def no_override_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        row = self._row(pk)
        self._need_plain_change(request)
        if policy_actions.clear_override(row.name):
            messages.success(request, _("%s decides for itself again.") % row.name)
        return redirect("admin:routing_policy_change", row.pk)

    def forget_cached_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        row = self._row(pk)
        self._need_plain_change(request)
        try:
            policy_actions.forget_cached(row)
        except CacheAway:
            messages.error(request, _("Redis does not answer; nothing was forgotten."))
        else:
            messages.success(request, _("What was cached under %s is forgotten.") % row.name)
        return redirect("admin:routing_policy_change", row.pk)

    # Its versions

    def restore_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        row = self._row(pk)
        self._need_change(request, row)
        number, note = request.POST.get("version", ""), request.POST.get("note", "")[:500]
        try:
            stored = policy_actions.restore(row, int(number) if number.isdecimal() and len(number) < 10 else 0, note)
        except policy_actions.NoSuchVersion as error:
            messages.error(request, _("Nothing was changed: %s.") % error)
        except ValidationError as error:
            messages.error(request, _("Nothing was changed: %s") % " ".join(error.messages))
        else:
            messages.success(
                request,
                _("What version %(number)s said counts again, as version %(stored)s.")
                % {"number": number, "stored": stored.version},
            )
        return redirect("admin:routing_policy_change", row.pk)

    # Common to them

    def _row(self, pk: Any) -> Policy:
        return get_object_or_404(Policy.objects.select_related("override"), pk=pk)

    def _may_change(self, request: HttpRequest, row: Policy | None) -> bool:
        if row is None:
            return self.has_add_permission(request)
        return self.has_change_permission(request, row) and not row.managed_by

    def _need_change(self, request: HttpRequest, row: Policy | None) -> None:
        if row is not None:
            self._need_plain_change(request)
            try:
                ownership.refuse_if_owned(row)
            except ownership.OwnedByFile as error:
                raise PermissionDenied(str(error)) from None

    def _need_plain_change(self, request: HttpRequest) -> None:
        if not self.has_change_permission(request):
            raise PermissionDenied

    def _refused(self, request: HttpRequest, row: Policy, form: Any) -> HttpResponse:
        said = [f"{name}: {sentence}" for name, sentences in form.errors.items() for sentence in sentences]
        messages.error(request, _("Nothing was changed: %s") % " ".join(said))
        return redirect("admin:routing_policy_change", row.pk)

    def _render(self, request: HttpRequest, template: str, title: str, **context: Any) -> TemplateResponse:
        return pages.render(request, template, {"title": title, "media": self.media, **context})

    def get_urls(self) -> list:
        wrap = self.admin_site.admin_view
        doing = {
            "explain": self.explain_view,
            "override": self.override_view,
            "no-override": self.no_override_view,
            "forget-cached": self.forget_cached_view,
            "restore": self.restore_view,
        }
        own = [
            path(f"<int:pk>/{name}/", wrap(require_POST(view)), name=f"routing_policy_{name.replace('-', '_')}")
            for name, view in doing.items()
        ]
        own.append(path("explain/", wrap(require_POST(self.explain_view)), name="routing_policy_explain_new"))
        return own + super().get_urls()


# --- Their parts ------------------------------------------------------------------------------------------------------------


def _document_of(row: Policy | None, form: PolicyForm, rows: Any) -> dict[str, Any] | None:
    """The document that the form says; None where it does not read, with the reason at the fields."""
    if not form.is_valid() or not rows.is_valid():
        return None
    stored = row.document.get("targets", []) if row is not None else []
    if not rows.check_shares(form.cleaned_data["strategy"], stored):
        return None
    try:
        read = policy_documents.read(form.document(rows.told()), strategies.names())
    except BadPolicy as error:
        for place, sentence in error.problems:
            form.take(place, sentence)
        return None
    return policy_documents.as_document(read)


def _standing(row: Policy, registry: Snapshot) -> policy_standing.Standing | None:
    view = registry.policies.get(row.name)
    return None if view is None else policy_standing.of(view, registry, health.read(), now=time.time())


def _explanation(name: str, kind: str, document: PolicyDocument, facts: RequestFacts) -> dict[str, Any]:
    now, conditions = time.time(), health.read()
    registry = with_draft(snapshot.refresh(), name, kind, document)
    told = explain.document(
        facts, decide(facts, registry, conditions, now=now), registry, conditions, now=now, most=CANDIDATES_SHOWN
    )
    cost = told["estimate"]["cost_usd"] if told["estimate"] else None
    shown = _("price unknown") if cost is None else cells.money(Decimal(str(cost)), USD)
    return {"told": told, "label": policy_cells.label_of(told["strategy"]), "cost": shown}


def _versions(row: Policy) -> list[dict[str, Any]]:
    """Newest first, each with what it changed and with what going back to it would change."""
    held = list(row.versions.order_by("-number")[: VERSIONS_SHOWN + 1])
    befores = [*held[1:], None][: len(held)]
    return [
        {
            "row": version,
            "active": version.number == row.version,
            "changed": policy_documents.told_differences(before.document, version.document)
            if before is not None
            else [],
            "first": before is None and version.number == 1,
            "back": policy_documents.told_differences(row.document, version.document),
        }
        for version, before in zip(held, befores, strict=True)
    ][:VERSIONS_SHOWN]
