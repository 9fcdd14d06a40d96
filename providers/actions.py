"""Writes that span models, each one transaction: a provider with its parts, a parameter set, a key revealed.

Arguments are facts under the names of the models' fields; secrets come as `str` and leave only through `reveal_*`, which
leave an audit entry. What is wrong with them is a Django `ValidationError` that names the field.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models import Model

from providers import audit, capabilities, keyring, provider_types, revision
from providers.models import ApiKey, ConnectionParameter, Provider, ProviderModel
from providers.secrets import Secret

Facts = Mapping[str, Any]
Row = TypeVar("Row", bound=Model)


class AlreadyExists(Exception):
    """Another row has the identifier; the text names it."""


def known_type(name: str) -> str:
    """The name, if a provider type is registered under it."""
    if provider_types.find(name) is None:
        known = ", ".join(provider_types.registered())
        raise ValidationError(f"No provider type is named {name!r}. Known are: {known}.", code="unknown_type")
    return name


def create_provider(
    facts: Facts,
    *,
    models: Sequence[Facts] = (),
    parameters: Sequence[Facts] = (),
    keys: Sequence[Facts] = (),
) -> Provider:
    """Create a provider with all its parts, or nothing. Raises `AlreadyExists`."""
    with transaction.atomic():
        known_type(facts["provider_type"])
        provider = _insert(Provider(**facts), f"Provider {facts['provider_id']!r} exists already.")
        for model in models:
            add_model(provider, model)
        for parameter in parameters:
            add_parameter(provider, parameter)
        for key in keys:
            add_key(provider, key)
    return provider


def update_provider(provider: Provider, changes: Facts) -> Provider:
    """Change what `changes` names and leave the rest."""
    with transaction.atomic():
        provider = Provider.objects.select_for_update().get(pk=provider.pk)
        changes = dict(changes)
        if "provider_type" in changes and changes["provider_type"] != provider.provider_type:
            known_type(changes["provider_type"])
        params = changes.pop("connection_params", None)
        _assign(provider, changes)
        if params is not None:
            set_connection_params(provider, params)
        _check(provider)
        provider.save()
    return provider


def set_connection_params(provider: Provider, params: Facts) -> None:
    """Replace the object, except that a secret which `params` leaves out is kept: nobody who read it has seen one.

    A secret's name with null or an empty text forgets it.
    """
    whole = copy.deepcopy(dict(params))
    kept = {path: value for path, value in provider.stored_secrets().items() if not _take_null(whole, json.loads(path))}
    provider.replace_connection_params(whole)
    provider.set_stored_secrets(kept)


def add_model(provider: Provider, facts: Facts) -> ProviderModel:
    """One whose type is not said has the type that its name gives away. Raises `AlreadyExists`."""
    named = capabilities.type_by_name(facts["model_id"])
    told = {"model_type": named, **facts} if named else facts
    return _insert(
        ProviderModel(provider=provider, **told),
        f"Provider {provider.provider_id!r} has a model {facts['model_id']!r} already.",
    )


def update_model(model: ProviderModel, changes: Facts) -> ProviderModel:
    with transaction.atomic():
        model = ProviderModel.objects.select_for_update().select_related("provider").get(pk=model.pk)
        _assign(model, changes)
        _check(model)
        model.save()
    return model


def add_key(provider: Provider, facts: Facts) -> ApiKey:
    """`facts` holds `secret` in the clear; it is stored encrypted, whatever the caller calls it."""
    return _insert(ApiKey(provider=provider, **facts), "This key exists already.")


def update_key(key: ApiKey, changes: Facts) -> ApiKey:
    with transaction.atomic():
        key = ApiKey.objects.select_for_update().select_related("provider").get(pk=key.pk)
        _assign(key, changes)
        _check(key)
        key.save()
    return key


def add_parameter(provider: Provider, facts: Facts) -> ConnectionParameter:
    """Raises `AlreadyExists`."""
    parameter = ConnectionParameter(provider=provider, **facts)
    return _insert(
        parameter,
        f"Provider {provider.provider_id!r} has a parameter {parameter.param_name!r} "
        f"for the environment {parameter.environment!r} already.",
    )


def update_parameter(
    parameter: ConnectionParameter, value: str | None, *, is_sensitive: bool | None = None
) -> ConnectionParameter:
    """Without `value`, the one that is stored; a stored secret is never turned into plain text."""
    if value is not None:
        parameter.set_value(value, is_sensitive=is_sensitive)
    elif is_sensitive and parameter.plain_value is not None:
        parameter.set_value(parameter.plain_value, is_sensitive=True)
    parameter.clean()
    parameter.save()
    return parameter


def set_parameter(
    provider: Provider,
    param_name: str,
    value: str,
    *,
    environment: str = "development",
    is_sensitive: bool | None = None,
) -> ConnectionParameter:
    """Create or replace one parameter. Without `is_sensitive`, what is sensitive stays so."""
    with transaction.atomic():
        parameter = _locked_parameter(provider, param_name, environment)
        if parameter is None:
            try:
                with transaction.atomic():
                    facts = {"param_name": param_name, "param_value": value, "environment": environment}
                    return add_parameter(provider, facts | {"is_sensitive": bool(is_sensitive)})
            except AlreadyExists:  # somebody was quicker
                parameter = _locked_parameter(provider, param_name, environment)
                assert parameter is not None
        return update_parameter(parameter, value, is_sensitive=is_sensitive)


def reveal_key(key: ApiKey) -> Secret:
    """The secret, with an audit entry that says who asked and not what it is."""
    with transaction.atomic():
        secret = key.secret
        _write_down_reveal(key, secret)
    return secret


def reveal_parameters(parameters: Iterable[ConnectionParameter]) -> dict[str, str | None]:
    """Name to value, sensitive ones included, each of those with an audit entry."""
    values: dict[str, str | None] = {}
    with transaction.atomic():
        for parameter in parameters:
            value = parameter.param_value
            if isinstance(value, Secret):
                _write_down_reveal(parameter, value)
                value = value.reveal()
            values[parameter.param_name] = value
    return values


def refresh() -> int:
    """Have every process read the registry again; the revision that they will show."""
    with transaction.atomic():
        revision.bump()
        return revision.current()


def _write_down_reveal(row: ApiKey | ConnectionParameter, secret: Secret) -> None:
    shown = {"fingerprint": keyring.fingerprint(secret.reveal())}
    audit.record("reveal", row._meta.model_name or "", row.audit_name(), before=None, after=shown)


def _locked_parameter(provider: Provider, param_name: str, environment: str) -> ConnectionParameter | None:
    rows = ConnectionParameter.objects.select_for_update().filter(
        provider=provider, param_name=param_name, environment=environment
    )
    return rows.first()


def _insert(row: Row, taken: str) -> Row:
    _check(row)
    try:
        with transaction.atomic():
            row.save(force_insert=True)
    except IntegrityError as error:
        raise AlreadyExists(taken) from error
    return row


def _check(row: Model) -> None:
    # Uniqueness is the database's to decide: a question before the write would only be a race.
    derived = [field.name for field in row._meta.fields if not field.editable]
    row.full_clean(exclude=derived, validate_unique=False, validate_constraints=False)


def _assign(row: Model, changes: Facts) -> None:
    for name, value in changes.items():
        setattr(row, name, value)


def _take_null(params: Any, path: list[str | int]) -> bool:
    """Whether `params` says null or empty at `path`; takes that member out."""
    *parents, name = path
    for step in parents:
        try:
            params = params[step]
        except (KeyError, IndexError, TypeError):
            return False
    if isinstance(params, dict) and name in params and params[name] in (None, ""):
        del params[name]
        return True
    return False
