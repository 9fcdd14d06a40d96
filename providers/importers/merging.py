"""Which source rows are one row here, and which of their values win. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from providers.importers.drafts import Draft, Origin
from providers.importers.findings import Finding


@dataclass(frozen=True, slots=True)
class Merged:
    """`rejected` are rows that lost to another one of the same name and said something else: the source counts them."""

    drafts: tuple[Draft, ...]
    findings: tuple[Finding, ...] = ()
    rejected: tuple[Origin, ...] = ()


def merge_keys(drafts: Iterable[Draft]) -> Merged:
    """One key for each provider, environment and secret."""
    raise NotImplementedError


def merge_parameters(drafts: Iterable[Draft]) -> Merged:
    """One parameter for each provider, environment and name."""
    raise NotImplementedError


def differences(older: Draft, newer: Draft) -> tuple[str, ...]:
    """Names of the fields in which the newer row says something else than the older one, of those that the older one has."""
    raise NotImplementedError
