"""The registry in the admin: providers, and by the modules named here their models, prices, imports, the audit and the configuration.

Every write goes through the models, so each leaves its audit entry under the user's name and raises the revision. No page
renders a secret: forms take them, lists show hints and fingerprints.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

from django.conf import settings
from django.contrib import admin, messages
from django.contrib.admin.utils import flatten_fieldsets
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as lazy
from django.utils.translation import ngettext
from unfold.admin import TabularInline
from unfold.views import ChangeList

from providers import (
    actor,
    admin_audit,  # noqa: F401  (registers its pages, as do the others)
    admin_configuration,  # noqa: F401
    admin_imports,  # noqa: F401
    admin_models,  # noqa: F401
    admin_prices,  # noqa: F401
    holding,
    policy_uses,
    provider_tabs,
    provider_twins,
    provider_types,
    type_gallery,
    unread_secrets,
)
from providers.forms import PREFIX, TIMEOUTS, form_of
from providers.models import ApiKey, ConnectionParameter, ProbeResult, Provider, ProviderModel
from providers.provider_filters import StateFilter, TypeFilter, label_of
from providers.provider_list import ProviderChangeList, ProviderColumns
from providers.provider_pages import ProviderPages
from providers.provider_parts import KeyInline, ParameterInline
from providers.provider_rows import losing_their_only_provider
from providers.provider_types import ProviderType
from providers.tables import RegistryAdmin

_FIRST = ("base_url", "model_path", "reply")
"""Parameters of which a type has one, and which is what the provider is."""
_WAY = ("proxy", "verify_tls", "ca_file", "allow_private")
"""Parameters that say by which way the address is reached."""


@admin.register(Provider)
class ProviderAdmin(ProviderPages, ProviderColumns, RegistryAdmin):
    list_filter = (StateFilter, TypeFilter, "enabled")
    search_fields = ("provider_id", "display_name", "description")
    search_help_text = lazy("Search by id, name or description")
    actions = ("test_connection", "discover_models", "reset_breakers", "enable", "disable", "delete_disabled")
    harmless_actions = frozenset({"test_connection"})
    ordering = ("priority", "provider_id")
    warn_unsaved_form = True
    compressed_fields = True
    list_before_template = "admin/providers/provider/list_before.html"
    list_after_template = "admin/providers/provider/list_after.html"
    change_form_outer_before_template = "admin/providers/provider/head.html"
    delete_confirmation_template = "admin/providers/provider/delete_confirmation.html"
    readonly_fields = ("kind",)

    class Media:
        js = ("gateway/providers.js",)

    # The list

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return ProviderChangeList

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        more = {"twins": provider_twins.twins_of_all(request)}
        return super().changelist_view(request, {**more, **(extra_context or {})})

    @admin.display(description=lazy("Kind"))
    def kind(self, provider: Provider) -> str:
        return label_of(provider.provider_type)

    # The form, a part of it for each tab

    def get_form(self, request: HttpRequest, obj: Provider | None = None, change: bool = False, **kwargs: Any) -> Any:
        form = super().get_form(request, obj, change=change, form=form_of(self._kind(request, obj)), **kwargs)
        shown = set(flatten_fieldsets(self.get_fieldsets(request, obj)))
        for name in [name for name in form.base_fields if name not in shown]:
            del form.base_fields[name]  # what another tab edits must not come back empty
        return form

    def get_fieldsets(self, request: HttpRequest, obj: Provider | None = None) -> list[tuple[Any, dict]]:
        if obj is None:
            return self._all_of_a_new_one(request)
        tab = provider_tabs.chosen(request)
        if tab == provider_tabs.CONNECTION:
            return self._connection(request, obj)
        if tab == provider_tabs.SETTINGS:
            return _of_settings()
        return []

    def _all_of_a_new_one(self, request: HttpRequest) -> list[tuple[Any, dict]]:
        kind = self._kind(request, None)
        declared = [parameter.name for parameter in kind.parameters] if kind else []
        first = [PREFIX + name for name in _FIRST if name in declared]
        rest = [PREFIX + name for name in declared if name not in _FIRST]
        key = ["new_key"] if kind is None or kind.needs_key or kind.runs_in == "web" else []
        return [
            (
                None,
                {"fields": [("provider_id", "display_name"), *first, *key], "description": kind.help if kind else ""},
            ),
            (_("Routing"), {"fields": [("priority", "enabled"), ("locality", "data_tags")]}),
            (_("More of the connection"), {"fields": [*_pairs(rest), "extra_params"], "classes": ["collapse"]}),
            (_("Notes"), {"fields": ["description"], "classes": ["collapse"]}),
        ]

    def _connection(self, request: HttpRequest, obj: Provider) -> list[tuple[Any, dict]]:
        if not self.has_change_permission(request, obj):
            return [(None, {"fields": ["kind", "request_settings"]})]
        kind = self._kind(request, obj)
        declared = [parameter.name for parameter in kind.parameters] if kind else []
        first = [PREFIX + name for name in _FIRST if name in declared]
        own = [PREFIX + name for name in declared if name not in (*_FIRST, *_WAY, "headers")]
        way = [PREFIX + name for name in _WAY if name in declared]
        headers = [f"{PREFIX}headers"] if "headers" in declared else []
        secrets = ["forget_secrets"] if obj.__dict__.get("secret_params") is not None else []
        found = [(None, {"fields": ["kind", *first, *_pairs(own)]})]
        if way:
            found.append((_("The way there"), {"fields": _pairs(way)}))
        return [
            *found,
            (_("Timeouts"), {"fields": _pairs(list(TIMEOUTS))}),
            (_("Headers and other parameters"), {"fields": [*headers, "extra_params", "request_settings", *secrets]}),
        ]

    def get_inlines(self, request: HttpRequest, obj: Provider | None = None) -> list[type[TabularInline]]:
        tabs = {provider_tabs.KEYS: [KeyInline], provider_tabs.CONNECTION: [ParameterInline]}
        return tabs.get(provider_tabs.chosen(request), []) if obj else []

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        kind = self._kind(request, None)
        initial = dict(super().get_changeform_initial_data(request))
        if kind is not None:
            initial.setdefault("display_name", kind.label.partition(" (")[0])
            initial.setdefault("provider_id", _free_id(kind.name))
        return initial

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        if not self.has_add_permission(request):
            raise PermissionDenied
        kind = self._kind(request, None)
        if kind is None:
            wanted = request.GET.get("q", "")
            shown = {"groups": type_gallery.groups(wanted), "wanted": wanted}
            return self._page(request, "admin/providers/provider/choose_type.html", _("Add a provider"), **shown)
        title = _("Add %(kind)s") % {"kind": kind.label}
        alone = {"show_save_and_add_another": False, "show_save_and_continue": False}
        return super().add_view(request, form_url, {"title": title, **alone, **(extra_context or {})})

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        provider = self.get_object(request, object_id)
        if provider is None:
            return super().change_view(request, object_id, form_url, extra_context)
        tab = provider_tabs.chosen(request)
        if not self.has_view_permission(request, provider):
            raise PermissionDenied
        more = provider_tabs.head(provider, tab, request) | {
            "may_change": self.has_change_permission(request, provider),
            "may_delete": self.has_delete_permission(request, provider),
            "may_handle_secrets": request.user.has_perm(holding.PERMISSION),
        }
        if tab not in provider_tabs.FORMS:
            if request.method == "POST":
                raise PermissionDenied
            more |= provider_tabs.of(provider, tab, more["known"], request.user)
            return self._page(request, f"admin/providers/provider/{tab}.html", str(provider), **more)
        more |= {"show_save_and_add_another": False, "show_save_and_continue": False, "show_delete": False}
        return super().change_view(request, object_id, form_url, {**more, **(extra_context or {})})

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        try:
            with transaction.atomic():
                return super().changeform_view(request, *args, **kwargs)
        except holding.SecretsStay as error:
            self.message_user(request, f"{_('Nothing was saved.')} {error.messages[0]}", messages.ERROR)
            return redirect(request.get_full_path())

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        super().save_related(request, form, formsets, change)
        if change and (told := holding.warning(form.instance.api_keys.all())):
            self.message_user(request, told, messages.WARNING)
        if not change and form.cleaned_data.get("new_key"):
            ApiKey.objects.create(
                provider=form.instance, secret=form.cleaned_data["new_key"], environment=settings.GATEWAY_ENVIRONMENT
            )
        if not change or provider_tabs.chosen(request) != provider_tabs.SETTINGS:
            for told in unread_secrets.of_provider(form.instance):
                self.message_user(request, told, messages.WARNING)

    def response_add(self, request: HttpRequest, obj: Provider, post_url_continue: str | None = None) -> HttpResponse:
        if "_addanother" in request.POST or "_popup" in request.POST:
            return super().response_add(request, obj, post_url_continue)
        told = _("%(provider)s is saved. Test its connection, then discover its models.") % {"provider": obj}
        self.message_user(request, told, messages.SUCCESS)
        return redirect(provider_tabs.link(obj))

    def response_change(self, request: HttpRequest, obj: Provider) -> HttpResponse:
        self.message_user(request, _("%(provider)s is saved.") % {"provider": obj}, messages.SUCCESS)
        return redirect(provider_tabs.link(obj, provider_tabs.chosen(request)))

    # Deleting

    def get_deleted_objects(self, objs: Iterable[Provider], request: HttpRequest) -> tuple[list, dict, set, list]:
        """Counts instead of the hundreds of rows that go with a provider."""
        providers = list(objs)
        pks = [provider.pk for provider in providers]
        counted = {
            _("models"): ProviderModel.objects.filter(provider__in=pks),
            _("keys"): ApiKey.objects.filter(provider__in=pks),
            _("parameters"): ConnectionParameter.objects.filter(provider__in=pks),
            _("probe results"): ProbeResult.objects.filter(provider__in=pks),
        }
        totals = {name: rows.count() for name, rows in counted.items()}
        listed: list[Any] = [f"{provider} ({provider.provider_id})" for provider in providers]
        lost = losing_their_only_provider(pks)
        if lost:
            names = f"{', '.join(lost[:20])}{' …' if len(lost) > 20 else ''}"
            listed.append(_("No other provider serves: %(models)s") % {"models": names})
        stranded = policy_uses.lost_without([provider.provider_id for provider in providers]).stranded
        if stranded:
            told = ngettext(
                "%(n)s policy loses its only healthy target: %(names)s",
                "%(n)s policies lose their only healthy target: %(names)s",
                len(stranded),
            )
            listed.append(told % {"n": len(stranded), "names": ", ".join(stranded[:20])})
        perms = set() if self.has_delete_permission(request) else {"provider"}
        return listed, totals, perms, []

    def delete_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        provider = self.get_object(request, object_id)
        if not self.has_delete_permission(request, provider):
            raise PermissionDenied
        if request.method == "POST" and provider and request.POST.get("confirmation", "") != provider.provider_id:
            told = _("Nothing was deleted: type %(name)s to confirm.") % {"name": provider.provider_id}
            self.message_user(request, told, messages.WARNING)
            return redirect("admin:providers_provider_delete", object_id)
        with actor.giving_reason(request.POST.get("reason", "")[:500]):
            return super().delete_view(request, object_id, extra_context)

    # Actions on a selection

    @admin.action(description=lazy("Test connection"), permissions=["change"])
    def test_connection(self, request: HttpRequest, queryset: QuerySet) -> HttpResponse:
        chosen = list(queryset)
        page = "admin/providers/provider/test_many.html"
        return self._page(request, page, _("Test connections"), providers=chosen)

    @admin.action(description=lazy("Discover models"), permissions=["change"])
    def discover_models(self, request: HttpRequest, queryset: QuerySet) -> HttpResponse:
        chosen = list(queryset)
        if len(chosen) == 1:
            return redirect("admin:providers_provider_discover", chosen[0].pk)
        page = "admin/providers/provider/discover_many.html"
        return self._page(request, page, _("Discover models"), providers=chosen)

    @admin.action(description=lazy("Reset circuit breakers"), permissions=["change"])
    def reset_breakers(self, request: HttpRequest, queryset: QuerySet) -> None:
        self._reset(request, queryset)

    @admin.action(description=lazy("Enable"), permissions=["change"])
    def enable(self, request: HttpRequest, queryset: QuerySet) -> None:
        self._switched(request, queryset, on=True)

    @admin.action(description=lazy("Disable…"), permissions=["change"])
    def disable(self, request: HttpRequest, queryset: QuerySet) -> HttpResponse | None:
        if "confirmed" not in request.POST:
            return self._ask_to_disable(request, list(queryset), reverse("admin:providers_provider_changelist"))
        self._switched(request, queryset, on=False)
        return None

    @admin.action(description=lazy("Delete those that are disabled…"), permissions=["delete"])
    def delete_disabled(self, request: HttpRequest, queryset: QuerySet) -> HttpResponse | None:
        chosen = [row for row in queryset.filter(enabled=False) if self.has_delete_permission(request, row)]
        if not chosen:
            self.message_user(request, _("None of the selection is disabled: nothing was deleted."), messages.WARNING)
            return None
        if request.POST.get("confirmation") != str(len(chosen)):
            listed, totals, _perms, _protected = self.get_deleted_objects(chosen, request)
            shown = {"providers": chosen, "totals": totals, "consequences": listed[len(chosen) :]}
            title = _("Delete disabled providers")
            return self._page(request, "admin/providers/provider/delete_disabled.html", title, **shown)
        with actor.giving_reason(request.POST.get("reason", "")[:500]):
            self.delete_queryset(request, queryset.filter(pk__in=[row.pk for row in chosen]))
        names = ", ".join(map(str, chosen))
        self.message_user(request, _("Deleted: %(names)s.") % {"names": names}, messages.SUCCESS)
        return None

    def _kind(self, request: HttpRequest, obj: Provider | None) -> ProviderType | None:
        return provider_types.find(obj.provider_type if obj else request.GET.get("provider_type", ""))


def _of_settings() -> list[tuple[Any, dict]]:
    return [
        (_("Name"), {"fields": [("provider_id", "display_name"), "description"]}),
        (_("Routing"), {"fields": [("enabled", "priority"), ("locality", "data_tags")]}),
        (_("Probes and breaker"), {"fields": [("probe_interval_seconds", "allow_paid_probes"), "breaker"]}),
    ]


def _pairs(names: list[str]) -> list[Any]:
    """Two fields to a line."""
    return [tuple(names[start : start + 2]) for start in range(0, len(names), 2)]


def _free_id(wanted: str) -> str:
    taken = set(Provider.objects.filter(provider_id__startswith=wanted).values_list("provider_id", flat=True))
    return next(
        name for name in itertools.chain([wanted], (f"{wanted}_{n}" for n in itertools.count(2))) if name not in taken
    )
