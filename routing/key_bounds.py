"""What a client key may do to client keys: none that it makes, changes or rotates reaches further than it does itself.

So whoever holds a key of one team, of some models or for a month holds no more after any number of calls.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from routing import filters
from routing.client_addresses import networks

if TYPE_CHECKING:
    from collections.abc import Callable

    from routing.models import ClientKey

ITSELF = "A key cannot change itself; it may be rotated, suspended and revoked."
_SETTINGS = (
    *("name", "scopes", "team", "allowed_models", "allowed_policies", "allowed_providers"),
    *("ip_ranges", "tags", "role", "captures_content", "expires_at"),
)


def excess(issuer: ClientKey, row: ClientKey) -> dict[str, str]:
    """By field, how the row reaches further than the issuer; empty when it does not."""
    found: dict[str, str] = {}
    if "admin" not in issuer.scopes and not set(row.scopes) <= set(issuer.scopes):
        found["scopes"] = "Your key does not hold all of these scopes."
    if issuer.team_id is not None and row.team_id != issuer.team_id:
        found["team"] = "Your key belongs to a team: it manages that team's keys alone."
    for name, (subject, patterns_of) in _PATTERNS.items():
        if not _are_within(patterns_of(row), patterns_of(issuer)):
            found[name] = f"Your key is limited to some {subject}: name no others here."
    if not _comes_from_within(row.ip_ranges, issuer.ip_ranges):
        found["ip_ranges"] = "Your key may come from some addresses only: name no others here."
    if issuer.expires_at is not None and (row.expires_at is None or row.expires_at > issuer.expires_at):
        found["expires_at"] = "Your key expires: this one must do so no later."
    return found


def excess_of_change(issuer: ClientKey, before: ClientKey | None, after: ClientKey) -> dict[str, str]:
    """How a change reaches further than the issuer: what it sets, all that the key may where it hands the key out or lets it in
    again, and that a key is of another team in any case. What makes a key less is for every admin."""
    found = excess(issuer, after)
    if before is not None and after.pk == issuer.pk:
        found = {name: ITSELF for name in _SETTINGS if getattr(before, name) != getattr(after, name)} | found
    if before is None or before.digest != after.digest or (after.enabled and not before.enabled):
        return found
    return {name: why for name, why in found.items() if name == "team" or getattr(before, name) != getattr(after, name)}


def _models(row: ClientKey) -> list[str] | None:
    """Those that it may name; None: all. One that is limited to policies names none besides."""
    return [] if row.allowed_models is None and row.allowed_policies is not None else row.allowed_models


def _policies(row: ClientKey) -> list[str] | None:
    """Those that it may name, and gets whatever they choose; None: all. Without a list of its own, that of its models counts."""
    return row.allowed_models if row.allowed_policies is None else row.allowed_policies


def _providers(row: ClientKey) -> list[str] | None:
    return row.allowed_providers


_PATTERNS: dict[str, tuple[str, Callable[[ClientKey], list[str] | None]]] = {
    "allowed_models": ("models", _models),
    "allowed_policies": ("policies", _policies),
    "allowed_providers": ("providers", _providers),
}


def _are_within(patterns: list[str] | None, bounds: list[str] | None) -> bool:
    """Each is a pattern of the bounds, or a plain name that one of them matches."""
    if bounds is None:
        return True
    if patterns is None:
        return False
    return all(
        pattern in bounds or (not set(pattern) & set("*?[") and filters.matches(tuple(bounds), pattern))
        for pattern in patterns
    )


def _comes_from_within(ranges: list[str] | None, bounds: list[str] | None) -> bool:
    if bounds is None:
        return True
    if ranges is None:
        return False
    outer = networks(bounds)
    return all(
        any(one.version == around.version and one.subnet_of(around) for around in outer)  # type: ignore[arg-type]
        for one in networks(ranges)
    )
