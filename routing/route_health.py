"""How each model of the registry fares, as pages, commands and the API tell it: what is known of its route beside its row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from django.db.models import Q

from providers import breaker_states
from providers.breaker_states import BreakerState
from providers.models import ApiKey, ProviderModel
from routing import health
from routing.breakers import CLOSED, HALF_OPEN, OPEN, WELL
from routing.health import Health
from routing.types import RouteCondition

AUTO_DISABLED, KEYS_EXHAUSTED = "auto_disabled", "keys_exhausted"
_WORST = (AUTO_DISABLED, OPEN, KEYS_EXHAUSTED, HALF_OPEN, CLOSED)


@dataclass(frozen=True, slots=True)
class RouteHealth:
    pk: int
    provider_pk: int
    provider_id: str
    model_id: str
    enabled: bool
    """The administrator's word, for the model and its provider."""
    condition: RouteCondition
    code: str = ""
    """Of the last failure."""
    auto_disabled_at: datetime | None = None
    auto_disabled_reason: str = ""

    @property
    def route(self) -> str:
        return f"{self.provider_id}/{self.model_id}"

    @property
    def state(self) -> str:
        """What keeps it from serving, in a word: auto_disabled, open, keys_exhausted, half_open; or closed."""
        if self.auto_disabled_at is not None:
            return AUTO_DISABLED
        if self.condition.breaker != OPEN and self.condition.keys_back_at is not None:
            return KEYS_EXHAUSTED
        return self.condition.breaker

    @property
    def is_out(self) -> bool:
        return self.state in (AUTO_DISABLED, OPEN, KEYS_EXHAUSTED)

    @property
    def retry_at(self) -> datetime | None:
        return moment(self.condition.retry_at) if self.condition.breaker == OPEN else None

    @property
    def keys_back_at(self) -> datetime | None:
        return moment(self.condition.keys_back_at)

    @property
    def last_failure_at(self) -> datetime | None:
        return moment(self.condition.last_failure_at)

    @property
    def opened_at(self) -> datetime | None:
        return moment(self.condition.opened_at)


@dataclass(frozen=True, slots=True)
class RestingKey:
    pk: int
    provider_id: str
    name: str
    until: datetime
    code: str
    times: int


def routes(seen: Health, *, provider_id: str = "") -> list[RouteHealth]:
    """Every model of which something is known or that was taken out of service; the worst first."""
    known = seen.conditions().routes
    rows = ProviderModel.objects.filter(
        Q(auto_disabled_at__isnull=False) | Q(provider__provider_id__in=_providers(known))
    )
    if provider_id:
        rows = rows.filter(provider__provider_id=provider_id)
    told = rows.values_list(
        "pk",
        "provider_id",
        "provider__provider_id",
        "model_id",
        "enabled",
        "provider__enabled",
        "auto_disabled_at",
        "auto_disabled_reason",
    )
    found = []
    for pk, provider_pk, owner, model_id, enabled, provider_enabled, disabled_at, reason in told:
        route = f"{owner}/{model_id}"
        if route in known or disabled_at is not None:
            condition = seen.conditions().of(route)
            code = seen.mirror.breakers.get(route, WELL).code
            found.append(
                RouteHealth(
                    pk,
                    provider_pk,
                    owner,
                    model_id,
                    enabled and provider_enabled,
                    condition,
                    code,
                    disabled_at,
                    reason,
                )
            )
    return sorted(found, key=lambda row: (_WORST.index(row.state), -row.condition.failures, row.route))


def of_providers(provider_ids: Sequence[str]) -> dict[str, BreakerState]:
    """Of those that are not all well, without a query."""
    wanted = set(provider_ids)
    unwell: dict[str, dict[str, RouteCondition]] = {}
    for route, known in health.read().routes.items():
        if known.breaker != CLOSED or known.keys_back_at is not None:
            for owner in wanted.intersection(_providers([route])):
                unwell.setdefault(owner, {})[route] = known
    return {owner: _together(routes) for owner, routes in unwell.items()}


def _together(routes: Mapping[str, RouteCondition]) -> BreakerState:
    why = "\n".join(
        f"{route}: {known.breaker.replace('_', '-')}, {known.failures} failures in a row"
        for route, known in sorted(routes.items())[:10]
    )
    opened = [known for known in routes.values() if known.breaker == OPEN]
    exhausted = [known.keys_back_at for known in routes.values() if known.keys_back_at is not None]
    if opened:
        back_at = min((known.retry_at for known in opened if known.retry_at is not None), default=None)
        since = min((known.opened_at for known in opened if known.opened_at is not None), default=None)
        words = "open" if len(opened) == 1 else f"{len(opened)} open"
        return BreakerState(words, "bad", why, moment(back_at), moment(since), "half-open")
    if exhausted:
        why = "every key of the provider rests: the upstream refused them"
        return BreakerState("keys rest", "warn", why, moment(min(exhausted)), None, "tried again")
    return BreakerState("half-open", "warn", why)


def resting_keys(seen: Health) -> list[RestingKey]:
    now = seen.now()
    resting = {key_id: known for key_id, known in seen.mirror.keys.items() if known.rests(now)}
    rows = ApiKey.objects.filter(pk__in=list(resting)).select_related("provider").defer("secret")
    found = [
        RestingKey(
            row.pk,
            row.provider.provider_id,
            str(row),
            datetime.fromtimestamp(seen.epoch_seconds(resting[row.pk].until), UTC),
            resting[row.pk].code,
            resting[row.pk].times,
        )
        for row in rows
    ]
    return sorted(found, key=lambda key: (key.provider_id, key.pk))


def resting_now() -> dict[int, breaker_states.RestingKey]:
    """Keys that are set aside at this moment, without a query."""
    seen = health.look()
    now = seen.now()
    return {
        key_id: breaker_states.RestingKey(
            datetime.fromtimestamp(seen.epoch_seconds(known.until), UTC), known.code, known.times
        )
        for key_id, known in seen.mirror.keys.items()
        if known.rests(now)
    }


def moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def _providers(known: Iterable[str]) -> list[str]:
    """Ids that may stand before a slash of the routes: both parts may hold slashes themselves."""
    beginnings = set()
    for route in known:
        parts = route.split("/")
        beginnings.update("/".join(parts[:count]) for count in range(1, len(parts)))
    return sorted(beginnings)
