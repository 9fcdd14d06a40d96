"""Changing policies: each change one transaction with its audit entry, its version and the reason that was given for it.

What is wrong with a value is a Django `ValidationError` that names the field. Whether a configuration file owns the policy is
asked at the edge, by `providers.ownership`: the file's own reading comes through here too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.utils import timezone

from providers import actor, audit
from providers.actions import AlreadyExists
from routing import cached_answers
from routing.models import Override, Policy, PolicyVersion

LONGEST_TTL_SECONDS = 10 * 366 * 86_400


class NotOverridable(Exception):
    """A policy's document says that nothing may stand over it, and that it stands over nothing."""

    code = "not_overridable"

    def __init__(self, name: str) -> None:
        super().__init__(f"The policy {name} takes no part in overrides: its document says overridable: false.")


class NoSuchVersion(LookupError):
    """The policy never had a version of that number."""


class Overtaken(Exception):
    """Somebody else saved the policy, as `version`, since it was looked at."""

    def __init__(self, version: int) -> None:
        super().__init__(f"Meanwhile version {version} was saved.")
        self.version = version


def create(values: Mapping[str, Any], *, note: str = "") -> Policy:
    """A new policy with its first version. `values` by the names of the row's fields. Raises `AlreadyExists`."""
    policy = Policy(**values)
    policy.version_note = note
    with transaction.atomic(), actor.giving_reason(note or actor.current().reason):
        if Policy.objects.filter(name=policy.name).exists():
            raise AlreadyExists(f"Policy {policy.name!r} exists already.")
        policy.full_clean(validate_unique=False)
        try:
            with transaction.atomic():
                policy.save()
        except IntegrityError:
            raise AlreadyExists(f"Policy {policy.name!r} exists already.") from None
    return policy


def update(policy: Policy, values: Mapping[str, Any], *, note: str = "", seen: int | None = None) -> Policy:
    """Change what `values` names; another document becomes the next version, with the note. Raises `Overtaken` where the version is
    not the one that was `seen`."""
    with transaction.atomic(), actor.giving_reason(note or actor.current().reason):
        policy = Policy.objects.select_for_update().get(pk=policy.pk)
        if seen is not None and policy.version != seen:
            raise Overtaken(policy.version)
        for name, value in values.items():
            setattr(policy, name, value)
        policy.version_note = note
        policy.full_clean()
        policy.save()
    return policy


def restore(policy: Policy, number: int, note: str = "") -> Policy:
    """Make what the policy said under `number` count again, as a new version. Raises `NoSuchVersion`."""
    version = PolicyVersion.objects.filter(policy=policy, number=number).first()
    if version is None:
        raise NoSuchVersion(f"The policy {policy.name} has no version {number}.")
    return update(policy, {"document": version.document}, note=note or f"restored from version {number}")


def set_override(
    policy_name: str,
    target: str,
    *,
    ttl_seconds: float | None = None,
    expires_at: datetime | None = None,
    reason: str = "",
) -> Override:
    """Let `target` serve the policy first, for so long, or until then, or until it is taken away.

    One that stands already is replaced. Raises `Policy.DoesNotExist` and `NotOverridable`. Whether the target exists is the
    caller's to ask: a snapshot knows.
    """
    if ttl_seconds is not None:
        expires_at = timezone.now() + timedelta(seconds=_span(ttl_seconds))
    with transaction.atomic(), actor.giving_reason(reason or actor.current().reason):
        policy = Policy.objects.select_for_update().get(name=policy_name)
        for row in (policy, Policy.objects.filter(name=target).first()):
            if row is not None and row.document.get("overridable", True) is False:
                raise NotOverridable(row.name)
        override = Override.objects.filter(policy=policy).first() or Override(policy=policy)
        override.target, override.expires_at, override.reason = target, expires_at, reason
        override.full_clean()
        override.save()
    return override


def forget_cached(policy: Policy) -> None:
    """No answer that is cached under the policy is given again, in any process. Raises `cached_answers.CacheAway`."""
    with transaction.atomic():
        audit.record("forget cached answers", "policy", policy.name, before=None, after=None)
        cached_answers.forget(policy.name)


def _span(seconds: float) -> float:
    if not math.isfinite(seconds) or not 0 < seconds <= LONGEST_TTL_SECONDS:
        raise ValidationError({"ttl": f"A number of seconds above 0 and up to {LONGEST_TTL_SECONDS} is needed."})
    return seconds


def clear_override(policy_name: str) -> bool:
    """Let the policy decide again; False when nothing stood over it. Raises `Policy.DoesNotExist`."""
    with transaction.atomic():
        policy = Policy.objects.select_for_update().get(name=policy_name)
        override = Override.objects.filter(policy=policy).first()
        if override is not None:
            override.delete()
    return override is not None
