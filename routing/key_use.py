"""When a client key was used last, and from where: written beside the registry, of which it is no change."""

from __future__ import annotations

import time
from datetime import datetime

from django.db import DatabaseError
from django.db.models import Q
from django.utils import timezone

from routing.client_addresses import plain
from routing.models import ClientKey

NOTED_EVERY_SECONDS = 60.0
_MOST_NOTED = 10_000

_noted: dict[tuple[int, str], float] = {}


def write(key_id: int, at: datetime, address: str) -> None:
    """No process turns a time back that another one wrote. Of a use from nowhere, such as a job's, the address before stays."""
    later = Q(last_used_at__isnull=True) | Q(last_used_at__lt=at)
    told = {"last_used_from": known} if (known := plain(address)) is not None else {}
    ClientKey._base_manager.filter(later, pk=key_id).update(last_used_at=at, **told)


def note(key_id: int, address: str) -> None:
    """A use of the REST API, now; of many in a minute from one address, the first one is written."""
    now = time.monotonic()
    if now - _noted.get((key_id, address), -NOTED_EVERY_SECONDS) < NOTED_EVERY_SECONDS:
        return
    if len(_noted) >= _MOST_NOTED:
        _noted.clear()
    _noted[key_id, address] = now
    try:
        write(key_id, timezone.now(), address)
    except DatabaseError:  # who may only read, as on a replica, may read all the same
        _noted.pop((key_id, address), None)


def forget() -> None:
    """For tests, whose rows have the ids of others' rows."""
    _noted.clear()
