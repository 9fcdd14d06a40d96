"""The registry as one document, the same bytes for the same registry, without a secret in it.

Every configurable field is named, so the document says all that it means; times of creation, ids and use are no
configuration. Secrets are references (`providers.references`). `providers.configuration` reads it back.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from django.db.models import QuerySet

from providers import config_sections, connection
from providers.document_text import as_json, as_yaml, plain
from providers.importers.object_secrets import read_like_secrets, reads_like_secret, take_out
from providers.models import ApiKey, ConnectionParameter, Provider, ProviderModel
from providers.references import reference_to, variable_of
from providers.secrets import Secret

VERSION = 1
PROVIDERS = "providers"
HEADING = """\
Providers of an LLM gateway, written by `manage.py export_config`; `manage.py apply_config` reads it.
Secrets are references: env:NAME is a variable of the gateway's environment, file:PATH a file it may read.
"""

PROVIDER_FACTS = (
    *("provider_type", "display_name", "description", "enabled", "priority", "connection_params"),
    *("request_settings", "probe_interval_seconds", "allow_paid_probes", "locality", "data_tags", "breaker"),
)
MODEL_FACTS = (
    *("display_name", "model_type", "context_window", "max_tokens", "dimension", "enabled", "capabilities", "tasks"),
    *("cost_tier", "input_cost_per_million", "output_cost_per_million", "cached_input_cost_per_million", "currency"),
    "parameters",
)
NO_CONFIGURATION = frozenset({"managed_by", "auto_disabled_at", "auto_disabled_reason", "held_for"})
"""What the gateway itself notes on a row: who owns it, that it was taken out of service, or what it is held back for."""
KEY_FACTS = ("name", "expires_at", "weight", "enabled")
_AT_ONCE = 200
"""Providers whose parts are read together."""


def members() -> tuple[str, ...]:
    """What a document may consist of, in its order."""
    return (PROVIDERS, *config_sections.names())


def document(only: Collection[str] = (), sections: Collection[str] = ()) -> dict[str, Any]:
    """The registry as plain values: all of it, those `members` that `sections` names, or the providers that `only` names. Raises
    `SecretError` for one that does not open."""
    found: dict[str, Any] = {"version": VERSION}
    if not sections or PROVIDERS in sections:
        rows = Provider.objects.all() if not only else Provider.objects.filter(provider_id__in=only)
        found[PROVIDERS] = dict(sorted(_providers(rows)))
    return found if only else found | config_sections.exported(sections or None)


def text(file_format: str = "yaml", only: Collection[str] = (), sections: Collection[str] = ()) -> str:
    """The document as a file's text, `yaml` or `json`."""
    whole = document(only, sections)
    return as_json(whole) if file_format == "json" else as_yaml(whole, heading=HEADING)


def variables(exported: Mapping[str, Any]) -> list[str]:
    """The environment variables that a document's references name, sorted."""
    found: set[str] = set()
    waiting: list[Any] = [exported]
    while waiting:
        value = waiting.pop()
        if isinstance(value, Mapping):
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)
        elif isinstance(value, str) and (name := variable_of(value)):
            found.add(name)
    return sorted(found)


def provider_document(
    provider: Provider,
    keys: Iterable[ApiKey],
    parameters: Iterable[ConnectionParameter],
    models: Iterable[ProviderModel],
) -> dict[str, Any]:
    """One provider with all its parts. `keys` come in the order in which they were made: ties are asked in it."""
    name = provider.provider_id
    params, hidden = connection_document(
        name, provider.provider_type, provider.connection_params, provider.stored_secrets()
    )
    facts = facts_document(provider, PROVIDER_FACTS) | {"connection_params": params}
    facts["request_settings"] = without_secrets(name, provider.request_settings)
    if hidden:
        facts["secret_params"] = hidden
    facts["api_keys"] = list(_once_each(key_document(name, key.secret.reveal(), key.environment, key) for key in keys))
    facts["connection_parameters"] = sorted(
        (_parameter(provider, parameter) for parameter in parameters),
        key=lambda one: (one["environment"], one["param_name"]),
    )
    facts["models"] = sorted((model_document(name, model) for model in models), key=lambda one: one["model_id"])
    return facts


def facts_document(row: Any, names: Iterable[str]) -> dict[str, Any]:
    """The named fields of a row, or of a mapping, as the document writes them."""
    if isinstance(row, Mapping):
        return {name: written(row[name]) for name in names if name in row}
    return {name: written(getattr(row, name)) for name in names}


def model_document(provider_id: str, model: ProviderModel) -> dict[str, Any]:
    facts = facts_document(model, MODEL_FACTS)
    facts["parameters"] = without_secrets(provider_id, facts["parameters"])
    return {"model_id": model.model_id, **facts}


def key_document(provider_id: str, secret: str, environment: str, row: Any) -> dict[str, Any]:
    reference = reference_to(secret, provider_id, environment)
    return {"secret": reference, "environment": environment, **facts_document(row, KEY_FACTS)}


def parameter_document(provider_id: str, name: str, environment: str, value: str, *, sensitive: bool) -> dict[str, Any]:
    if sensitive:
        value = reference_to(value, provider_id, environment, name)
    return {"param_name": name, "environment": environment, "is_sensitive": sensitive, "param_value": value}


def connection_document(
    provider_id: str, provider_type: str, params: Any, secrets: Mapping[str, str]
) -> tuple[Any, list[dict[str, Any]]]:
    """connection_params with references in the places of its secrets; and those whose place would not show that they are
    some, by path."""
    public = plain(params)
    found = take_out(public, provider_type)
    hidden = []
    for path, secret in sorted((found | dict(secrets)).items()):
        *parents, name = steps = json.loads(path)
        reference = reference_to(secret, provider_id, *steps)
        holder = _at(public, parents)
        is_in_list = isinstance(holder, list) and path not in secrets  # nothing in a list can be kept apart
        if is_in_list or (isinstance(holder, dict) and connection.is_secret(str(name), reference, provider_type)):
            holder[name] = reference
        else:
            hidden.append({"path": steps, "secret": reference})
    return plain(public), hidden


def without_secrets(provider_id: str, facts: Any) -> Any:
    """An object that is stored in the clear: what reads like a secret all the same does not leave as one."""
    public = plain(facts)
    for path, secret in read_like_secrets(public, None).items():
        *parents, name = steps = json.loads(path)
        _at(public, parents)[name] = reference_to(secret, provider_id, *steps)
    return public


def written(value: Any) -> Any:
    if isinstance(value, Decimal):
        return format(value.normalize() + 0, "f")
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    return plain(value)


def _providers(rows: QuerySet[Provider]) -> Iterator[tuple[str, dict[str, Any]]]:
    keys = list(rows.order_by("pk").values_list("pk", flat=True))
    for start in range(0, len(keys), _AT_ONCE):
        for provider in Provider.objects.filter(pk__in=keys[start : start + _AT_ONCE]).order_by("pk"):
            yield (
                provider.provider_id,
                provider_document(
                    provider,
                    sorted(provider.api_keys.all(), key=lambda key: (key.environment, key.pk)),
                    provider.parameters.all(),
                    provider.models.order_by().iterator(),
                ),
            )


def _parameter(provider: Provider, row: ConnectionParameter) -> dict[str, Any]:
    value = row.param_value
    value = value.reveal() if isinstance(value, Secret) else value or ""
    sensitive = row.is_sensitive or reads_like_secret(row.param_name, value, provider.provider_type)
    return parameter_document(provider.provider_id, row.param_name, row.environment, value, sensitive=sensitive)


def _once_each(keys: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The same secret twice for one environment is one key: the first that is enabled, else the first."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for key in keys:
        first = found.setdefault((key["environment"], key["secret"]), key)
        if key["enabled"] and not first["enabled"]:
            found[key["environment"], key["secret"]] = key
    yield from found.values()


def _at(place: Any, steps: Iterable[str | int]) -> Any:
    for step in steps:
        try:
            place = place[step]
        except (KeyError, IndexError, TypeError):
            return None
    return place
