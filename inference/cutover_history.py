"""Who moved the roll-out, when and why: read from the audit log."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from providers.models import AuditEntry
from routing.models import Rollout

_LOOKED_AT = 500
"""Entries that the search for a state's beginning goes back over."""
_WORDS = {
    "percentage": "share",
    "gateway_enabled": "kill switch",
    "legacy_base_url": "legacy side",
    "shadow_percentage": "copied share",
    "shadow_daily_cap": "daily cap of copies",
    "shadow_retention_hours": "hours that copies are kept",
    "legacy_headers": "extra headers",
}
_FIRST = {"percentage", "gateway_enabled", "legacy_base_url"}


@dataclass(frozen=True, slots=True)
class Change:
    at: datetime
    actor: str
    reason: str
    what: tuple[tuple[str, str, str], ...]
    """Name, before and after."""


@dataclass(frozen=True, slots=True)
class Since:
    at: datetime
    actor: str
    reason: str


def changes(most: int = 10) -> list[Change]:
    """The latest first."""
    return [Change(entry.at, entry.actor, entry.reason, tuple(_differences(entry))) for entry in _entries()[:most]]


def since(field: str) -> Since | None:
    """The change that gave a field its present value; None when it never had another."""
    for entry in _entries()[:_LOOKED_AT]:
        before, after = entry.before or {}, entry.after or {}
        if before.get(field) != after.get(field):
            return Since(entry.at, entry.actor, entry.reason)
    return None


def _entries() -> Any:
    row = Rollout()
    return AuditEntry.objects.filter(target_id=row.audit_name(), target_type=row._meta.model_name).order_by("-id")


def _differences(entry: AuditEntry) -> Iterable[tuple[str, str, str]]:
    """Of the first entry, which has no before, what a person would name."""
    before, after = entry.before or {}, entry.after or {}
    for name, value in after.items():
        told = _WORDS.get(name, name.replace("_", " "))
        if before and before.get(name) != value:
            yield told, _shown(name, before.get(name)), _shown(name, value)
        elif not before and name in _FIRST:
            yield told, "", _shown(name, value)


def _shown(name: str, value: Any) -> str:
    if name == "gateway_enabled":
        return "off" if value else "thrown"
    if name in {"percentage", "shadow_percentage"} and value is not None:
        return f"{float(value):g} %"
    if name == "legacy_headers":
        return "set" if value else "none"
    if value in (None, "", []):
        return "none"
    return str(value)
