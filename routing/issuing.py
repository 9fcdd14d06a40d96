"""Making and rotating client keys: the moments at which a key can be read.

What else happens to a key (suspended, revoked) is on the row; what may be asked of whom is for the pages and the API to say.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone

from providers import keyring
from providers.secrets import Secret
from routing import client_keys
from routing.models import ClientKey

LONGEST_OVERLAP = timedelta(days=90)


def issue(
    name: str,
    scopes: Sequence[str],
    *,
    allowed_models: list[str] | None = None,
    expires_at: datetime | None = None,
    enabled: bool = True,
    **limits: Any,
) -> tuple[ClientKey, Secret]:
    """Create a client key; the returned secret is shown once and stored nowhere. `limits` are other fields of the row."""
    new = client_keys.generate()
    digest, pepper_id = _digested(new.plaintext)
    key = ClientKey(
        name=name,
        prefix=new.prefix,
        scopes=list(scopes),
        allowed_models=allowed_models,
        expires_at=expires_at,
        enabled=enabled,
        pepper_id=pepper_id,
        digest=digest,
        **limits,
    )
    key.full_clean()
    key.save()
    return key, new.plaintext


def rotate(key: ClientKey, overlap: timedelta = timedelta()) -> Secret:
    """Give the key another secret, shown once; the one before is good as well until the overlap ends.

    Everything else stays: id, prefix, limits, expiry, what it has used. Of several rotations within an overlap the last secret before
    counts and no older one. Raises `ValidationError` for a key that is revoked or expired, and for an overlap that is too long.
    """
    if not timedelta() <= overlap <= LONGEST_OVERLAP:
        raise ValidationError({"overlap": f"From none to {LONGEST_OVERLAP.days} days are possible."})
    with transaction.atomic():
        row = ClientKey._base_manager.select_for_update().get(pk=key.pk)
        if row.state in ("revoked", "expired"):
            raise ValidationError(f"The key is {row.state}; issue another one.")
        if row.person_id is not None:
            raise ValidationError(
                "The key is a person's own in the playground; nobody has its secret. Issue another one."
            )
        now = timezone.now()
        new = client_keys.generate(row.prefix)
        row.previous_digest, row.previous_pepper_id, row.previous_until = "", "", None
        if overlap:
            row.previous_digest, row.previous_pepper_id = row.digest, row.pepper_id
            row.previous_until = now + overlap
        row.digest, row.pepper_id = _digested(new.plaintext)
        row.rotated_at = now
        row.save()
    key.refresh_from_db()
    return new.plaintext


def end_overlap(key: ClientKey) -> None:
    """The secret before the last rotation stops being good now."""
    key.previous_digest, key.previous_pepper_id, key.previous_until = "", "", None
    key.save(update_fields=["previous_digest", "previous_pepper_id", "previous_until"])


def _digested(plaintext: Secret) -> tuple[str, str]:
    peppers = keyring.peppers()
    pepper = peppers.derive("client-key", peppers.current_id)
    return client_keys.digest(plaintext.reveal(), pepper).hex(), peppers.current_id
