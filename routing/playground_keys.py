"""With which client keys a person may ask in the playground: those of their teams, or all; and one of their own.

A person's own key is a row like any other, so that limits, budgets and the books know it; its secret was thrown away when it was made,
and it lets its person in by a permit alone. To revoke it is to shut its person out.
"""

from __future__ import annotations

import time
from typing import Any

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models import QuerySet

from providers import keyring
from routing import issuing, permits
from routing.models import ClientKey
from routing.permits import Permit
from routing.visibility import USE_EVERY_KEY, USE_PLAYGROUND, asked_with

OWN = "own"
"""In place of a key's prefix: the person's own."""


class NotYours(Exception):
    """The person may not ask with the key, or there is none of that name, which is the same to them."""


def usable(user: Any) -> QuerySet[ClientKey]:
    """The keys that the person may ask with; another person's own are theirs alone."""
    return asked_with(ClientKey.objects.filter(person=None), user).select_related("team")


def may_ask_in_own_name(user: Any) -> bool:
    return bool(user.has_perm(USE_PLAYGROUND) and user.has_perm(USE_EVERY_KEY))


def own(user: Any) -> ClientKey | None:
    """The person's own key, if there is one yet."""
    return ClientKey.objects.select_related("team").filter(person=user).first()


def permit(user: Any, prefix: str) -> tuple[str, Permit, ClientKey]:
    """Lets the person ask with a key; with `OWN`, their own key is made first where there is none. Raises `NotYours`."""
    if prefix == OWN:
        if not may_ask_in_own_name(user):
            raise NotYours
        key = own(user) or _made(user)
    else:
        found = usable(user).filter(prefix=prefix).first()
        if found is None:
            raise NotYours
        key = found
    text, said = permits.issue(key.prefix, user.get_username(), _peppers(), now=time.time())
    return text, said, key


def _made(user: Any) -> ClientKey:
    try:
        with transaction.atomic():
            key, _ = issuing.issue(
                f"Playground of {user.get_username()}", ["generate"], tags=[permits.TAG], person=user
            )
            return key
    except (IntegrityError, ValidationError):
        found = own(user)
        if found is None:
            raise
        return found  # another tab was first


def _peppers() -> dict[str, bytes]:
    """As the data plane holds them, the newest first."""
    ring = keyring.peppers()
    ids = [ring.current_id, *(one for one in ring.by_id if one != ring.current_id)]
    return {one: ring.derive("client-key", one) for one in ids}
