"""What is done about a model that does not fare well: reset by hand, taken out of service by the gateway, put back.

Taking out and putting back are changes of the registry and audited as such, the gateway's own as the system's. A reset changes
no row, and leaves an entry all the same.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.utils import timezone

from providers import audit, breaker_settings, ownership
from providers.breaker_states import CannotReset
from providers.models import ApiKey, ProbeResult, Provider, ProviderModel
from routing import health
from routing.breakers import CLOSED
from routing.models import RoutingSettings

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Reset:
    routes: tuple[str, ...]
    keys: tuple[int, ...]
    """Ids of the keys that rested and are tried again."""


def reset(provider_id: str, model_id: str | None = None) -> Reset:
    """Close the breakers of a provider, and let its resting keys be tried; or the breaker of one model.

    Raises `ProviderModel.DoesNotExist` when the registry has no such model, and `health.NotShared` when Redis is away.
    """
    rows = ProviderModel.objects.filter(provider__provider_id=provider_id)
    if model_id is not None:
        rows = rows.filter(model_id=model_id)
    routes = tuple(f"{provider_id}/{found}" for found in rows.values_list("model_id", flat=True))
    if not routes:
        raise ProviderModel.DoesNotExist(f"there is no model {provider_id}/{model_id or '*'}")
    seen = health.look()
    keys: tuple[int, ...] = ()
    if model_id is None:
        owned = ApiKey.objects.filter(provider__provider_id=provider_id).values_list("pk", flat=True)
        keys = tuple(key_id for key_id in owned if seen.mirror.keys.get(key_id))
    conditions = seen.conditions().routes
    turned = tuple(route for route in routes if route in conditions)
    before = {
        route: {"state": conditions[route].breaker, "failures": conditions[route].failures}
        for route in turned
        if conditions[route].breaker != "closed" or conditions[route].failures
    }
    with transaction.atomic():
        audit.record(
            "reset",
            "breaker",
            routes[0] if model_id is not None else provider_id,
            before={"breakers": before, "resting_keys": list(keys)},
            after={"breakers": dict.fromkeys(before, "closed"), "resting_keys": []},
        )
        health.reset(*(turned or routes[:1]))  # always a word with Redis: without it nobody knows what is turned
        health.reset_keys(*keys)
    return Reset(tuple(before), keys)


def open_breaker(provider_id: str, model_id: str) -> float:
    """Ask a model no more for the pause that its provider's breakers make; answers the seconds.

    Raises `ProviderModel.DoesNotExist` and `health.NotShared`.
    """
    rows = ProviderModel.objects.select_related("provider")
    row = rows.filter(provider__provider_id=provider_id, model_id=model_id).first()
    if row is None:
        raise ProviderModel.DoesNotExist(f"there is no model {provider_id}/{model_id}")
    numbers = breaker_settings.read(RoutingSettings.load().breaker, row.provider.breaker)
    before = health.look().conditions().of(row.route)
    with transaction.atomic():
        audit.record(
            "open",
            "breaker",
            row.route,
            before={"state": before.breaker, "failures": before.failures},
            after={"state": "open", "open_seconds": numbers.open_seconds},
        )
        health.open_breakers({row.route: numbers})
    return numbers.open_seconds


def switch(provider_id: str, model_id: str | None, *, on: bool) -> bool:
    """Switch a model, or a provider, on or off; False when it was so already.

    Raises `ProviderModel.DoesNotExist` for what is not there, and `OwnedByFile` for what a configuration file owns.
    """
    with transaction.atomic():
        if model_id is None:
            row: Any = Provider.objects.select_for_update().filter(provider_id=provider_id).first()
        else:
            models = ProviderModel.objects.select_for_update().select_related("provider")
            row = models.filter(provider__provider_id=provider_id, model_id=model_id).first()
        if row is None:
            raise ProviderModel.DoesNotExist(f"there is no {provider_id}/{model_id or '*'}")
        ownership.refuse_if_owned(row)
        if row.enabled is on:
            return False
        row.enabled = on
        row.save()
    return True


def reset_provider(provider_id: str) -> tuple[str, ...]:
    """As the provider list asks for it. Raises `CannotReset`; a provider without models has nothing to reset."""
    try:
        return reset(provider_id).routes
    except ProviderModel.DoesNotExist:
        return ()
    except health.NotShared as error:
        raise CannotReset(str(error)) from error


def named(route: str) -> tuple[str, str | None]:
    """The provider and the model that `provider/model` means, or a provider alone. Raises `ProviderModel.DoesNotExist`."""
    row = ProviderModel.of_route(route)
    if row is not None:
        return row.provider.provider_id, row.model_id
    if ProviderModel.objects.filter(provider__provider_id=route).exists():
        return route, None
    raise ProviderModel.DoesNotExist(f"there is no model or provider named {route!r}")


def enable_again(rows: Iterable[ProviderModel]) -> list[str]:
    """Put back what the gateway took out, with its breaker closed; returns the routes."""
    routes = []
    with transaction.atomic():
        for row in rows:
            if row.auto_disabled_at is not None:
                row.auto_disabled_at, row.auto_disabled_reason = None, ""
                row.save()
                routes.append(row.route)
        if routes:
            transaction.on_commit(lambda: _reset_if_possible(routes))
    return routes


def disable_failing() -> list[str]:
    """Take out of service what failed more often in a row than its provider's settings bear; returns the routes."""
    seen = health.look()
    failures = {route: known.failures for route, known in seen.mirror.breakers.items() if known.failures}
    if not failures:
        return []
    usual = RoutingSettings.load().breaker
    rows = ProviderModel.objects.filter(auto_disabled_at__isnull=True, enabled=True, provider__enabled=True)
    disabled = []
    for row in rows.filter(model_id__in=_model_ids(failures)).select_related("provider"):
        route = row.route
        bears = breaker_settings.read(usual, row.provider.breaker).auto_disable_after
        if bears and failures.get(route, 0) > bears:
            code = seen.mirror.breakers[route].code
            if disable(route, f"{failures[route]} failures in a row, the last one {code}"):
                disabled.append(route)
    return disabled


def disable(route: str, reason: str) -> bool:
    """Take one model out of service as the gateway's own doing; False when it is out already, or is no model."""
    try:
        provider_id, model_id = named(route)
    except ProviderModel.DoesNotExist:
        return False
    with transaction.atomic():
        rows = ProviderModel.objects.select_for_update().filter(
            provider__provider_id=provider_id, model_id=model_id, auto_disabled_at__isnull=True
        )
        for row in rows:
            row.auto_disabled_at, row.auto_disabled_reason = timezone.now(), reason[:500]
            row.save()
            return True
    return False


def after_probe(result: ProbeResult) -> None:
    """A provider that is well gets its models back: those that were out before the probe began. The model that answered the
    probe needs no more calls to prove itself."""
    if not result.healthy:
        return
    began = result.at - timedelta(milliseconds=result.duration_ms)
    back = enable_again(result.provider.models.filter(auto_disabled_at__lt=began).select_related("provider"))
    if back:
        log.info("in service again after a good probe: %s", ", ".join(back))
    tested = f"{result.provider.provider_id}/{result.model_tested}"
    if result.model_tested and health.read().of(tested).breaker != CLOSED:
        _reset_if_possible([tested])


def _model_ids(routes: Iterable[str]) -> set[str]:
    """What may stand behind a slash of the routes: both parts may hold slashes themselves."""
    ids = set()
    for route in routes:
        parts = route.split("/")
        ids.update("/".join(parts[start:]) for start in range(1, len(parts)))
    return ids


def _reset_if_possible(routes: list[str]) -> None:
    try:
        health.reset(*routes)
    except health.NotShared as error:  # the breaker finds out by itself
        log.warning("breakers were not reset: %s", error)
