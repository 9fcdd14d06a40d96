"""Which scopes a user may give a client key, so that nobody lends a key more than they may do themselves.

Rotating or changing a key is giving its scopes anew: what shows or widens a key asks `may_handle`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from routing import visibility
from routing.client_keys import SCOPES

EVERY_SCOPE = "routing.grant_every_scope"
_NEEDS = {
    "generate": (),
    "registry:read": ("providers.view_provider", visibility.SEE_EVERY_TEAM),
    "registry:write": ("providers.change_provider", "routing.change_policy", visibility.SEE_EVERY_TEAM),
}
"""What the user needs for each; the scopes that are not here are for those who may give every scope."""


def grantable(user: Any) -> tuple[str, ...]:
    if user.has_perm(EVERY_SCOPE):
        return SCOPES
    return tuple(scope for scope in SCOPES if scope in _NEEDS and user.has_perms(_NEEDS[scope]))


def may_handle(user: Any, scopes: Iterable[str]) -> bool:
    return set(scopes) <= set(grantable(user))
