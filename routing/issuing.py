"""Making client keys: the one moment at which a key can be read."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from providers import keyring
from providers.secrets import Secret
from routing import client_keys
from routing.models import ClientKey


def issue(
    name: str,
    scopes: Sequence[str],
    *,
    allowed_models: list[str] | None = None,
    expires_at: datetime | None = None,
    enabled: bool = True,
) -> tuple[ClientKey, Secret]:
    """Create a client key; the returned secret is shown once and stored nowhere."""
    new = client_keys.generate()
    peppers = keyring.peppers()
    key = ClientKey(
        name=name,
        prefix=new.prefix,
        scopes=list(scopes),
        allowed_models=allowed_models,
        expires_at=expires_at,
        enabled=enabled,
        pepper_id=peppers.current_id,
        digest=client_keys.digest(new.plaintext.reveal(), peppers.derive("client-key", peppers.current_id)).hex(),
    )
    key.full_clean()
    key.save()
    return key, new.plaintext
