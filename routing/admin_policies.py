"""Policies in the admin: a list that says what is wrong, an editor that explains a request to what is being written, every
version with what it changed, overrides, and the settings of routing as a whole.

What a configuration file owns is shown and left alone; an override stands over it all the same, as it is no change to it.
"""

from __future__ import annotations

import json
import shlex
import time
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.views.decorators.http import require_POST
from unfold.admin import ModelAdmin
from unfold.views import ChangeList

from providers import actor, cells, ownership
from providers.actions import AlreadyExists
from providers.tables import SwitchableAdmin
from routing import (
    explain,
    health,
    policy_actions,
    policy_checks,
    policy_documents,
    policy_traffic,
    snapshot,
    strategies,
)
from routing.decide import decide
from routing.drafts import with_draft
from routing.models import Policy, RoutingSettings
from routing.policy_documents import KINDS, BadPolicy, PolicyDocument
from routing.policy_forms import OverrideForm, PolicyForm, SampleForm, SettingsForm, targets_of
from routing.types import RequestFacts

LIST = "admin:routing_policy_changelist"
VERSIONS_SHOWN = 30
NAMES_OFFERED = 500
CANDIDATES_SHOWN = 12
NAMES_IN_A_CELL = 3


class KindFilter(admin.SimpleListFilter):
    title = "kind"
    parameter_name = "kind"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(kind, kind) for kind in KINDS]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        return queryset.filter(kind=self.value()) if self.value() else queryset


class PolicyChangeList(ChangeList):
    """Brings the last day's traffic of every row of the page in one query."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        rows = list(self.result_list)
        told = policy_traffic.of([row.name for row in rows])
        for row in rows:
            row.traffic = None if told is None else told.get(row.name, policy_traffic.NONE)
        self.result_list = rows


@admin.register(Policy)
class PolicyAdmin(SwitchableAdmin):
    list_display = (
        "title",
        "strategy",
        "targets",
        "fallbacks",
        "override_cell",
        "version_cell",
        "traffic_cell",
        "state",
    )
    list_filter = (KindFilter, "enabled")
    list_select_related = ("override",)
    search_fields = ("name", "description")
    search_help_text = "Search by name or description"
    ordering = ("name",)
    list_before_template = "admin/routing/policy/list_before.html"

    # The list

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        self.validation = policy_checks.current()
        shown = {
            "validation": self.validation,
            "no_policies": not Policy.objects.exists(),
            "twins": _LIST_TWINS,
        }
        return super().changelist_view(request, {**shown, **(extra_context or {})})

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return PolicyChangeList

    @admin.display(description="Policy", ordering="name")
    def title(self, row: Policy) -> SafeString:
        more = f"from {row.managed_by}" if row.managed_by else row.description
        return format_html(
            '<span class="gw-name"><strong>{}</strong><small title="{}">{}</small></span>',
            row.name,
            more,
            f"{row.kind} · {more}" if more else row.kind,
        )

    @admin.display(description="Strategy")
    def strategy(self, row: Policy) -> str:
        return label_of(row.document.get("strategy", PolicyDocument().strategy))

    @admin.display(description="Targets")
    def targets(self, row: Policy) -> Any:
        told = [_target_in_words(target) for target in row.document.get("targets", [])]
        return _listed(told) if told else format_html('<span class="gw-quiet">{}</span>', "every model that fits")

    @admin.display(description="Fallbacks")
    def fallbacks(self, row: Policy) -> Any:
        told = row.document.get("fallbacks", [])
        return _listed(told) if told else cells.EMPTY

    @admin.display(description="Override")
    def override_cell(self, row: Policy) -> Any:
        return _override_pill(row) or cells.EMPTY

    @admin.display(description="Version", ordering="version")
    def version_cell(self, row: Policy) -> Any:
        if row.candidate_version is None:
            return f"v{row.version}"
        share = f"{float(row.candidate_percentage):g}\u202f%"
        pill = cells.pill(f"v{row.candidate_version} on trial at {share}", "warn", "Some clients get it already.")
        return format_html("v{} {}", row.version, pill)

    @admin.display(description="24 h")
    def traffic_cell(self, row: Any) -> SafeString:
        told = row.traffic
        if told is None:
            return cells.number(None)
        title = f"{told.failed} failed, {told.rescued} rescued by a fallback or a retry"
        return format_html('<span title="{}">{}</span>', title, cells.number(told.requests))

    @admin.display(description="State", ordering="enabled")
    def state(self, row: Policy) -> SafeString:
        if not row.enabled:
            return cells.pill("off", "", "Clients are told that there is no such model.")
        found = self.validation.of(row.name)
        if found.issues:
            return cells.pill(_counted(len(found.issues), "issue"), "bad", _sentences(found.issues))
        if found.warnings:
            return cells.pill(_counted(len(found.warnings), "warning"), "warn", _sentences(found.warnings))
        return cells.pill("good", "good", "Somebody can serve it, and every name in it is defined.")

    # The editor

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
        document = _document_of(form, rows)
        if document is None:
            return None
        if row is not None and form.cleaned_data["was"] not in (None, row.version):
            form.add_error(
                None, f"Meanwhile version {row.version} was saved. Look at it below; saving again puts yours after it."
            )
            form.data = {**form.data.dict(), "was": str(row.version)}
            return None
        values, note = form.row_values() | {"document": document}, form.cleaned_data["note"]
        try:
            if row is None:
                stored = policy_actions.create(values, note=note)
            else:
                stored = policy_actions.update(row, values, note=note)
        except AlreadyExists as error:
            form.add_error("name", str(error))
        except ValidationError as error:
            for sentence in error.messages:
                form.add_error(None, sentence)
        else:
            self._say_what_is_stored(request, row, stored)
            return redirect("admin:routing_policy_change", stored.pk)
        return None

    def _say_what_is_stored(self, request: HttpRequest, before: Policy | None, stored: Policy) -> None:
        if before is None or stored.version != before.version:
            messages.success(request, f"Version {stored.version} counts from the next request on.")
        else:
            messages.success(request, "Saved.")
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
            "twins": _twins(row, form),
        }
        if row is not None:
            context |= {
                "override": getattr(row, "override", None),
                "override_pill": _override_pill(row),
                "override_form": OverrideForm(),
                "versions": _versions(row),
                "validation": policy_checks.of(registry).of(row.name),
            }
        return self._render(
            request, "admin/routing/policy/edit.html", f"Policy {row.name}" if row else "New policy", **context
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
            document = _document_of(form, rows)
            if document is None:
                said = [str(sentence) for errors in form.errors.values() for sentence in errors]
                said += [str(one) for errors in rows.errors for sentences in errors.values() for one in sentences]
                return {"unread": said or ["The form does not read yet."]}
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
            messages.error(request, f"Nothing was changed: no enabled model or policy is named {target}.")
            return redirect("admin:routing_policy_change", row.pk)
        try:
            policy_actions.set_override(
                row.name, target, ttl_seconds=form.ttl_seconds(), reason=form.cleaned_data["reason"]
            )
        except policy_actions.NotOverridable as error:
            messages.error(request, f"Nothing was changed: {error}")
        else:
            messages.success(request, f"{target} serves {row.name} from the next request on.")
        return redirect("admin:routing_policy_change", row.pk)

    def no_override_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        row = self._row(pk)
        self._need_plain_change(request)
        if policy_actions.clear_override(row.name):
            messages.success(request, f"{row.name} decides for itself again.")
        return redirect("admin:routing_policy_change", row.pk)

    # Its versions

    def restore_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        row = self._row(pk)
        self._need_change(request, row)
        number, note = request.POST.get("version", ""), request.POST.get("note", "")[:500]
        try:
            stored = policy_actions.restore(row, int(number) if number.isdecimal() and len(number) < 10 else 0, note)
        except policy_actions.NoSuchVersion as error:
            messages.error(request, f"Nothing was changed: {error}.")
        except ValidationError as error:
            messages.error(request, f"Nothing was changed: {' '.join(error.messages)}")
        else:
            messages.success(request, f"What version {number} said counts again, as version {stored.version}.")
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
        messages.error(request, f"Nothing was changed. {' '.join(said)}")
        return redirect("admin:routing_policy_change", row.pk)

    def _render(self, request: HttpRequest, template: str, title: str, **context: Any) -> TemplateResponse:
        request.current_app = self.admin_site.name  # type: ignore[attr-defined]
        return TemplateResponse(
            request, template, {**self.admin_site.each_context(request), "title": title, "media": self.media, **context}
        )

    def get_urls(self) -> list:
        wrap = self.admin_site.admin_view
        doing = {
            "explain": self.explain_view,
            "override": self.override_view,
            "no-override": self.no_override_view,
            "restore": self.restore_view,
        }
        own = [
            path(f"<int:pk>/{name}/", wrap(require_POST(view)), name=f"routing_policy_{name.replace('-', '_')}")
            for name, view in doing.items()
        ]
        own.append(path("explain/", wrap(require_POST(self.explain_view)), name="routing_policy_explain_new"))
        return own + super().get_urls()


# --- Their parts ------------------------------------------------------------------------------------------------------------


def label_of(strategy: str) -> str:
    held = strategies.registered().get(strategy)
    return held.label if held is not None else f"{strategy} (not registered)"


def _document_of(form: PolicyForm, rows: Any) -> dict[str, Any] | None:
    """The document that the form says; None where it does not read, with the reason at the fields."""
    if not form.is_valid() or not rows.is_valid():
        return None
    try:
        read = policy_documents.read(form.document(rows.told()), strategies.names())
    except BadPolicy as error:
        for place, sentence in error.problems:
            form.take(place, sentence)
        return None
    return policy_documents.as_document(read)


def _explanation(name: str, kind: str, document: PolicyDocument, facts: RequestFacts) -> dict[str, Any]:
    now, conditions = time.time(), health.read()
    registry = with_draft(snapshot.refresh(), name, kind, document)
    told = explain.document(
        facts, decide(facts, registry, conditions, now=now), registry, conditions, now=now, most=CANDIDATES_SHOWN
    )
    cost = told["estimate"]["cost_usd"] if told["estimate"] else None
    shown = "price unknown" if cost is None else format_html("about {}", cells.money(Decimal(str(cost)), "USD"))
    return {"told": told, "label": label_of(told["strategy"]), "cost": shown}


def _target_in_words(target: dict[str, Any]) -> str:
    if target.get("kind"):
        return f"every {target['kind']}"
    name = f"{target['provider']}/{target['model']}" if target.get("provider") else target["model"]
    weight = target.get("weight", 1)
    return name if weight == 1 else f"{name} ×{weight}"


def _listed(names: list[str]) -> SafeString:
    shown, more = names[:NAMES_IN_A_CELL], len(names) - NAMES_IN_A_CELL
    lines = format_html_join("", "<span>{}</span>", ((name,) for name in shown))
    rest = format_html('<small class="gw-quiet">+{} more</small>', more) if more > 0 else ""
    return format_html('<span class="gw-names" title="{}">{}{}</span>', ", ".join(names[:50]), lines, rest)


def _override_pill(row: Policy) -> SafeString | None:
    override = getattr(row, "override", None)
    if override is None:
        return None
    told = f"by {override.created_by}" + (f": {override.reason}" if override.reason else "")
    if override.expires_at is None:
        return format_html("{}", cells.pill(override.target, "warn", f"until it is removed, {told}"))
    left = cells.relative(override.expires_at)
    if not left.startswith("in "):
        return cells.pill("expired", "", f"{override.target}, {told}")
    return format_html(
        '{} <span class="gw-quiet">{}</span>',
        cells.pill(override.target, "warn", told),
        f"{left.removeprefix('in ')} left",
    )


def _counted(count: int, word: str) -> str:
    return f"{count} {word}{'' if count == 1 else 's'}"


def _sentences(issues: Any) -> str:
    return "\n".join(issue.sentence for issue in issues)


def _versions(row: Policy) -> list[dict[str, Any]]:
    """Newest first, each with what it changed and with what going back to it would change."""
    held = list(row.versions.order_by("-number")[: VERSIONS_SHOWN + 1])
    befores = [*held[1:], None]
    return [
        {
            "row": version,
            "active": version.number == row.version,
            "changed": _differences(before.document, version.document) if before is not None else [],
            "first": before is None and version.number == 1,
            "back": _differences(row.document, version.document),
        }
        for version, before in zip(held, befores, strict=True)
    ][:VERSIONS_SHOWN]


def _differences(before: dict[str, Any], after: dict[str, Any]) -> list[tuple[str, str | None, str | None]]:
    return [(place, _in_words(old), _in_words(new)) for place, old, new in policy_documents.differences(before, after)]


def _in_words(value: Any) -> str | None:
    if value is None:
        return None
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


_KEY = '-H "Authorization: Bearer $ADMIN_KEY"'
_LIST_TWINS = [
    ("All policies", f'curl "$GATEWAY/api/v1/policies" {_KEY}'),
    ("What is wrong with them", "manage.py validate_policies"),
    ("The same over REST", f'curl "$GATEWAY/api/admin/gateway/validate" {_KEY}'),
]


def _twins(row: Policy | None, form: PolicyForm) -> list[tuple[str, str]]:
    if row is None:
        body = {"name": "writer", "document": {"targets": ["gpt-4o"]}, "note": "why"}
        return [("Create it", _curl("POST", "/api/v1/policies", body))]
    own = f"/api/v1/policies/{row.pk}"
    return [
        ("This policy", f'curl "$GATEWAY{own}" {_KEY}'),
        ("Change it", _curl("PATCH", own, {"document": row.document, "note": "why"})),
        ("What the last version changed", f'curl "$GATEWAY{own}/diff" {_KEY}'),
        ("Restore a version", _curl("POST", f"{own}/restore", {"version": max(1, row.version - 1), "note": "why"})),
        (
            "Override it",
            _curl("POST", "/api/v1/overrides", {"policy": row.name, "target": "MODEL", "ttl_seconds": 3600}),
        ),
    ]


def _curl(method: str, url: str, body: dict[str, Any]) -> str:
    told = shlex.quote(json.dumps(body, ensure_ascii=False))
    return f'curl -X {method} "$GATEWAY{url}" {_KEY} -H "Content-Type: application/json" -d {told}'


# --- The settings of all ----------------------------------------------------------------------------------------------------


@admin.register(RoutingSettings)
class RoutingSettingsAdmin(ModelAdmin):
    """One row, so one page in place of a list."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        return redirect("admin:routing_routingsettings_changelist")

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        if not self.has_view_or_change_permission(request):
            raise PermissionDenied
        row = RoutingSettings.load()
        may_change = self.has_change_permission(request) and not row.managed_by
        form = SettingsForm(request.POST if request.method == "POST" else None, instance=row)
        if request.method == "POST":
            if not may_change:
                raise PermissionDenied
            if form.is_valid():
                with actor.giving_reason(form.cleaned_data["reason"]):
                    form.save()
                messages.success(request, "Saved. It counts from the next request on.")
                return redirect("admin:routing_routingsettings_changelist")
        if not may_change:
            for field in form.fields.values():
                field.disabled = True
        request.current_app = self.admin_site.name  # type: ignore[attr-defined]
        return TemplateResponse(
            request,
            "admin/routing/policy/settings.html",
            {
                **self.admin_site.each_context(request),
                "title": "Routing settings",
                "media": self.media,
                "form": form,
                "row": row,
                "may_change": may_change,
                "names": list(Policy.objects.filter(enabled=True).values_list("name", flat=True)[:NAMES_OFFERED]),
                "environment": _environment(),
                "twins": [
                    ("Read them", f'curl "$GATEWAY/api/v1/routing-settings" {_KEY}'),
                    ("Change them", _curl("PATCH", "/api/v1/routing-settings", {"default_policy": "default"})),
                ],
            },
        )


def _environment() -> list[str]:
    """What this process was started with, which wins over the page until a restart without it."""
    said = {
        "GATEWAY_FALLBACK_ENABLED=false": not settings.GATEWAY_FALLBACK_ENABLED,
        f"GATEWAY_MAX_RETRIES={settings.GATEWAY_MAX_RETRIES}": settings.GATEWAY_MAX_RETRIES is not None,
        f"GATEWAY_RETRY_DELAY_SECONDS={settings.GATEWAY_RETRY_DELAY_SECONDS}": (
            settings.GATEWAY_RETRY_DELAY_SECONDS is not None
        ),
        "OPENROUTER_FALLBACK_ENABLED=false": not settings.OPENROUTER_FALLBACK_ENABLED,
    }
    return [words for words, holds in said.items() if holds]
