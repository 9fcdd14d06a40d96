"""Keeps the headers that the legacy side is sent where they were entered for, as `providers.holding` does a provider's keys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.core.exceptions import ValidationError

from providers import actor, destinations
from providers.destinations import Destination
from providers.secrets import SecretError

if TYPE_CHECKING:
    from routing.models import Rollout


@dataclass(frozen=True, slots=True)
class Sent:
    """Where to, and what: headers by name, in the clear."""

    to: Destination
    headers: Mapping[str, str]


def of(row: Rollout) -> Sent:
    try:
        headers = {name: value.reveal() for name, value in row.headers().items()}
    except SecretError:
        headers = {}
    return Sent(destinations.of({"base_url": row.legacy_base_url, "verify_tls": row.verify_tls}), headers)


def check(before: Sent, after: Sent) -> None:
    """Raises `ValidationError` where somebody who may not handle secrets would have stored headers sent elsewhere."""
    if before.to.covers(after.to) or actor.current().may_handle_secrets():
        return
    kept = sorted(before.headers.items() & after.headers.items())
    if kept:
        names = ", ".join(name for name, _ in kept)
        sentence = (
            f"Another address would get headers that are stored ({names}): forget them with this change, or have somebody do it "
            "who may read secrets."
        )
        raise ValidationError({"legacy_headers": sentence})
