"""Client keys in the admin: issued once, shown once, switched off and on, never readable again."""

from __future__ import annotations

import copy
from datetime import timedelta
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import transaction
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django.views.decorators.http import require_POST

from providers import actor, cells, pages
from providers.models import ProviderModel
from providers.secrets import Secret
from providers.tables import SwitchableAdmin
from routing import (
    admin_budgets,  # noqa: F401  (registers its pages)
    admin_health,  # noqa: F401  (registers its page)
    admin_limits,  # noqa: F401  (registers its pages)
    admin_policies,  # noqa: F401  (registers its pages)
    admin_routing_settings,  # noqa: F401
    admin_select,  # noqa: F401  (registers its page)
    admin_stops,  # noqa: F401  (registers its page)
    admin_teams,  # noqa: F401  (registers its pages)
    admin_trials,  # noqa: F401
    filters,
    issuing,
    key_cells,
    key_figures,
    key_pages,
    key_twins,
    scope_grants,
    visibility,
)
from routing.key_forms import ClientKeyForm, RevokeForm, RotateForm, scope_choices
from routing.models import ClientKey
from routing.team_pages import ManagedByTeams, TeamFilter
from routing.types import Identity

STATES = {
    "active": gettext_lazy("active"),
    "suspended": gettext_lazy("suspended"),
    "revoked": gettext_lazy("revoked"),
    "expired": gettext_lazy("expired"),
    "expiring": gettext_lazy("expires soon"),
    "idle": gettext_lazy("unused for 30 days"),
}
_IDLE = timedelta(days=30)


def _in_state(state: str) -> Q:
    now = timezone.now()
    is_past = Q(expires_at__lte=now)
    is_active = ~is_past & (Q(team=None) | Q(team__enabled=True)) & Q(enabled=True)
    return {
        "active": is_active,
        "suspended": Q(enabled=False, revoked_at=None),
        "revoked": Q(revoked_at__isnull=False),
        "expired": is_past & Q(enabled=True),
        "expiring": is_active & Q(expires_at__lt=now + key_cells.SOON),
        "idle": is_active
        & Q(created_at__lt=now - _IDLE)
        & (Q(last_used_at__isnull=True) | Q(last_used_at__lt=now - _IDLE)),
    }[state]


class StateFilter(admin.SimpleListFilter):
    title = gettext_lazy("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return list(STATES.items())

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        wanted = self.value()
        return queryset.filter(_in_state(wanted)) if wanted in STATES else queryset


@admin.register(ClientKey)
class ClientKeyAdmin(ManagedByTeams, SwitchableAdmin):
    form = ClientKeyForm
    list_display = ("title", "team_cell", "uses", "limits", "budget", "expires", "last_used", "state")
    list_filter = (StateFilter, TeamFilter)
    list_select_related = ("team",)
    search_fields = ("name", "prefix")
    search_help_text = gettext_lazy("Search by name or prefix")
    ordering = ("-created_at",)
    list_display_links = None
    show_add_link = False
    list_before_template = "admin/routing/clientkey/list_before.html"
    list_after_template = "gateway/twins.html"
    change_form_outer_before_template = "admin/routing/clientkey/settings_head.html"
    readonly_fields = ("created", "last_used")

    def may_write(self, request: HttpRequest, row: ClientKey | None = None) -> bool:
        """A key with scopes that the user may not give is out of the user's hands: to rotate it would be to have it."""
        return super().may_write(request, row) and (row is None or scope_grants.may_handle(request.user, row.scopes))

    def get_form(self, request: HttpRequest, obj: ClientKey | None = None, change: bool = False, **kwargs: Any) -> Any:
        form = super().get_form(request, obj, change=change, **kwargs)
        # Copies: a field that the form declares is one object for all, and here it is made to fit whoever asks.
        fields = form.base_fields = copy.deepcopy(form.base_fields)
        if "scopes" in fields:
            fields["scopes"].choices = scope_choices(request.user)
        if visibility.managed_by(request.user) is not None:
            # A team's managers keep its keys within the team, and do not multiply their budgets.
            for name, attribute in (("team", "required"), ("role", "disabled")):
                if name in fields:
                    setattr(fields[name], attribute, True)
        return form

    def get_fieldsets(self, request: HttpRequest, obj: ClientKey | None = None) -> list[tuple[str | None, dict]]:
        return [
            (None, {"fields": ["name", "team", "scopes", *(["created", "last_used"] if obj else [])]}),
            (_("What it may use"), {"fields": ["allowed_policies", "allowed_models", "allowed_providers"]}),
            (_("From where, and until when"), {"fields": ["ip_ranges", "expires_at"]}),
            (_("How it is counted"), {"fields": ["tags", "role", "captures_content"]}),
        ]

    # The list

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        changes = super().get_changelist_instance(request)
        keys = list(changes.result_list)
        figures = key_figures.of_page(keys)
        for key in keys:
            key.figures = figures[key.pk]
        changes.result_list = keys
        return changes

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        rows = self.get_queryset(request)
        counts = {name: Count("pk", filter=_in_state(name)) for name in STATES}
        found = rows.order_by().aggregate(all=Count("pk"), **counts)
        chips = [("", _("all"), found["all"]), *((name, STATES[name], found[name]) for name in STATES)]
        shown = {
            "chips": [chip for chip in chips if chip[2] or chip[0] in ("", request.GET.get("state"))],
            "chosen": request.GET.get("state", ""),
            "no_keys": not found["all"],
            "twins": key_twins.of_list(request),
        }
        return super().changelist_view(request, {**shown, **(extra_context or {})})

    @admin.display(description=gettext_lazy("Key"), ordering="name")
    def title(self, key: ClientKey) -> SafeString:
        return format_html(
            '<span class="gw-name"><strong><a class="gw-key-name" href="{}">{}</a></strong><small>{}…</small></span>',
            reverse("admin:routing_clientkey_overview", args=[key.pk]),
            key.name,
            key.prefix,
        )

    @admin.display(description=gettext_lazy("Team"), ordering="team__name")
    def team_cell(self, key: ClientKey) -> Any:
        return key.team.name if key.team is not None else cells.EMPTY

    @admin.display(description=gettext_lazy("May use"))
    def uses(self, key: ClientKey) -> SafeString:
        return key_cells.uses(key)

    @admin.display(description=gettext_lazy("Limits"))
    def limits(self, key: Any) -> Any:
        return key_cells.limits(key.figures)

    @admin.display(description=gettext_lazy("Budget"))
    def budget(self, key: Any) -> SafeString:
        return key_cells.budget(key.figures)

    @admin.display(description=gettext_lazy("Expires"), ordering="expires_at")
    def expires(self, key: ClientKey) -> Any:
        return key_cells.expires(key)

    @admin.display(description=gettext_lazy("Last used"), ordering="last_used_at")
    def last_used(self, key: ClientKey) -> SafeString:
        return key_cells.last_used(key)

    @admin.display(description=gettext_lazy("Created"), ordering="created_at")
    def created(self, key: ClientKey) -> SafeString:
        by = _("by %(who)s") % {"who": cells.who(key.created_by)} if key.created_by else ""
        imported = _("imported from %(system)s") % {"system": key.imported_from} if key.imported_from else ""
        return format_html("{} {}", cells.ago(key.created_at), ", ".join(filter(None, (by, imported))))

    @admin.display(description=gettext_lazy("State"), ordering="enabled")
    def state(self, key: ClientKey) -> SafeString:
        return key_cells.state(key)

    @admin.action(description=gettext_lazy("Resume"), permissions=["change"])
    def enable(self, request: HttpRequest, queryset: QuerySet) -> None:
        count = self.switch(queryset.filter(revoked_at__isnull=True), on=True)
        told = ngettext("%(count)d key resumed.", "%(count)d keys resumed.", count) % {"count": count}
        self.message_user(request, f"{told} {_('What is revoked stays revoked.')}", messages.SUCCESS)

    @admin.action(description=gettext_lazy("Suspend"), permissions=["change"])
    def disable(self, request: HttpRequest, queryset: QuerySet) -> None:
        count = self.switch(queryset, on=False)
        told = ngettext("%(count)d key suspended.", "%(count)d keys suspended.", count) % {"count": count}
        self.message_user(request, told, messages.SUCCESS)

    # Own pages

    def get_urls(self) -> list:
        wrap = self.admin_site.admin_view
        own = [
            path("<int:pk>/overview/", wrap(self.overview_view), name="routing_clientkey_overview"),
            path("<int:pk>/rotate/", wrap(self.rotate_view), name="routing_clientkey_rotate"),
            path("<int:pk>/revoke/", wrap(self.revoke_view), name="routing_clientkey_revoke"),
            path("<int:pk>/switch/", wrap(require_POST(self.switch_view)), name="routing_clientkey_switch"),
            path(
                "<int:pk>/end-overlap/", wrap(require_POST(self.end_overlap_view)), name="routing_clientkey_end_overlap"
            ),
        ]
        return own + super().get_urls()

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> Any:
        key = kwargs.get("obj")
        if key is not None:
            may = self.has_change_permission(request, key)
            context |= {"key": key, "key_state": key_cells.state(key), "may_change_key": may, "tab": "settings"}
        return super().render_change_form(request, context, *args, **kwargs)

    def overview_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        key = get_object_or_404(self.get_queryset(request), pk=pk)
        if not self.has_view_permission(request, key):
            raise PermissionDenied
        shown = {
            "key_state": key_cells.state(key),
            "may_change_key": self.has_change_permission(request, key),
            "key_uses": key_cells.uses(key),
            "key_expires": key_cells.expires(key),
            "key_last_used": key_cells.last_used(key),
            "key_created": self.created(key),
            "twins": key_twins.of_key(request, key),
            "tab": "overview",
        }
        return self._page(request, "overview", key.name, key=key, **shown, **key_pages.overview(request, key))

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        """Issue a key and show it, in the answer to this one request and nowhere else."""
        # A key is shown in the answer to its creation: there is no other page to go on to.
        extra_context = {"show_save_and_add_another": False, "show_save_and_continue": False, **(extra_context or {})}
        if request.method != "POST":
            return super().add_view(request, form_url, extra_context)
        if not self.has_add_permission(request):
            raise PermissionDenied
        form = self.get_form(request)(request.POST)
        if not form.is_valid():
            return super().add_view(request, form_url, extra_context)
        with transaction.atomic():
            key, plaintext = issuing.issue(**form.cleaned_data)
            self.log_addition(request, key, [{"added": {}}])
        return self._shown_once(request, key, plaintext, _("Client key created"))

    def rotate_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Another secret for the same key, shown in this one answer."""
        key = self._changeable(request, pk)
        form = RotateForm(request.POST or None)
        if request.method == "POST" and form.is_valid():
            try:
                plaintext = issuing.rotate(key, form.span)
            except ValidationError as error:
                form.add_error(None, error)
            else:
                return self._shown_once(request, key, plaintext, _("Client key rotated"))
        return self._page(request, "rotate", _("Rotate %(key)s") % {"key": key.name}, key=key, form=form)

    def revoke_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        key = self._changeable(request, pk)
        form = RevokeForm(request.POST or None, name=key.name)
        if request.method == "POST" and form.is_valid():
            with actor.giving_reason(form.cleaned_data["reason"]):
                key.revoke(form.cleaned_data["reason"])
            told = _("%(key)s is revoked: no process lets it in any more in two seconds.") % {"key": key}
            self.message_user(request, told, messages.SUCCESS)
            return redirect("admin:routing_clientkey_overview", pk)
        return self._page(request, "revoke", _("Revoke %(key)s") % {"key": key.name}, key=key, form=form)

    def switch_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Suspend it, or resume it, as the button said: the page may be older than the key's state."""
        key = self._changeable(request, pk)
        try:
            key.resume() if request.POST.get("to") == "on" else key.suspend()
        except ValidationError as error:
            self.message_user(request, " ".join(error.messages), messages.ERROR)
        else:
            told = _("%(key)s is in service again.") if key.enabled else _("%(key)s is suspended.")
            self.message_user(request, told % {"key": key}, messages.SUCCESS)
        return redirect("admin:routing_clientkey_overview", pk)

    def end_overlap_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        key = self._changeable(request, pk)
        issuing.end_overlap(key)
        self.message_user(request, _("The key before the last rotation is not good any more."), messages.SUCCESS)
        return redirect("admin:routing_clientkey_overview", pk)

    def _changeable(self, request: HttpRequest, pk: int) -> ClientKey:
        key = get_object_or_404(self.get_queryset(request), pk=pk)
        if not self.has_change_permission(request, key):
            raise PermissionDenied
        return key

    def _shown_once(self, request: HttpRequest, key: ClientKey, plaintext: Secret, title: str) -> HttpResponse:
        response = self._page(
            request,
            "issued",
            title,
            key=key,
            plaintext=plaintext.reveal(),
            base_url=request.build_absolute_uri("/v1"),
            model=_example_model(key),
        )
        response["Cache-Control"] = "no-store"
        return response

    def _page(self, request: HttpRequest, name: str, title: str, **context: Any) -> TemplateResponse:
        return pages.render(request, f"admin/routing/clientkey/{name}.html", {"title": title, **context})


_MOST_LOOKED_AT = 200


def _example_model(key: ClientKey) -> str:
    """A name that the key may send: of its patterns one that is a name, else of a chat model that they allow."""
    patterns = [*(key.allowed_policies or ()), *(key.allowed_models or ())]
    plain = next((name for name in patterns if not set(name) & set("*?[")), "")
    return plain or next((row.model_id for row in _chat_models() if _may_name(key.identity, row)), "MODEL")


def _chat_models() -> QuerySet[ProviderModel]:
    rows = ProviderModel.objects.filter(enabled=True, provider__enabled=True, model_type="chat")
    return rows.select_related("provider").order_by("provider__priority", "pk")[:_MOST_LOOKED_AT]


def _may_name(identity: Identity, model: ProviderModel) -> bool:
    by_name = any(filters.permits_name(identity, name) for name in (model.model_id, model.route))
    return by_name and filters.permits_provider(identity, model.provider.provider_id)
