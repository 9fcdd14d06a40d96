"""What is known of an upstream when it is about to be called: its merged connection parameters and its usable keys.

One merge for everybody: the snapshot of the data plane, the probes and the discovery of models see the same facts.
Precedence from low to high: the type's defaults, connection_params, the parameter rows of this environment.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from django.conf import settings
from django.utils import timezone

from providers import allowed_references, provider_types
from providers.connection import canonical, secrets_in
from providers.models import ApiKey, ConnectionParameter, Provider
from providers.provider_types import ProviderType
from providers.secrets import Secret, SecretError, is_ours


class UnusableProvider(Exception):
    """The stored configuration cannot be turned into a connection; the text says why and holds no secret."""


@dataclass(frozen=True, slots=True)
class UsableKey:
    """A key that may be shown now. `key_id` is 0 for one that stands inside connection_params; `expires_at` is epoch seconds."""

    key_id: int
    secret: Secret
    weight: int = 1
    expires_at: float | None = None


@dataclass(frozen=True, slots=True)
class Upstream:
    """`notes` name what had to be left out, such as a key that does not decrypt: sentences without secrets."""

    kind: ProviderType
    connection: Mapping[str, Any]
    keys: tuple[UsableKey, ...]
    notes: tuple[str, ...] = ()

    def secrets(self) -> list[Secret]:
        """Every secret that a reply of the upstream might repeat."""
        return [*(key.secret for key in self.keys), *secrets_in(self.connection)]


def load(provider: Provider) -> Upstream:
    """Read the provider's rows of this environment and merge them. Raises `UnusableProvider`."""
    keys = provider.api_keys.filter(ApiKey.usable(timezone.now())).order_by("-weight", "id")
    parameters = provider.parameters.filter(environment=settings.GATEWAY_ENVIRONMENT)
    return merge(provider, keys, parameters)


def merge(provider: Provider, keys: Iterable[ApiKey], parameters: Iterable[ConnectionParameter]) -> Upstream:
    """The facts of `provider` with those rows, already chosen for this environment. Raises `UnusableProvider`."""
    kind = provider_types.find(provider.provider_type)
    if kind is None:
        raise UnusableProvider(
            f"provider {provider.provider_id!r} is of type {provider.provider_type!r}, which is not registered"
        )
    if not isinstance(provider.connection_params, dict):
        raise UnusableProvider(
            f"provider {provider.provider_id!r} is left out: its connection_params are not an object"
        )
    try:
        connection = canonical(kind.defaults) | canonical(provider.full_connection_params())
    except SecretError as error:
        raise UnusableProvider(f"provider {provider.provider_id!r} is left out: {error}") from error
    notes: list[str] = []
    connection |= canonical(_values(provider, parameters, notes))
    connection = _resolved(connection, f"connection parameters of provider {provider.provider_id!r}", notes)
    if connection.get("allow_private") is None:
        connection["allow_private"] = settings.GATEWAY_ALLOW_PRIVATE_UPSTREAMS
    usable = _keys(provider, keys, connection, notes)
    return Upstream(kind, connection, usable, tuple(notes))


def resolve_reference(secret: Secret) -> Secret:
    """A stored `env:NAME` or `file:PATH` stands for what it names, so a secret may stay outside the database.

    Whoever may write the registry must not read the gateway's own secrets that way, nor any file of the host: what
    `allowed_references` calls the gateway's own is refused, however it came to be stored, and files are read in
    `GATEWAY_SECRET_FOLDERS` only. Raises `LookupError` or `OSError`.
    """
    kind, _, name = secret.reveal().partition(":")
    if kind == "env":
        return _variable(name)
    if kind == "file":
        path = Path(name).resolve()
        if not any(path.is_relative_to(folder) for folder in settings.GATEWAY_SECRET_FOLDERS):
            raise LookupError("it refers to a file outside GATEWAY_SECRET_FOLDERS")
        if allowed_references.own_file(path):
            raise LookupError("it refers to a file of the gateway's own secrets: name the file of the provider's key")
        if path.exists() and not path.is_file():
            raise LookupError("it refers to what is no file")  # a pipe would keep us waiting
        return Secret(path.read_text().strip())
    return secret


def why_unreadable(key: ApiKey) -> str:
    """Why this process cannot read a key, or what it refers to, so that it is left out of what is served; empty where it can."""
    try:
        resolve_reference(key.secret)
    except (SecretError, OSError, LookupError, ValueError) as error:
        return _why(error)
    return ""


def _variable(name: str) -> Secret:
    if is_ours(name):
        raise LookupError(f"it refers to {name}, which is the gateway's own: name the variable of the provider's key")
    if name not in os.environ:
        raise LookupError(f"it refers to the environment variable {name}, which is not set")
    return Secret(os.environ[name])


_UNRESOLVED: Final = object()


def _resolved(value: Any, where: str, notes: list[str]) -> Any:
    """The object with every secret that is a reference replaced by what it names; one that names nothing is left out."""
    if isinstance(value, Secret):
        try:
            return resolve_reference(value)
        except (OSError, LookupError, ValueError) as error:
            notes.append(f"a secret of the {where} is left out: {_why(error)}")
            return _UNRESOLVED
    if isinstance(value, dict):
        members = {name: _resolved(member, where, notes) for name, member in value.items()}
        return {name: member for name, member in members.items() if member is not _UNRESOLVED}
    if isinstance(value, list):
        members_of_list = (_resolved(member, where, notes) for member in value)
        return [member for member in members_of_list if member is not _UNRESOLVED]
    return value


def _why(error: Exception) -> str:
    """The sentence of an error that is ours, and the name of a file; the texts of others may hold what was read."""
    if isinstance(error, SecretError | LookupError):
        return str(error.args[0]) if error.args else type(error).__name__
    if isinstance(error, OSError) and error.filename:
        return f"it refers to the file {error.filename}, which cannot be read ({error.strerror})"
    return f"what it refers to cannot be read ({type(error).__name__})"


def _values(provider: Provider, parameters: Iterable[ConnectionParameter], notes: list[str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for parameter in parameters:
        try:
            values[parameter.param_name] = parameter.param_value
        except SecretError as error:
            notes.append(f"a parameter of provider {provider.provider_id!r} is left out: {error}")
    return values


def _keys(
    provider: Provider, rows: Iterable[ApiKey], connection: dict[str, Any], notes: list[str]
) -> tuple[UsableKey, ...]:
    """The rows given; without any, a key inside connection_params or the variable that it names."""
    usable = []
    for row in rows:
        try:
            secret = resolve_reference(row.secret)
        except (SecretError, OSError, LookupError, ValueError) as error:
            notes.append(f"key {row.pk} of provider {provider.provider_id!r} is left out: {_why(error)}")
            continue
        expires_at = row.expires_at.timestamp() if row.expires_at else None
        usable.append(UsableKey(row.pk, secret, row.weight, expires_at))
    inline = connection.pop("api_key", None)
    variable = connection.pop("api_key_env_var", None)
    if not usable and isinstance(inline, Secret) and inline:
        usable.append(UsableKey(0, inline))
    if not usable and variable:
        try:
            usable.append(UsableKey(0, _variable(str(variable))))
        except LookupError as error:
            notes.append(f"api_key_env_var of provider {provider.provider_id!r}: {error}")
    return tuple(usable)
