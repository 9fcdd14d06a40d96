"""The registry in the admin: providers with their models, keys and parameters, the test of a connection, discovery, the audit.

Every write goes through the models, so each leaves its audit entry under the user's name and raises the revision. No page
renders a secret: forms take them, lists show hints and fingerprints.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import Count, DateTimeField, OuterRef, Q, QuerySet, Subquery, Value
from django.db.models.functions import Coalesce
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.admin import TabularInline
from unfold.views import ChangeList

from providers import (
    actor,
    admin_audit,  # noqa: F401  (registers its pages)
    admin_configuration,  # noqa: F401
    admin_imports,  # noqa: F401
    admin_models,  # noqa: F401
    admin_prices,  # noqa: F401
    breaker_states,
    cells,
    connection,
    discovery,
    holding,
    keyring,
    probes,
    provider_types,
)
from providers.forms import (
    PREFIX,
    ApiKeyForm,
    ConnectionParameterForm,
    OwnedRowsStay,
    ProviderModelForm,
    form_of,
)
from providers.models import ApiKey, ConnectionParameter, ProbeResult, Provider, ProviderModel
from providers.provider_filters import StateFilter, TypeFilter, label_of
from providers.provider_types import ProviderType
from providers.secrets import SecretError
from providers.tables import RegistryAdmin

STRIP_CELLS = 48
PROBES_SHOWN = 20
MOST_VERIFIED_AT_ONCE = 20_000
"""Entries up to which opening the audit list verifies the chain; a longer one is verified on demand."""


# --- Parts of a provider --------------------------------------------------------------------------------------------------


class ModelInline(TabularInline):
    model = ProviderModel
    formset = OwnedRowsStay
    form = ProviderModelForm
    fields = ("model_id", "model_type", "context_window", "max_tokens", "capabilities", "enabled")
    extra = 0
    per_page = 25
    tab = True
    show_change_link = True
    hide_title = True
    verbose_name_plural = "models"


class KeyInline(TabularInline):
    model = ApiKey
    form = ApiKeyForm
    fields = ("name", "new_secret", "stored", "environment", "weight", "expires_at", "enabled", "last_used")
    readonly_fields = ("stored", "last_used")
    extra = 0
    tab = True
    hide_title = True
    verbose_name_plural = "keys"

    @admin.display(description="Stored")
    def stored(self, key: ApiKey) -> SafeString:
        if not key.pk:
            return cells.EMPTY
        return format_html('<code class="gw-code">{}</code><br><small>{}</small>', key.hint, key.fingerprint)

    @admin.display(description="Last used")
    def last_used(self, key: ApiKey) -> SafeString:
        return cells.ago(key.last_used_at)


class ParameterInline(TabularInline):
    model = ConnectionParameter
    form = ConnectionParameterForm
    fields = ("param_name", "value", "stored", "is_sensitive", "environment")
    readonly_fields = ("stored",)
    extra = 0
    tab = True
    hide_title = True
    verbose_name_plural = "parameters"

    @admin.display(description="Stored")
    def stored(self, parameter: ConnectionParameter) -> SafeString:
        if not parameter.pk:
            return cells.EMPTY
        if not parameter.is_sensitive:
            return format_html('<code class="gw-code">{}</code>', parameter.plain_value or "")
        try:
            value = parameter.secret_value
        except SecretError:
            return cells.pill("unreadable", "bad", "The encryption key of this value is not on the ring.")
        text = keyring.fingerprint(value.reveal()) if value is not None else ""
        return format_html('<code class="gw-code">•••• {}</code>', text)


class ProbeInline(TabularInline):
    model = ProbeResult
    fields = ("when", "state", "trigger", "model_tested", "took", "message")
    readonly_fields = fields
    extra = 0
    tab = True
    hide_title = True
    can_delete = False
    verbose_name_plural = "probes"

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        rows = super().get_queryset(request)
        match = request.resolver_match
        pk = match.kwargs.get("object_id") if match else None
        shown = ProbeResult.objects.filter(provider_id=pk).order_by("-id").values_list("pk", flat=True)[:PROBES_SHOWN]
        return rows.filter(pk__in=list(shown)) if pk and str(pk).isdigit() else rows.none()

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    @admin.display(description="When")
    def when(self, probe: ProbeResult) -> SafeString:
        return cells.ago(probe.at)

    @admin.display(description="State")
    def state(self, probe: ProbeResult) -> SafeString:
        return cells.pill(*cells.state_of(probe), stages_in_words(probe))

    @admin.display(description="Took")
    def took(self, probe: ProbeResult) -> SafeString:
        return cells.milliseconds(probe.duration_ms)


def stages_in_words(probe: ProbeResult) -> str:
    return "\n".join(
        f"{stage['name']}: {stage['status']}" + (f" ({stage['message']})" if stage["message"] else "")
        for stage in probe.stages
    )


# --- Providers -------------------------------------------------------------------------------------------------------------


class ProviderChangeList(ChangeList):
    """Brings the last probe of every row of the page in one query."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        rows = list(self.result_list)
        last = ProbeResult.objects.in_bulk([row.last_probe_id for row in rows if row.last_probe_id])
        breakers = breaker_states.read([row.provider_id for row in rows])
        for row in rows:
            row.last_probe = last.get(row.last_probe_id)
            row.breaker_state = breakers.get(row.provider_id)
        self.result_list = rows


@admin.register(Provider)
class ProviderAdmin(RegistryAdmin):
    list_display = ("name", "type", "state", "latency", "models_count", "keys_count", "priority_cell", "is_on", "tools")
    list_filter = (StateFilter, TypeFilter, "enabled")
    search_fields = ("provider_id", "display_name", "description")
    search_help_text = "Search by id, name or description"
    actions = ("test_connection", "discover_models", "reset_breakers", "enable", "disable")
    harmless_actions = frozenset({"test_connection"})
    ordering = ("priority", "provider_id")
    warn_unsaved_form = True
    list_before_template = "admin/providers/provider/list_before.html"
    change_form_outer_before_template = "admin/providers/provider/overview.html"
    delete_confirmation_template = "admin/providers/provider/delete_confirmation.html"
    readonly_fields = ("type",)

    # The list

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        now = timezone.now()
        probes_of = ProbeResult.objects.filter(provider=OuterRef("pk"))
        parameter = ConnectionParameter.objects.filter(
            provider=OuterRef("pk"), param_name="base_url", is_sensitive=False, environment=settings.GATEWAY_ENVIRONMENT
        )
        usable = ApiKey.objects.filter(ApiKey.usable(now), provider=OuterRef("pk")).order_by().values("provider")
        models = ProviderModel.objects.filter(provider=OuterRef("pk")).order_by().values("provider")
        rows = super().get_queryset(request)
        if request.resolver_match and not (request.resolver_match.url_name or "").endswith("_changelist"):
            return rows
        return rows.annotate(
            last_probe_id=Subquery(probes_of.order_by("-id").values("id")[:1]),
            healthy_since=_since(probes_of, healthy=True),
            unhealthy_since=_since(probes_of, healthy=False),
            base_url_here=Subquery(parameter.values("plain_value")[:1]),
            models_all=Coalesce(Subquery(models.annotate(n=Count("pk")).values("n")), 0),
            models_on=Coalesce(Subquery(models.annotate(n=Count("pk", filter=Q(enabled=True))).values("n")), 0),
            keys_usable=Coalesce(Subquery(usable.annotate(n=Count("pk")).values("n")), 0),
        )

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return ProviderChangeList

    @admin.display(description="Provider", ordering="display_name")
    def name(self, provider: Any) -> SafeString:
        base_url = getattr(provider, "base_url_here", None) or shown_base_url(provider)
        return format_html(
            '<span class="gw-name"><strong>{}</strong><small title="{}">{}</small></span>',
            provider.display_name or provider.provider_id,
            base_url,
            base_url or provider.provider_id,
        )

    @admin.display(description="Type", ordering="provider_type")
    def type(self, provider: Provider) -> str:
        return label_of(provider.provider_type)

    @admin.display(description="State")
    def state(self, provider: Any) -> SafeString:
        last = provider.last_probe
        since = (provider.healthy_since if last.healthy else provider.unhealthy_since) if last else None
        probed, breaker = cells.health(provider.enabled, last, since), provider.breaker_state
        return probed if breaker is None else format_html("<span>{}<br>{}</span>", probed, _breaker(breaker))

    @admin.display(description="Latency")
    def latency(self, provider: Any) -> SafeString:
        return cells.milliseconds(cells.latency_of(provider.last_probe))

    @admin.display(description="Models", ordering="models_on")
    def models_count(self, provider: Any) -> SafeString:
        title = f"{provider.models_on} of {provider.models_all} enabled"
        return format_html('<span class="gw-num" title="{}">{}</span>', title, provider.models_on)

    @admin.display(description="Keys", ordering="keys_usable")
    def keys_count(self, provider: Any) -> SafeString:
        kind = provider_types.find(provider.provider_type)
        if kind is not None and kind.needs_key and not provider.keys_usable:
            return format_html('<span class="gw-num">{}</span>', cells.pill("none", "bad", "No key is usable here."))
        return cells.number(provider.keys_usable)

    @admin.display(description="Priority", ordering="priority")
    def priority_cell(self, provider: Provider) -> SafeString:
        return cells.number(provider.priority)

    @admin.display(description="Enabled", ordering="enabled")
    def is_on(self, provider: Provider) -> SafeString:
        return cells.on_or_off(provider.enabled)

    @admin.display(description="")
    def tools(self, provider: Provider) -> SafeString:
        return format_html(
            '<span class="gw-tools"><a class="gw-button" data-dialog href="{}">Test</a>'
            '<a class="gw-button" href="{}">Discover</a></span>',
            reverse("admin:providers_provider_test", args=[provider.pk]),
            reverse("admin:providers_provider_discover", args=[provider.pk]),
        )

    # The form

    def get_form(self, request: HttpRequest, obj: Provider | None = None, change: bool = False, **kwargs: Any) -> Any:
        return super().get_form(request, obj, change=change, form=form_of(self._kind(request, obj)), **kwargs)

    def get_fieldsets(self, request: HttpRequest, obj: Provider | None = None) -> list[tuple[str | None, dict]]:
        kind = self._kind(request, obj)
        may_edit = self.has_change_permission(request, obj) if obj else self.has_add_permission(request)
        declared = [PREFIX + parameter.name for parameter in kind.parameters] if kind else []
        first = [name for name in declared if name in {f"{PREFIX}base_url", f"{PREFIX}model_path", f"{PREFIX}reply"}]
        rest = [name for name in declared if name not in first]
        if not may_edit:
            first, rest = [], []
        general = ["provider_id", "display_name", *(["type"] if obj else []), *first]
        if obj is None:
            general += ["new_key"] if kind is None or kind.needs_key or kind.runs_in == "web" else []
        connection_fields = [*rest, *(["extra_params"] if may_edit else [])]
        if may_edit and obj is not None and _has_secrets(obj):
            connection_fields.append("forget_secrets")
        return [
            (None, {"fields": general, "description": kind.help if kind and obj is None else ""}),
            ("Routing", {"fields": ["enabled", "priority", "locality", "data_tags"]}),
            ("Connection", {"fields": connection_fields, "classes": ["collapse"]}),
            ("Probes", {"fields": ["probe_interval_seconds", "allow_paid_probes"], "classes": ["collapse"]}),
            ("Circuit breaker", {"fields": ["breaker"], "classes": ["collapse"]}),
            ("Notes and behaviour", {"fields": ["description", "request_settings"], "classes": ["collapse"]}),
        ]

    def get_inlines(self, request: HttpRequest, obj: Provider | None = None) -> list[type[TabularInline]]:
        return [ModelInline, KeyInline, ParameterInline, ProbeInline] if obj else []

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
            return self._page(
                request, "admin/providers/provider/choose_type.html", "Add a provider", groups=_type_groups()
            )
        return super().add_view(request, form_url, {"title": f"Add {kind.label}", **(extra_context or {})})

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        provider = self.get_object(request, object_id)
        overview = {} if provider is None else self._overview(provider)
        return super().change_view(request, object_id, form_url, {**overview, **(extra_context or {})})

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        try:
            with transaction.atomic():
                return super().changeform_view(request, *args, **kwargs)
        except holding.SecretsStay as error:
            self.message_user(request, f"Nothing was saved. {error.messages[0]}", messages.ERROR)
            return redirect(request.get_full_path())

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        super().save_related(request, form, formsets, change)
        if change and (told := holding.warning(form.instance.api_keys.all())):
            self.message_user(request, told, messages.WARNING)
        if not change and form.cleaned_data.get("new_key"):
            ApiKey.objects.create(
                provider=form.instance, secret=form.cleaned_data["new_key"], environment=settings.GATEWAY_ENVIRONMENT
            )

    def response_add(self, request: HttpRequest, obj: Provider, post_url_continue: str | None = None) -> HttpResponse:
        if "_addanother" in request.POST or "_popup" in request.POST:
            return super().response_add(request, obj, post_url_continue)
        self.message_user(request, f"{obj} is saved. Test its connection, then discover its models.", messages.SUCCESS)
        return redirect("admin:providers_provider_change", obj.pk)

    # Deleting

    def get_deleted_objects(self, objs: Iterable[Provider], request: HttpRequest) -> tuple[list, dict, set, list]:
        """Counts instead of the hundreds of rows that go with a provider."""
        providers = list(objs)
        pks = [provider.pk for provider in providers]
        listed: list[Any] = []
        counted = {
            "models": ProviderModel.objects.filter(provider__in=pks),
            "keys": ApiKey.objects.filter(provider__in=pks),
            "parameters": ConnectionParameter.objects.filter(provider__in=pks),
            "probe results": ProbeResult.objects.filter(provider__in=pks),
        }
        totals = {name: rows.count() for name, rows in counted.items()}
        for provider in providers:
            listed.append(f"Provider: {provider} ({provider.provider_id})")
        lost = losing_their_only_provider(pks)
        if lost:
            listed.append(f"No other provider serves: {', '.join(lost[:20])}{' …' if len(lost) > 20 else ''}")
        perms = set() if self.has_delete_permission(request) else {"provider"}
        return listed, totals, perms, []

    def delete_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        provider = self.get_object(request, object_id)
        if not self.has_delete_permission(request, provider):
            raise PermissionDenied
        if request.method == "POST" and provider and request.POST.get("confirmation", "") != provider.provider_id:
            self.message_user(
                request, f"Nothing was deleted: type {provider.provider_id} to confirm.", messages.WARNING
            )
            return redirect("admin:providers_provider_delete", object_id)
        with actor.giving_reason(request.POST.get("reason", "")[:500]):
            return super().delete_view(request, object_id, extra_context)

    # Actions on a selection

    @admin.action(description="Test connection", permissions=["change"])
    def test_connection(self, request: HttpRequest, queryset: QuerySet) -> HttpResponse:
        return self._page(
            request, "admin/providers/provider/test_many.html", "Test connections", providers=list(queryset)
        )

    @admin.action(description="Discover models", permissions=["change"])
    def discover_models(self, request: HttpRequest, queryset: QuerySet) -> HttpResponse:
        chosen = list(queryset)
        if len(chosen) == 1:
            return redirect("admin:providers_provider_discover", chosen[0].pk)
        return self._page(request, "admin/providers/provider/discover_many.html", "Discover models", providers=chosen)

    @admin.action(description="Reset circuit breakers", permissions=["change"])
    def reset_breakers(self, request: HttpRequest, queryset: QuerySet) -> None:
        try:
            done = [route for provider in queryset for route in breaker_states.reset(provider.provider_id)]
        except breaker_states.CannotReset as error:
            self.message_user(request, f"Not reset: {error}.", messages.ERROR)
            return
        self.message_user(request, f"Reset {_list_of(done) or 'nothing: every breaker was well'}.", messages.SUCCESS)

    @admin.action(description="Enable", permissions=["change"])
    def enable(self, request: HttpRequest, queryset: QuerySet) -> None:
        changed = _switch(queryset, on=True)
        self.message_user(request, f"Enabled {_list_of(changed) or 'nothing: all were on already'}.", messages.SUCCESS)

    @admin.action(description="Disable…", permissions=["change"])
    def disable(self, request: HttpRequest, queryset: QuerySet) -> HttpResponse | None:
        if "confirmed" not in request.POST:
            chosen = list(queryset)
            lost = losing_their_only_provider([provider.pk for provider in chosen])
            return self._page(
                request,
                "admin/providers/provider/disable.html",
                "Disable providers",
                providers=chosen,
                lost=lost,
            )
        with actor.giving_reason(request.POST.get("reason", "")[:500]):
            changed = _switch(queryset, on=False)
        self.message_user(
            request, f"Disabled {_list_of(changed) or 'nothing: all were off already'}.", messages.SUCCESS
        )
        return None

    # Own pages

    def get_urls(self) -> list:
        wrap = self.admin_site.admin_view
        own = [
            path("<int:pk>/test/", wrap(self.test_view), name="providers_provider_test"),
            path("<int:pk>/discover/", wrap(self.discover_view), name="providers_provider_discover"),
        ]
        return own + super().get_urls()

    def test_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """The staged test: a page of its own, or the fragment that a dialog shows. Needs the change permission."""
        provider = self._changeable(request, pk)
        result = None
        if request.method == "POST":
            wish = True if request.POST.get("generate") else None
            result = probes.probe(provider, trigger="admin", generate=wish)
        kind = provider_types.find(provider.provider_type)
        context = {
            "provider": provider,
            "result": result,
            "last": None if result else provider.probes.order_by("-id").first(),
            "may_be_billed": kind is not None and not kind.free and not provider.allow_paid_probes,
        }
        if request.headers.get("X-Fragment"):
            return TemplateResponse(request, "admin/providers/provider/test_fragment.html", context)
        return self._page(request, "admin/providers/provider/test.html", f"Test {provider}", **context)

    def discover_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """What is new, gone and unchanged; a tick takes it over. Needs the change permission."""
        provider = self._changeable(request, pk)
        try:
            offers = discovery.offered(provider)
        except discovery.DiscoveryFailed as error:
            return self._page(
                request,
                "admin/providers/provider/discover.html",
                f"Models of {provider}",
                provider=provider,
                failure=error,
            )
        if request.method == "POST":
            return self._apply(request, provider, offers)
        difference = discovery.compare(provider, offers)
        return self._page(
            request,
            "admin/providers/provider/discover.html",
            f"Models of {provider}",
            provider=provider,
            difference=difference,
            tick_new=len(difference.new) <= 25,
        )

    def _apply(self, request: HttpRequest, provider: Provider, offers: list[discovery.Offered]) -> HttpResponse:
        wanted = set(request.POST.getlist("add"))
        applied = discovery.apply(
            provider,
            add=[offer for offer in offers if offer.model_id in wanted],
            disable=request.POST.getlist("disable"),
        )
        said = [f"{len(ids)} {verb}" for ids, verb in ((applied.added, "added"), (applied.disabled, "disabled")) if ids]
        self.message_user(request, f"Models: {', '.join(said) or 'nothing changed'}.", messages.SUCCESS)
        return redirect(reverse("admin:providers_provider_change", args=[provider.pk]) + "#models")

    # Parts of these

    def _changeable(self, request: HttpRequest, pk: int) -> Provider:
        provider = get_object_or_404(Provider, pk=pk)
        if not self.has_change_permission(request, provider):
            raise PermissionDenied
        return provider

    def _overview(self, provider: Provider) -> dict[str, Any]:
        recent = list(provider.probes.order_by("-id")[: probes.KEPT_PER_PROVIDER])
        last = recent[0] if recent else None
        streak = list(itertools.takewhile(lambda probe: last and probe.healthy == last.healthy, recent))
        word, tone = cells.state_of(last)
        return {
            "provider": provider,
            "last_probe": last,
            "state_word": word,
            "state_tone": tone,
            "state_since": streak[-1].at if streak else None,
            "strip": [(*cells.state_of(probe), probe) for probe in reversed(recent[:STRIP_CELLS])],
            "type_label": label_of(provider.provider_type),
            "base_url": shown_base_url(provider),
            "unverified": verifies_nothing(provider),
        }

    def _kind(self, request: HttpRequest, obj: Provider | None) -> ProviderType | None:
        return provider_types.find(obj.provider_type if obj else request.GET.get("provider_type", ""))

    def _page(self, request: HttpRequest, template: str, title: str, **context: Any) -> TemplateResponse:
        request.current_app = self.admin_site.name  # type: ignore[attr-defined]
        return TemplateResponse(
            request, template, {**self.admin_site.each_context(request), "title": title, "media": self.media, **context}
        )


def shown_base_url(provider: Provider) -> str:
    """The address of the stored row and its type, for people; rows of an environment may override it."""
    kind = provider_types.find(provider.provider_type)
    stored = provider.connection_params if isinstance(provider.connection_params, dict) else {}
    merged = connection.canonical(kind.defaults if kind else {}) | connection.canonical(stored)
    return str(merged.get("base_url") or merged.get("model_path") or "")


def verifies_nothing(provider: Provider) -> bool:
    """Whether the stored row switches off the check of the upstream's certificate."""
    stored = provider.connection_params if isinstance(provider.connection_params, dict) else {}
    return not connection.flag(stored, "verify_tls", default=True)


def losing_their_only_provider(pks: Iterable[int]) -> list[str]:
    """Model ids that nobody else serves once these providers are gone."""
    pks = list(pks)
    served = ProviderModel.objects.filter(enabled=True, provider__enabled=True)
    elsewhere = served.exclude(provider__in=pks).values("model_id")
    lost = served.filter(provider__in=pks).exclude(model_id__in=elsewhere)
    return list(lost.order_by("model_id").values_list("model_id", flat=True).distinct())


def _since(probes_of: QuerySet, *, healthy: bool) -> Subquery:
    """When the present run of this state began: the first probe after the last one of the other state."""
    other = ProbeResult.objects.filter(provider=OuterRef("provider"), healthy=not healthy).order_by("-id").values("id")
    first = probes_of.filter(healthy=healthy, id__gt=Coalesce(Subquery(other[:1]), Value(0))).order_by("id")
    return Subquery(first.values("at")[:1], output_field=DateTimeField(null=True))


def _switch(providers: Iterable[Provider], *, on: bool) -> list[Provider]:
    changed = []
    with transaction.atomic():
        for provider in providers:
            if provider.enabled != on:
                provider.enabled = on
                provider.save(update_fields=["enabled"])
                changed.append(provider)
    return changed


def _list_of(named: Iterable[Any]) -> str:
    return ", ".join(map(str, named))


def _breaker(known: breaker_states.BreakerState) -> SafeString:
    shown = cells.pill(known.words, known.tone, known.why)
    return shown if known.back_at is None else format_html("{} {}", shown, cells.ago(known.back_at))


def _has_secrets(provider: Provider) -> bool:
    return provider.__dict__.get("secret_params") is not None


def _free_id(wanted: str) -> str:
    taken = set(Provider.objects.filter(provider_id__startswith=wanted).values_list("provider_id", flat=True))
    return next(
        name for name in itertools.chain([wanted], (f"{wanted}_{n}" for n in itertools.count(2))) if name not in taken
    )


def _type_groups() -> list[tuple[str, str, list[ProviderType]]]:
    """The types as a person looks for them."""
    groups: dict[str, list[ProviderType]] = {"protocol": [], "here": [], "services": [], "servers": []}
    for kind in provider_types.registered().values():
        declares_url = any(parameter.name == "base_url" for parameter in kind.parameters)
        if kind.name == "openai_compatible":
            groups["protocol"].append(kind)
        elif not declares_url:
            groups["here"].append(kind)
        else:
            groups["services" if kind.needs_key else "servers"].append(kind)
    return [
        ("Any service", "Whatever speaks the OpenAI protocol.", groups["protocol"]),
        ("Runs here", "No other machine is asked.", groups["here"]),
        ("Your own servers", "Inference servers on this machine or your network; no key is needed.", groups["servers"]),
        ("Cloud services", "The address is filled in; you bring the key.", groups["services"]),
    ]
