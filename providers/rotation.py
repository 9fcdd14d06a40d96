"""Changing the key that secrets are encrypted under, while the gateway runs.

First a fresh key goes in front of the ring, so that every process writes with it and still reads the old ones. Then each
ciphertext is written again, only where it is still the one that was read: an edit in between wins. Killed anywhere and run
again it goes on. It writes past the registry's audit and revision on purpose, as no fact changes, and leaves one entry.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.apps import apps
from django.conf import settings
from django.db import transaction
from django.db.models import Model
from django.db.models.functions import Left

from providers import audit, keyring, private_files, revision
from providers.fields import EncryptedField
from providers.secrets import EncryptionKey, KeyringError, SecretError, key_id_of

BATCH = 50
"""Rows in memory at once: the pieces of files are large."""
_LONGEST_BEGINNING = 200
"""Characters in which a ciphertext has named its key."""
_MOST_PASSES = 20


@dataclass(frozen=True, slots=True)
class Rotation:
    """`unreadable` names values that no key on the ring opens: sentences without secrets."""

    rewritten: int
    unreadable: tuple[str, ...]


def put_new_key_in_front() -> str:
    """Add a fresh key to the ring's file, the old ones kept; returns its id. Raises `KeyringError`."""
    with _ring_file() as path:
        key = EncryptionKey.generate()
        private_files.replace(path, f"{key.line()}\n{path.read_text()}")
    return key.key_id


def drop_unused_keys() -> list[str]:
    """Take keys off the ring that no stored value needs; returns their ids. The first key always stays."""
    with _ring_file() as path:
        needed = {keyring.current().primary_id, *keys_in_use()}
        lines = path.read_text().splitlines()
        dropped = [line.partition(":")[0].strip() for line in lines if not _is_kept(line, needed)]
        if dropped:
            private_files.replace(path, "\n".join(line for line in lines if _is_kept(line, needed)) + "\n")
            audit.record("drop", "encryptionkey", ", ".join(dropped), before=None, after=None)
    return dropped


def reencrypt(progress: Callable[[int], None] = lambda done: None) -> Rotation:
    """Write every value again that is not under the first key of the ring. `progress` hears how many at a time."""
    before, rewritten = keys_in_use(), 0
    unreadable: dict[tuple[str, Any], str] = {}
    for _ in range(_MOST_PASSES):
        done = sum(_rewrite_all(model, field, unreadable, progress) for model, field in encrypted_fields())
        rewritten += done
        # A process that held a row over the change of keys may have written an old ciphertext back.
        if not done:
            break
    if rewritten:
        with transaction.atomic():
            after = {"values_by_key": keys_in_use(), "rewritten": rewritten, "unreadable": len(unreadable)}
            primary = keyring.current().primary_id
            audit.record("rotate", "encryptionkey", primary, before={"values_by_key": before}, after=after)
            revision.bump()
    return Rotation(rewritten, tuple(unreadable.values()))


def waiting() -> int:
    """How many values are not under the first key."""
    primary = keyring.current().primary_id
    return sum(count for key_id, count in keys_in_use().items() if key_id != primary)


def keys_in_use() -> dict[str, int]:
    """How many stored values each key has encrypted. Of each value only the beginning is read, since some are files."""
    counts: Counter[str] = Counter()
    for model, field in encrypted_fields():
        stored = model._base_manager.exclude(**{field.name: None}).order_by()
        beginnings = stored.values_list(Left(field.name, _LONGEST_BEGINNING), flat=True)
        for beginning in beginnings.iterator(chunk_size=2000):
            with contextlib.suppress(SecretError):
                counts[key_id_of(beginning)] += 1
    return dict(counts)


def encrypted_fields() -> list[tuple[type[Model], EncryptedField]]:
    return [
        (model, field)
        for model in apps.get_models()
        for field in model._meta.concrete_fields
        if isinstance(field, EncryptedField)
    ]


def _rewrite_all(
    model: type[Model],
    field: EncryptedField,
    unreadable: dict[tuple[str, Any], str],
    progress: Callable[[int], None],
) -> int:
    """One walk over a column in batches, each a short transaction."""
    rewritten, last = 0, 0
    while rows := list(_column(model, field).filter(pk__gt=last).order_by("pk")[:BATCH]):
        last = rows[-1].pk
        changes = list(_changes(rows, field, unreadable))
        with transaction.atomic():
            done = sum(_rewrite(model, field, *change) for change in changes)
        rewritten += done
        progress(done)
    return rewritten


def _column(model: type[Model], field: EncryptedField) -> Any:
    return model._base_manager.exclude(**{field.name: None}).only("pk", "identity", field.name)


def _changes(
    rows: list[Any], field: EncryptedField, unreadable: dict[tuple[str, Any], str]
) -> Iterator[tuple[Any, str, str]]:
    ring = keyring.current()
    for row in rows:
        ciphertext = row.__dict__[field.attname].ciphertext
        try:
            if ring.needs_rotation(ciphertext):
                yield row.pk, ciphertext, ring.rotate(ciphertext, bound_to=field.bound_to(row))
        except SecretError as error:
            unreadable[(field.bound_to(row), row.pk)] = str(error)


def _rewrite(model: type[Model], field: EncryptedField, pk: Any, read: str, written: str) -> int:
    return model._base_manager.filter(pk=pk, **{field.name: read}).update(**{field.name: written})


@contextlib.contextmanager
def _ring_file() -> Iterator[Path]:
    """The ring's file, ours alone for the moment."""
    if settings.ENCRYPTION_KEYS:
        raise KeyringError(
            "the ring comes from GATEWAY_ENCRYPTION_KEYS: change it there (new keys in front), restart every process, "
            "then re-encrypt"
        )
    path: Path = settings.ENCRYPTION_KEYS_FILE
    keyring.current()
    with open(os.open(path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield path


def _is_kept(line: str, needed: set[str]) -> bool:
    key_id = line.partition(":")[0].strip()
    return not key_id or key_id.startswith("#") or key_id in needed
