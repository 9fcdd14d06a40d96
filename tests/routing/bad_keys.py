"""Client keys that must not let anybody in, each for its own reason."""

from __future__ import annotations

from datetime import timedelta
from hashlib import sha256

from django.utils import timezone

from routing import issuing, key_imports
from routing.models import ClientKey, Team


def _wrong() -> str:
    _, key = issuing.issue("tests", ["admin"])
    shown = key.reveal()
    return shown[:-1] + ("A" if shown[-1] != "A" else "B")


def _deleted() -> str:
    row, key = issuing.issue("tests", ["admin"])
    row.delete()
    return key.reveal()


def _suspended() -> str:
    return issuing.issue("tests", ["admin"], enabled=False)[1].reveal()


def _revoked() -> str:
    row, key = issuing.issue("tests", ["admin"])
    row.revoke("tests")
    return key.reveal()


def _expired() -> str:
    return issuing.issue("tests", ["admin"], expires_at=timezone.now() - timedelta(seconds=1))[1].reveal()


def _rotated() -> str:
    row, key = issuing.issue("tests", ["admin"])
    issuing.rotate(row)
    return key.reveal()


def _rotated_long_ago() -> str:
    row, key = issuing.issue("tests", ["admin"])
    issuing.rotate(row, timedelta(days=1))
    ClientKey.objects.filter(pk=row.pk).update(previous_until=timezone.now() - timedelta(seconds=1))
    return key.reveal()


def _of_a_team_that_is_off() -> str:
    team = Team.objects.create(name="off", enabled=False)
    return issuing.issue("tests", ["admin"], team=team)[1].reveal()


def _from_elsewhere() -> str:
    return issuing.issue("tests", ["admin"], ip_ranges=["192.0.2.0/24"])[1].reveal()


def _prefix_alone() -> str:
    return issuing.issue("tests", ["admin"])[0].prefix


def _stored_digest() -> str:
    return issuing.issue("tests", ["admin"])[0].digest


def _sha256_of_an_imported_key() -> str:
    key_imports.write("other", key_imports.plan("other", [{"key": "sk-imported"}]))
    return sha256(b"sk-imported").hexdigest()


def _revoked_imported_key() -> str:
    key_imports.write("other", key_imports.plan("other", [{"key": "sk-imported"}]))
    ClientKey.objects.get(imported_from="other").revoke("tests")
    return "sk-imported"


BAD = {
    "wrong": _wrong,
    "deleted": _deleted,
    "suspended": _suspended,
    "revoked": _revoked,
    "expired": _expired,
    "rotated": _rotated,
    "rotated long ago": _rotated_long_ago,
    "of a team that is off": _of_a_team_that_is_off,
    "from elsewhere": _from_elsewhere,
    "a prefix alone": _prefix_alone,
    "a stored digest": _stored_digest,
    "the SHA-256 of an imported key": _sha256_of_an_imported_key,
    "an imported key that was revoked": _revoked_imported_key,
}
