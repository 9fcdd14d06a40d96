"""Taking over client keys of another system, so that its clients change nothing: what would be written, and writing it.

Everything is read and checked first. One record that cannot be read keeps all of them from being written; what is there already
stays as it is, so that an import may be run again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone

from providers import keyring
from routing import client_keys, foreign_keys
from routing.foreign_keys import BadRecord, ForeignKey
from routing.models import Budget, ClientKey, RateLimit, Team

NEW, KNOWN, EXPIRED, TWICE = "new", "known", "expired", "twice"


class BadSource(ValueError):
    """Records that cannot be read; one sentence each, none of which holds a key."""

    def __init__(self, sentences: Sequence[str]) -> None:
        super().__init__("\n".join(sentences))
        self.sentences = tuple(sentences)


@dataclass(slots=True)
class Planned:
    """One key, and what becomes of it: new, known (it is here), expired, or twice (an earlier record is the same key)."""

    key: ForeignKey
    becomes: str
    prefix: str = ""
    remarks: tuple[str, ...] = ()


def plan(system: str, records: Iterable[Mapping[str, Any]], *, team: str = "") -> list[Planned]:
    """What an import would do. `team` takes all of them, whatever their own is. Raises `BadSource`."""
    if team and not Team.objects.filter(name=team).exists():
        raise BadSource([f"There is no team {team!r}."])
    teams = set(Team.objects.values_list("name", flat=True))
    known, seen = _known(), set()
    planned, problems = [], []
    for number, record in enumerate(records, 1):
        try:
            key = foreign_keys.read(system, record)
        except BadRecord as error:
            problems.append(f"record {number}, {error}")
            continue
        prefix = next((known[digest] for digest in _digests(key) if digest in known), "")
        planned.append(_planned(key, prefix, key.digest in seen, team or key.team, teams))
        seen.add(key.digest)
    if problems:
        raise BadSource(problems)
    return planned


def write(system: str, planned: Iterable[Planned], *, team: str = "") -> None:
    """Write the new ones, all or none, and tell their prefixes. Raises `ValidationError` with the key's name."""
    teams = {row.name: row for row in Team.objects.all()}
    with transaction.atomic():
        for one in planned:
            if one.becomes == NEW:
                one.prefix = _written(system, one.key, teams.get(team or one.key.team)).prefix


def _planned(key: ForeignKey, prefix: str, twice: bool, team: str, teams: set[str]) -> Planned:
    remarks = key.remarks
    if team and team not in teams:
        remarks += (f"there is no team {team!r} here: it belongs to none",)
    if twice:
        return Planned(key, TWICE)
    if prefix:
        return Planned(key, KNOWN, prefix)
    if key.expires_at is not None and key.expires_at <= timezone.now():
        return Planned(key, EXPIRED)
    return Planned(key, NEW, remarks=remarks)


def _written(system: str, key: ForeignKey, team: Team | None) -> ClientKey:
    peppers = keyring.peppers()
    pepper = peppers.derive("client-key", peppers.current_id)
    row = ClientKey(
        name=key.name,
        prefix=client_keys.generate().prefix,
        digest=client_keys.digest_of_sha256(key.digest, pepper).hex(),
        pepper_id=peppers.current_id,
        imported_from=system,
        scopes=["generate"],
        team=team,
        allowed_models=key.allowed_models,
        ip_ranges=key.ip_ranges,
        tags=key.tags,
        enabled=key.enabled,
        expires_at=key.expires_at,
    )
    try:
        row.full_clean()
        row.save()
        if key.limits:
            _save(RateLimit(subject="key", client_key=row, **key.limits))
        if key.budget is not None:
            period, amount = key.budget
            _save(Budget(subject="key", client_key=row, period=period, amount=amount))
    except ValidationError as error:
        raise ValidationError(f"{key.name}: {'; '.join(error.messages)}") from None
    return row


def _save(row: RateLimit | Budget) -> None:
    row.full_clean()
    row.save()


def _known() -> dict[str, str]:
    """Prefixes of the imported keys by their digests, the ones before a rotation included."""
    rows = ClientKey.objects.exclude(imported_from="").values_list("prefix", "digest", "previous_digest")
    return {digest: prefix for prefix, *digests in rows for digest in digests if digest}


def _digests(key: ForeignKey) -> list[str]:
    """Under every pepper: it may have been imported under one before."""
    peppers = keyring.peppers()
    return [
        client_keys.digest_of_sha256(key.digest, peppers.derive("client-key", pepper_id)).hex()
        for pepper_id in peppers.by_id
    ]
