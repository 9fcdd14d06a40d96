"""Rows of the legacy backoffice, exactly as they were found: raw driver values, nothing read into them yet.

The same shape for all generations of tables; what a generation does not have is `ABSENT`, which is not NULL.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final


class _Absent:
    __slots__ = ()

    def __repr__(self) -> str:
        return "ABSENT"

    def __bool__(self) -> bool:
        return False


ABSENT: Final = _Absent()


@dataclass(frozen=True, slots=True)
class LegacyProvider:
    table: str
    provider_id: Any
    provider_type: Any
    display_name: Any
    description: Any
    enabled: Any
    connection_params: Any
    request_settings: Any
    created_at: Any
    updated_at: Any
    created_by_user_id: Any


@dataclass(frozen=True, slots=True)
class LegacyModel:
    table: str
    provider_id: str
    """As the providers table spells it, once the reader has matched it."""
    model_id: Any
    display_name: Any
    model_type: Any
    context_window: Any
    max_tokens: Any
    max_output_tokens: Any
    enabled: Any
    capabilities: Any
    parameters: Any
    created_at: Any
    updated_at: Any


@dataclass(frozen=True, slots=True)
class LegacyKey:
    table: str
    key_id: Any
    provider_id: str
    key_value: Any
    is_encrypted: Any
    environment: Any
    expires_at: Any
    created_at: Any
    updated_at: Any
    created_by_user_id: Any

    def __repr__(self) -> str:
        return f"LegacyKey({self.table} {self.key_id})"


@dataclass(frozen=True, slots=True)
class LegacyParameter:
    table: str
    param_id: Any
    provider_id: str
    param_name: Any
    param_value: Any
    is_sensitive: Any
    environment: Any
    created_at: Any
    updated_at: Any

    def __repr__(self) -> str:
        return f"LegacyParameter({self.table} {self.param_id})"


def model_key(provider_id: str, model_id: str) -> str:
    """A model's primary key as one text, `provider:model`; a colon of the provider's is escaped, so no two read the same."""
    return f"{provider_id.replace('%', '%25').replace(':', '%3A')}:{model_id}"
