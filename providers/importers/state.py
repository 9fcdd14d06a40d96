"""What a registry row says, in a form that two databases agree on: to compare by, to digest, to show without secrets."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from typing import Any

import orjson

from providers import keyring
from providers.fields import EncryptedField
from providers.importers.drafts import Kind
from providers.models import ApiKey, ConnectionParameter, Provider, ProviderModel, RegistryModel

MODELS: dict[str, type[RegistryModel]] = {
    Kind.PROVIDER: Provider,
    Kind.KEY: ApiKey,
    Kind.PARAMETER: ConnectionParameter,
    Kind.MODEL: ProviderModel,
}
_NO_FACTS = {"id", "identity", "updated_at", "last_used_at", "managed_by", "auto_disabled_at", "auto_disabled_reason"}
_NO_FACTS |= {"held_for"}
"""Not what anybody configured: they change without the configuration changing."""

_CAME_LATER: dict[str, Any] = {"locality": "", "data_tags": [], "breaker": {}}
"""Fields that say nothing unless they say something: rows that were digested before there were any stay the same."""

_SHOWN = {
    *("provider_type", "display_name", "enabled", "priority", "probe_interval_seconds", "allow_paid_probes"),
    *("model_id", "model_type", "context_window", "max_tokens", "dimension", "cost_tier", "currency"),
    *("input_cost_per_million", "output_cost_per_million", "cached_input_cost_per_million"),
    *("name", "environment", "expires_at", "weight", "param_name", "is_sensitive", "created_at", "created_by"),
}
"""Fields whose values a finding may hold. The others may carry a secret that nobody has recognised."""

_DERIVED = {"hint", "fingerprint"}
_DIGEST_BYTES = 16


class Digester:
    """Keyed digests of 32 characters; the key is read once."""

    def __init__(self) -> None:
        self._key = keyring.peppers().derive("import")

    def of(self, text: bytes) -> str:
        return hashlib.blake2b(text, digest_size=_DIGEST_BYTES, key=self._key).hexdigest()

    def of_origin(self, source_identity: str, table: str, key: str) -> str:
        return self.of(f"{source_identity}\0{table}\0{key}".encode("utf-8", "surrogatepass"))

    def of_state(self, facts: Mapping[str, Any]) -> str:
        return self.of(_encoded(list(facts.values())))


@cache
def fact_fields(model: type[RegistryModel]) -> tuple[tuple[str, str, bool], ...]:
    """Name, attribute and whether it is stored encrypted."""
    return tuple(
        (field.name, field.attname, isinstance(field, EncryptedField))
        for field in model._meta.concrete_fields
        if field.name not in _NO_FACTS
    )


def state(row: RegistryModel) -> dict[str, Any]:
    """Every fact of the row by field; secrets as fingerprints, one that does not open as a text which says so."""
    values = row.__dict__
    facts = {}
    for name, attribute, encrypted in fact_fields(type(row)):
        if encrypted:
            facts[name] = row._fingerprint_of(row._meta.get_field(name))  # type: ignore[arg-type]
        else:
            value = values[attribute]
            if name in _CAME_LATER and value == _CAME_LATER[name]:
                continue
            facts[name] = value if value is None or type(value) in _PLAIN else normal(value)
    return facts


_PLAIN = {str, int, bool}


def normal(value: Any) -> Any:
    """The same value whichever database it was read from: PostgreSQL turns JSON's 1e20 into an integer, for example."""
    if value is None or type(value) in _PLAIN:
        return value
    if isinstance(value, dict):
        return {str(name): normal(member) for name, member in value.items()}
    if isinstance(value, list | tuple):
        return [normal(member) for member in value]
    if isinstance(value, float):
        return int(Decimal(repr(value))) if value.is_integer() else value
    if isinstance(value, Decimal):
        return format(value.normalize() + 0, "f")
    if isinstance(value, datetime):
        return (value if value.tzinfo is UTC else value.astimezone(UTC)).isoformat(timespec="microseconds")
    return str(value)


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    return [name for name in {**before, **after} if before.get(name) != after.get(name)]


def shown(before: Mapping[str, Any], after: Mapping[str, Any], fields: Iterable[str]) -> dict[str, list]:
    """Field to [before, after] for a finding: harmless values as they are, the rest as fingerprints."""
    return {
        name: [_shown(name, before.get(name)), _shown(name, after.get(name))] for name in fields if name not in _DERIVED
    }


def _shown(name: str, value: Any) -> Any:
    if value is None or name in _SHOWN:
        return value
    if isinstance(value, str) and value.startswith(("fingerprint:", "unreadable ")) and name in _ENCRYPTED:
        return value
    return f"fingerprint:{keyring.fingerprint(_encoded(value).decode())}"


_ENCRYPTED = {
    field.name
    for model in MODELS.values()
    for field in model._meta.concrete_fields
    if isinstance(field, EncryptedField)
}


def _encoded(value: Any) -> bytes:
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except TypeError:  # an integer of more than 64 bits, or half a character
        return json.dumps(value, sort_keys=True).encode()
