"""What a client key may do to client keys: none that it makes, changes or rotates reaches further than it does itself.

So whoever holds a key of one team, of some models or for a month holds no more after any number of calls.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from routing import filters
from routing.client_addresses import networks

if TYPE_CHECKING:
    from routing.models import ClientKey


def excess(issuer: ClientKey, row: ClientKey) -> dict[str, str]:
    """By field, how the row reaches further than the issuer; empty when it does not."""
    found: dict[str, str] = {}
    if "admin" not in issuer.scopes and not set(row.scopes) <= set(issuer.scopes):
        found["scopes"] = "Your key does not hold all of these scopes."
    if issuer.team_id is not None and row.team_id != issuer.team_id:
        found["team"] = "Your key belongs to a team: it manages that team's keys alone."
    for name, subject in _PATTERNS.items():
        if not _are_within(getattr(row, name), getattr(issuer, name)):
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
    if before is None or before.digest != after.digest or (after.enabled and not before.enabled):
        return found
    return {name: why for name, why in found.items() if name == "team" or getattr(before, name) != getattr(after, name)}


_PATTERNS = {"allowed_models": "models", "allowed_policies": "policies", "allowed_providers": "providers"}


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
