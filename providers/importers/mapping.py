"""What a legacy row means here: each row to a draft, or to the reason why it makes none. Pure: time and users are arguments.

Nothing is silent: a value that was repaired, guessed or lost has a finding, which names the place and never a secret.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, tzinfo

from providers.importers.drafts import Draft, Origin
from providers.importers.findings import Finding
from providers.importers.legacy import LegacyKey, LegacyModel, LegacyParameter, LegacyProvider
from providers.importers.legacy_keys import LegacyKeys


@dataclass(frozen=True, slots=True)
class Ways:
    """What the rows alone do not say."""

    naive_timezone: tzinfo
    """Zone of times that name none."""
    default_environment: str
    """For keys that stand in an object and so have no environment: the gateway's own."""
    now: datetime
    """Time of the run, aware."""
    users: Mapping[int, str]
    """User name by the source's user id."""
    opener: LegacyKeys
    known_types: Collection[str]
    """Names of the registered provider types."""


@dataclass(frozen=True, slots=True)
class Mapped:
    """A row without `draft` is rejected, and the findings say why. `keys` are keys found inside the row's objects."""

    draft: Draft | None
    findings: tuple[Finding, ...] = ()
    keys: tuple[Draft, ...] = ()


def provider(record: LegacyProvider, origin: Origin, ways: Ways) -> Mapped:
    """A provider; `keys` are the API key of its connection parameters and, disabled, secrets of its request settings."""
    raise NotImplementedError


def model(record: LegacyModel, origin: Origin, ways: Ways) -> Mapped:
    """A model; `keys` are the secrets found in its parameters, disabled."""
    raise NotImplementedError


def key(record: LegacyKey, origin: Origin, ways: Ways) -> Mapped:
    """A key that can be read, whatever its flag says; others are rejected."""
    raise NotImplementedError


def parameter(record: LegacyParameter, origin: Origin, ways: Ways) -> Mapped:
    """A parameter of one environment, encrypted when it is flagged sensitive, or named or shaped like a secret."""
    raise NotImplementedError
