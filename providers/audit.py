"""The audit log: one row for each write, chained by keyed hashes so that a change, a gap or a cut is visible.

Each row's hash covers its own facts and the hash before it, under a key that is not in the database; a head row remembers
the last one, so rows missing at the end are noticed too. Secrets appear as fingerprints only.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder
from django.db import models, transaction
from django.utils import timezone

from providers import actor, keyring

GENESIS = "0" * 64


class AuditEntry(models.Model):
    """Who did what to which object, with the facts before and after."""

    at = models.DateTimeField(db_index=True)
    actor = models.CharField(max_length=255, db_index=True)
    action = models.CharField(max_length=32)
    target_type = models.CharField(max_length=64)
    target_id = models.CharField(max_length=600, db_index=True)
    before = models.JSONField(null=True)
    after = models.JSONField(null=True)
    request_id = models.CharField(max_length=128, blank=True)
    reason = models.TextField(blank=True)
    previous_hash = models.CharField(max_length=64)
    hash = models.CharField(max_length=64)

    class Meta:
        app_label = "providers"
        ordering = ["-id"]
        verbose_name_plural = "audit entries"

    def __str__(self) -> str:
        return f"{self.actor} {self.action} {self.target_type} {self.target_id}"


class AuditHead(models.Model):
    """One row: the end of the chain, locked by whoever appends to it."""

    last_id = models.BigIntegerField(default=0)
    last_hash = models.CharField(max_length=64, default=GENESIS)
    seal = models.CharField(max_length=64, default="")

    class Meta:
        app_label = "providers"

    def __str__(self) -> str:
        return f"ends at {self.last_id}"


@dataclass(frozen=True, slots=True)
class Tampering:
    entry_id: int
    finding: str


def record(
    action: str, target_type: str, target_id: str, *, before: dict[str, Any] | None, after: dict[str, Any] | None
) -> AuditEntry:
    """Append one entry, in the transaction of the write that it describes."""
    who = actor.current()
    with transaction.atomic():
        head, _ = AuditHead.objects.select_for_update().get_or_create(pk=1)
        entry = AuditEntry(
            at=timezone.now(),
            actor=who.name[:255],
            action=action,
            target_type=target_type,
            target_id=target_id[:600],
            before=_plain(before),
            after=_plain(after),
            request_id=who.request_id[:128],
            reason=who.reason,
            previous_hash=head.last_hash,
        )
        entry.save(force_insert=True)
        entry.hash = _hash(entry)
        AuditEntry.objects.filter(pk=entry.pk).update(hash=entry.hash)
        head.last_id, head.last_hash = entry.pk, entry.hash
        head.seal = _seal(entry.pk, entry.hash)
        head.save()
    return entry


def verify() -> Iterator[Tampering]:
    """Walk the chain from its start and yield every break. Others may append meanwhile."""
    walk = _Walk()
    yield from walk.breaks()
    yield from _judge_the_end(walk)


class _Walk:
    """How far the chain was followed."""

    def __init__(self) -> None:
        self.hash, self.last_id = GENESIS, 0

    def breaks(self) -> Iterator[Tampering]:
        """Of the entries that come next, to the last one there is."""
        for entry in AuditEntry.objects.filter(pk__gt=self.last_id).order_by("id").iterator(chunk_size=2000):
            if entry.previous_hash != self.hash:
                yield Tampering(
                    entry.pk,
                    f"entry {entry.pk} does not follow entry {self.last_id}: a row between them was removed or changed",
                )
            if not hmac.compare_digest(entry.hash, _hash(entry)):
                yield Tampering(entry.pk, f"entry {entry.pk} was changed after it was written")
            self.hash, self.last_id = entry.hash, entry.pk


def _judge_the_end(walk: _Walk) -> list[Tampering]:
    """What was appended during the walk, and the head: whoever appends waits for it, so that both are of one moment."""
    with transaction.atomic():
        head = AuditHead.objects.select_for_update().filter(pk=1).first()
        if head is None:
            return [Tampering(walk.last_id, "the head of the chain is missing")] if walk.last_id else []
        found = list(walk.breaks())
    if not hmac.compare_digest(head.seal, _seal(head.last_id, head.last_hash)) and head.last_id:
        found.append(Tampering(head.last_id, "the head of the chain was changed"))
    if (head.last_id, head.last_hash) != (walk.last_id, walk.hash):
        found.append(
            Tampering(
                head.last_id,
                f"the chain ends at entry {walk.last_id}, its head says {head.last_id}: rows at the end were removed",
            )
        )
    return found


def stands_as_written(entry: AuditEntry) -> bool:
    """Whether one entry is what its own hash covers, and follows the one before it. Rows missing elsewhere only `verify` finds."""
    before = AuditEntry.objects.filter(pk__lt=entry.pk).order_by("-pk").values_list("hash", flat=True).first()
    return hmac.compare_digest(entry.hash, _hash(entry)) and entry.previous_hash == (before or GENESIS)


def _plain(facts: dict[str, Any] | None) -> Any:
    return None if facts is None else json.loads(json.dumps(facts, cls=DjangoJSONEncoder))


def _hash(entry: AuditEntry) -> str:
    facts = [
        entry.pk,
        entry.at.isoformat(),
        entry.actor,
        entry.action,
        entry.target_type,
        entry.target_id,
        entry.before,
        entry.after,
        entry.request_id,
        entry.reason,
        entry.previous_hash,
    ]
    return _keyed(json.dumps(facts, sort_keys=True, separators=(",", ":")))


def _seal(last_id: int, last_hash: str) -> str:
    return _keyed(f"head:{last_id}:{last_hash}")


def _keyed(text: str) -> str:
    return hmac.new(keyring.peppers().derive("audit"), text.encode(), hashlib.sha256).hexdigest()
