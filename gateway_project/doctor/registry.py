"""Providers, models, and what the data plane has read of them."""

from __future__ import annotations

import ast
import re
from datetime import datetime, timedelta

from django.core import checks
from django.db.models import OuterRef, Q, Subquery
from django.utils import timezone

from gateway_project.doctor.findings import (
    ERROR,
    MOST_ALIKE,
    REGISTRY,
    WARNING,
    Finding,
    Fix,
    Told,
    check,
    counted,
    page,
)
from providers import price_rows, provider_tabs, revision
from providers.models import ApiKey, ProbeResult, Provider, ProviderModel
from routing import health, route_health, snapshot
from routing.route_health import AUTO_DISABLED, KEYS_EXHAUSTED, RouteHealth

BEHIND_SECONDS = 10.0
SOON = timedelta(days=7)
_PROVIDER_OF_A_NOTE = re.compile(r"""\bprovider ('[^'\\]*'|"[^"\\]*")""")
_OUR_PACKAGES = ("gateway_project", "providers", "routing", "inference")
_SAID_HERE = {"gateway.W008"}
"""Of the system checks; with links to the models themselves."""
_PAGES = {
    "gateway.W005": "providers_provider_changelist",
    "gateway.W006": "routing_rollout_changelist",
    "gateway.W007": "routing_policy_changelist",
    "gateway.W009": "routing_policy_changelist",
    "gateway.E006": "providers_provider_changelist",
}


@check("configuration", "The configuration passes the system checks", REGISTRY)
def system_checks() -> Told:
    passed = 0
    for one in checks.registry.registry.get_checks():
        if one.__module__.partition(".")[0] not in _OUR_PACKAGES:
            continue
        said = [message for message in one(app_configs=None, databases=["default"]) if message.id not in _SAID_HERE]
        passed += not said
        for message in said:
            what, _, rest = str(message.msg).partition(": ")
            yield Finding(
                ERROR if message.level >= checks.ERROR else WARNING,
                what if len(rest) > 120 else str(message.msg),
                rest if len(rest) > 120 else "`manage.py check` says the same before each start.",
                Fix(str(message.hint or "See the documentation of this check."), _page(str(message.id))),
            )
    yield f"{counted(passed, 'check')} pass."


def _page(message_id: str) -> str:
    return page(_PAGES[message_id]) if message_id in _PAGES else ""


@check("snapshot", "What is served is what is stored", REGISTRY)
def what_is_served() -> Told:
    fix = Fix(
        "Mend what is named, or undo the last change; the audit log names it.", page("providers_auditentry_changelist")
    )
    try:
        held = snapshot.current()
    except Exception as error:  # whatever keeps it from being built is what there is to say
        yield Finding(
            ERROR, "The registry cannot be read, so nothing can be served.", f"{type(error).__name__}: {error}", fix
        )
        return
    if problem := snapshot.problem():
        yield Finding(ERROR, f"The registry cannot be read: revision {held.revision} serves on.", problem, fix)
    elif held.revision < revision.current() and snapshot.age_seconds() > BEHIND_SECONDS:
        if snapshot.refresh().revision < revision.current():
            yield Finding(
                ERROR,
                f"Revision {held.revision} is served, the database has {revision.current()}.",
                "Changes that were made are not in force yet.",
                fix,
            )
        held = snapshot.current()
    for note in held.notes[:MOST_ALIKE]:
        yield Finding(
            WARNING,
            f"{note[:1].upper()}{note[1:]}.",
            "It is left out of what is served, as if it were not there.",
            Fix("Mend it where it is stored.", _link_of(note)),
        )
    if len(held.notes) > MOST_ALIKE:
        yield Finding(
            WARNING,
            f"{counted(len(held.notes) - MOST_ALIKE, 'more row')} of the registry cannot be read.",
            "They are left out of what is served.",
            Fix("The log names each when the registry is read."),
        )
    yield f"Revision {held.revision}: {counted(len(held.models), 'model')}, read {snapshot.age_seconds():.0f}\u202fs ago."


def _link_of(note: str) -> str:
    for word, name in (("policy ", "routing_policy_changelist"), ("the client key", "routing_clientkey_changelist")):
        if note.startswith(word):
            return page(name)
    named = _PROVIDER_OF_A_NOTE.search(note)
    tab = provider_tabs.KEYS if note.startswith("key ") else provider_tabs.CONNECTION
    return _tab_of(ast.literal_eval(named[1]), tab) if named else page("providers_provider_changelist")


def _tab_of(provider_id: str, tab: str) -> str:
    provider = Provider.objects.filter(provider_id=provider_id).only("pk").first()
    return page("providers_provider_changelist") if provider is None else provider_tabs.link(provider, tab)


def _named(provider: Provider) -> str:
    """Display names need not differ; ids do."""
    if provider.display_name in ("", provider.provider_id):
        return provider.provider_id
    return f"{provider.display_name} ({provider.provider_id})"


@check("providers", "Every provider passed its last probe", REGISTRY)
def providers_are_well() -> Told:
    last = ProbeResult.objects.filter(provider=OuterRef("pk")).order_by("-at")
    asked = Provider.objects.filter(enabled=True)
    ill = asked.annotate(well=Subquery(last.values("healthy")[:1]), probe=Subquery(last.values("id")[:1]))
    ill = list(ill.filter(well=False).defer("secret_params")[: MOST_ALIKE + 1])
    probes = ProbeResult.objects.in_bulk([row.probe for row in ill])
    for provider in ill[:MOST_ALIKE]:
        yield Finding(
            ERROR,
            f"{_named(provider)} is unhealthy.",
            probes[provider.probe].message or "Its last probe failed.",
            Fix("Test it, and mend what the failed stage names.", provider_tabs.link(provider)),
            _ill_since(provider),
        )
    if len(ill) > MOST_ALIKE:
        yield Finding(
            ERROR,
            "More providers are unhealthy.",
            "Only the first of them are told here.",
            Fix("See the list.", page("providers_provider_changelist")),
        )
    yield f"{counted(asked.count(), 'provider')} enabled."


def _ill_since(provider: Provider) -> datetime | None:
    probes = ProbeResult.objects.filter(provider=provider)
    well = probes.filter(healthy=True).order_by("-at").values_list("at", flat=True).first()
    since = probes.filter(healthy=False) if well is None else probes.filter(healthy=False, at__gt=well)
    return since.order_by("at").values_list("at", flat=True).first()


@check("breakers", "No model is out of service", REGISTRY)
def nothing_is_out() -> Told:
    out = [route for route in route_health.routes(health.look()) if route.enabled and route.is_out]
    told = _each_once(out)
    for route in told[:MOST_ALIKE]:
        yield _out_of_service(route)
    if len(told) > MOST_ALIKE:
        yield Finding(
            WARNING,
            f"{counted(len(told) - MOST_ALIKE, 'more model')} out of service.",
            "Only the first of them are told here.",
            Fix("See all of them.", page("health"), "manage.py breakers"),
        )
    yield "Every breaker is closed or half-open, and no key of a provider rests."


def _each_once(out: list[RouteHealth]) -> list[RouteHealth]:
    """Without a key, all models of a provider are out for one reason."""
    providers: set[str] = set()
    found = []
    for route in out:
        if route.state == KEYS_EXHAUSTED:
            if route.provider_id in providers:
                continue
            providers.add(route.provider_id)
        found.append(route)
    return found


def _out_of_service(route: RouteHealth) -> Finding:
    if route.state == AUTO_DISABLED:
        return Finding(
            ERROR,
            f"{route.route} was taken out of service by the gateway.",
            route.auto_disabled_reason,
            Fix(
                "Enable it again once its provider is well.",
                page("health"),
                f"manage.py breakers --enable {route.route}",
            ),
            route.auto_disabled_at,
        )
    if route.state == KEYS_EXHAUSTED:
        return Finding(
            WARNING,
            f"Every key of {route.provider_id} rests.",
            "Its provider refuses them for now, so none of its models is asked.",
            Fix(
                "Add a key, or raise the quota there.",
                _tab_of(route.provider_id, provider_tabs.KEYS),
                f"manage.py breakers --reset {route.provider_id}",
            ),
        )
    return Finding(
        WARNING,
        f"The breaker of {route.route} is open.",
        f"{counted(route.condition.failures, 'failure')} in a row, the last one {route.code or 'of unknown cause'}; it is not asked.",
        Fix(
            "It is tried again by itself; reset it once its cause is mended.",
            page("health"),
            f"manage.py breakers --reset {route.route}",
        ),
        route.opened_at,
    )


@check("keys", "Keys for providers last, and none is held back", REGISTRY)
def upstream_keys_last() -> Told:
    now = timezone.now()
    enabled = ApiKey.objects.filter(enabled=True, provider__enabled=True)
    ending = (
        enabled.filter(Q(expires_at__lte=now + SOON))
        .select_related("provider")
        .defer("secret", "provider__secret_params")
    )
    for key in ending.order_by("expires_at")[:MOST_ALIKE]:
        over = key.expires_at <= now
        yield Finding(
            ERROR if over else WARNING,
            f"A key of {_named(key.provider)} {'has expired' if over else f'expires in {_days(key.expires_at - now)}'}.",
            "An expired key is not used; without another one, the provider is not asked.",
            Fix("Add its successor.", provider_tabs.link(key.provider, provider_tabs.KEYS)),
            key.expires_at if over else None,
        )
    for provider in Provider.objects.filter(pk__in=enabled.exclude(held_for="").values("provider"))[:MOST_ALIKE]:
        yield Finding(
            ERROR,
            f"Keys of {_named(provider)} are held back.",
            "They were entered for another address than the provider has now, so they are not shown there.",
            Fix("Enter them anew, or release them.", provider_tabs.link(provider, provider_tabs.KEYS)),
        )
    yield f"{counted(enabled.count(), 'key')} enabled."


def _days(left: timedelta) -> str:
    return counted(left.days, "day") if left.days else "less than a day"


@check("prices", "Every model in use has a price", REGISTRY)
def models_have_prices() -> Told:
    in_use = ProviderModel.objects.filter(enabled=True, provider__enabled=True).select_related("provider")
    rows = {row.pk: row for row in in_use.order_by("provider__priority", "id")}
    prices = price_rows.of_models(rows.values())
    unknown = [row for pk, row in rows.items() if not prices[pk].says_something]
    if unknown:
        named = ", ".join(row.route for row in unknown[:3]) + (" …" if len(unknown) > 3 else "")
        yield Finding(
            WARNING,
            f"Nobody knows the price of {counted(len(unknown), 'model')}: {named}.",
            "Their use is not in the spend, no budget sees it, and limits of cost refuse them.",
            Fix(
                "Set prices on the models, or add rules.",
                page("providers_providermodel_change", unknown[0].pk)
                if len(unknown) == 1
                else page("providers_priceoverride_changelist"),
                "manage.py prices --unknown",
            ),
        )
    yield f"The prices of {counted(len(rows), 'model')} are known."
