"""The validation of the policies that are stored now."""

from __future__ import annotations

import time

from django.utils import timezone

from providers.importers.findings import Level
from providers.models import ConfigFile
from routing import snapshot
from routing.models import Override, Policy
from routing.types import Snapshot
from routing.validation import Issue, Validation, validate

_last: tuple[Snapshot, frozenset[str], Validation] | None = None


def current() -> Validation:
    """Of the registry as the database has it."""
    return of(snapshot.refresh())


def of(registry: Snapshot) -> Validation:
    """The work is done once for each state of the registry; only what the clock changes is looked at each time."""
    global _last
    disabled = frozenset(Policy.objects.filter(enabled=False).values_list("name", flat=True))
    held = _last
    if held is None or held[0] is not registry or held[1] != disabled:
        held = (registry, disabled, _look(registry, disabled))
        _last = held
    found = held[2]
    warned = {issue.name for issue in found.warnings if issue.code == "expired_override"}
    expired = (one for one in _expired() if one.name not in warned)
    return Validation((*found.issues, *_of_files()), (*found.warnings, *expired))


def _of_files() -> list[Issue]:
    """What the last reading of the files that rule had to leave out: the entry named by its place in the file."""
    found = []
    for row in ConfigFile.objects.all():
        if row.error:
            found.append(Issue("configuration_file", row.path, row.error))
        for told in row.findings:
            if told["level"] == Level.PERSON:
                found.append(Issue(told["code"], row.path, ": ".join(filter(None, (told["place"], told["detail"])))))
    return found


def _expired() -> list[Issue]:
    """A snapshot that was built after an override expired does not hold it any more."""
    rows = Override.objects.filter(expires_at__lte=timezone.now()).select_related("policy")
    return [Issue("expired_override", row.policy.name, f"its override by {row.target!r} has expired") for row in rows]


def _look(registry: Snapshot, disabled: frozenset[str]) -> Validation:
    found = validate(registry, now=time.time(), disabled=disabled)
    unread = tuple(_unread(note) for note in registry.notes if note.startswith("policy "))
    return Validation((*unread, *found.issues), found.warnings)


def _unread(note: str) -> Issue:
    """A policy that was left out of the snapshot, because what is stored of it does not read."""
    name, _, sentence = note.removeprefix("policy ").partition(": ")
    return Issue("unreadable", name, sentence)
