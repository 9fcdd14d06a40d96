"""Keeps a provider's secrets where they were entered for: whoever may write the registry may point a provider elsewhere, and
gets no secret by it.

Where the person or key that acts may not handle secrets, a change of the destination holds back the provider's keys until they are
entered anew, until somebody who may handle secrets releases them, or until the provider points back with no deployment left
elsewhere. Secrets that stand in the connection parameters cannot be held back, so such a change is refused until they are entered anew or deleted.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.exceptions import ValidationError

from providers import actor, connection, destinations, keyring, provider_types
from providers.destinations import Destination
from providers.secrets import SecretError

if TYPE_CHECKING:
    from providers.models import ApiKey, Provider, ProviderModel

PERMISSION = "routing.grant_every_scope"
"""What a user of the admin needs to handle secrets: who may give a client key the scope secrets:read may read them."""

_NOT_ITS_HOST = (
    "base_urls: an address at another host than the provider's would get its key; that takes the right to read secrets."
)
_FOR_THE_PROXY = json.dumps(["proxy"])
"""The path of a proxy's URL: its password goes where the URL itself says."""


class SecretsStay(ValidationError):
    """The change would send stored secrets elsewhere. The sentence names them by their places, never by their values."""


@dataclass(frozen=True, slots=True)
class _Look:
    """What counts of a provider at one moment. `secrets` by JSON path, `parameters` sensitive ones by environment and
    name."""

    usual: Destination
    here: Mapping[str, Destination]
    secrets: Mapping[str, str]
    parameters: Mapping[tuple[str, str], str]
    keys: Mapping[int, tuple[str, str]]
    """Environment and fingerprint by primary key."""
    origins: Mapping[str, frozenset[Destination]]
    """By the fingerprint of every stored secret, wherever it stands, where it may go."""
    deployments: Mapping[int, list[Any]]
    """By a model's primary key, the addresses of its own at which it answers; its provider's key goes there."""

    def of(self, environment: str) -> Destination:
        return self.here.get(environment, self.usual)

    def hosts(self) -> set[str | None]:
        """The hosts to which every key goes anyway, whatever its environment."""
        environments = {settings.GATEWAY_ENVIRONMENT, *(environment for environment, _ in self.keys.values())}
        return set.intersection(*({_host(self.of(environment).origin)} for environment in environments))

    def strays(self, hosts: Collection[str | None]) -> dict[int, list[Any]]:
        """Deployments at other hosts."""
        return {pk: urls for pk, urls in self.deployments.items() if not _all_at(urls, hosts)}


@contextmanager
def guarded(provider: Provider, entered: Collection[str] = ()) -> Iterator[None]:
    """For what is written to the provider inside, in one transaction. `entered` are the paths of the secrets in the connection
    parameters that are given anew with it; it is read at the end. Raises `SecretsStay`."""
    if provider.pk is None or actor.current().may_handle_secrets():
        yield
        return
    before = _look(provider)
    yield
    if before is not None:
        _settle(provider, before, entered)


def keep(key: ApiKey) -> None:
    """Before a stored key is written without a new secret: it stays held back, and is so where it is given to an environment
    whose destination is another."""
    stored = type(key)._base_manager.filter(pk=key.pk).values_list("held_for", "environment").first()
    if stored is None:
        return
    key.held_for, environment = stored
    if key.held_for or key.environment == environment or actor.current().may_handle_secrets():
        return
    look = _look(key.provider)
    if look is not None and not look.of(environment).covers(look.of(key.environment)):
        key.held_for = str(look.of(environment))[:500]


def held(keys: Iterable[ApiKey]) -> list[ApiKey]:
    return [key for key in keys if key.held_for]


def warning(keys: Iterable[ApiKey]) -> str:
    """What is to be said of keys of which some may be held back; empty where none is."""
    there = held(keys)
    if not there:
        return ""
    many = len(there) > 1
    return (
        f"{len(there)} API key{'s are' if many else ' is'} held back: {'they were' if many else 'it was'} entered for "
        f"{there[0].held_for}, and the provider points elsewhere now. Enter {'them' if many else 'it'} anew, or have somebody "
        "with the scope secrets:read release them."
    )


def release(keys: Iterable[ApiKey]) -> list[ApiKey]:
    """Let keys be shown at the address that the provider has now; those that were held back. For people who may handle secrets."""
    released = held(keys)
    for key in released:
        key.held_for = ""
        key.save(update_fields=["held_for"])
    return released


def check_deployments(model: ProviderModel) -> None:
    """Before a model is written whose deployments answer at addresses of their own: they get the provider's key as well, so they
    stay at its host, and those that stood there before stay as they are. Raises `SecretsStay`."""
    urls = _deployments(model.parameters)
    if not urls or actor.current().may_handle_secrets():
        return
    stored = type(model)._base_manager.filter(pk=model.pk, provider=model.provider).first()
    if stored is not None and _deployments(stored.parameters) == urls:
        return
    look = _look(model.provider)
    if look is None or not _all_at(urls, look.hosts()):
        raise SecretsStay(_NOT_ITS_HOST)


def _deployments(parameters: object) -> list[Any]:
    urls = parameters.get("base_urls") if isinstance(parameters, dict) else None
    return urls if isinstance(urls, list) else []


def _all_at(urls: Iterable[Any], hosts: Collection[str | None]) -> bool:
    return all(isinstance(url, str) and _host(url) in hosts for url in urls)


def _host(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


def _look(provider: Provider) -> _Look | None:
    stored = type(provider)._base_manager.filter(pk=provider.pk).first()
    if stored is None:
        return None
    kind = provider_types.find(stored.provider_type)
    defaults = connection.canonical(kind.defaults) if kind else {}
    try:
        secrets = stored.stored_secrets()
        params = stored.full_connection_params() if isinstance(stored.connection_params, dict) else {}
    except SecretError:
        secrets, params = {}, stored.connection_params
    usual = defaults | connection.canonical(params)
    rows: dict[str, dict[str, object]] = {}
    sensitive: dict[tuple[str, str], str] = {}
    for row in stored.parameters.all():
        try:
            value = row.param_value
        except SecretError:
            continue
        rows.setdefault(row.environment, {})[row.param_name] = value
        if row.is_sensitive and row.param_name != "proxy":
            sensitive[row.environment, row.param_name] = connection.text({"it": value}, "it")
    here = {environment: destinations.of(usual | connection.canonical(values)) for environment, values in rows.items()}
    usual_one = destinations.of(usual)
    keys: dict[int, tuple[str, str]] = {}
    origins: dict[str, set[Destination]] = defaultdict(set)
    for pk, environment, mark, held_for in stored.api_keys.values_list("pk", "environment", "fingerprint", "held_for"):
        keys[pk] = environment, mark
        origins[mark].add(destinations.read(held_for) if held_for else here.get(environment, usual_one))
    for value in secrets.values():
        origins[keyring.fingerprint(value)] |= {usual_one, *here.values()}
    for (environment, _), value in sensitive.items():
        origins[keyring.fingerprint(value)].add(here[environment])
    models = stored.models.filter(parameters__has_key="base_urls").values_list("pk", "parameters")
    deployments = {pk: urls for pk, parameters in models if (urls := _deployments(parameters))}
    known = {mark: frozenset(places) for mark, places in origins.items()}
    return _Look(usual_one, here, secrets, sensitive, keys, known, deployments)


def _settle(provider: Provider, before: _Look, entered: Collection[str]) -> None:
    after = _look(provider)
    if after is None:
        return
    keys = list(provider.api_keys.select_related("provider"))
    environments = {*before.here, *after.here, *(key.environment for key in keys)}
    moved = {name for name in environments if not before.of(name).covers(after.of(name))}
    _refuse_to_take_along(before, after, moved, entered)
    if any(before.deployments.get(pk) != urls for pk, urls in after.strays(after.hosts()).items()):
        raise SecretsStay(_NOT_ITS_HOST)
    for key in keys:
        key.held_for, was = _standing(key, before, after), key.held_for
        if key.held_for != was:
            key.save(update_fields=["held_for"])


def _standing(key: ApiKey, before: _Look, after: _Look) -> str:
    """For which destination the key is held back from now on; empty where it may go to the one that it has."""
    at = after.of(key.environment)
    if key.held_for:
        known = destinations.read(key.held_for)
        back = known.covers(at) and not after.strays({_host(known.origin)})
        return "" if back else key.held_for
    known = before.origins.get(key.fingerprint, frozenset())
    if not known or any(place.covers(at) for place in known):
        return ""
    environment, _ = before.keys.get(key.pk, (key.environment, ""))
    was = before.of(environment)
    return str(was if was in known else min(known, key=str))[:500]


def _refuse_to_take_along(before: _Look, after: _Look, moved: set[str], entered: Collection[str]) -> None:
    usual_moved = not before.usual.covers(after.usual)
    kept = [
        ".".join(map(str, json.loads(path)))
        for path, value in after.secrets.items()
        if (moved or usual_moved)
        and path != _FOR_THE_PROXY
        and path not in entered
        and before.secrets.get(path) == value
    ]
    kept += [
        f"{name} of {environment}"
        for (environment, name), value in after.parameters.items()
        if any(
            value == known and not before.of(was_of).covers(after.of(environment))
            for (was_of, _), known in before.parameters.items()
        )
    ]
    everywhere = {after.usual, *after.here.values()}
    kept += [
        ".".join(map(str, json.loads(path)))
        for path, value in after.secrets.items()
        if path != _FOR_THE_PROXY
        and path not in entered
        and before.secrets.get(path) != value
        and _strays_from(before, value, everywhere)
    ]
    kept += [
        f"{name} of {environment}"
        for (environment, name), value in after.parameters.items()
        if before.parameters.get((environment, name)) != value and _strays_from(before, value, {after.of(environment)})
    ]
    if kept:
        raise SecretsStay(
            f"Another address would get secrets that are stored in the connection parameters ({', '.join(sorted(set(kept)))}). "
            "Enter them anew with this change, delete them first, or have somebody do it who may read secrets."
        )


def _strays_from(before: _Look, value: str, places: Iterable[Destination]) -> bool:
    """Whether the value is a secret that was stored already, such as one that a document refers to, and may not go to all of these."""
    known = before.origins.get(keyring.fingerprint(value), frozenset())
    return bool(known) and not all(any(origin.covers(place) for origin in known) for place in places)
