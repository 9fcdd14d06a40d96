"""The secrets an installation needs before it can start: made once, never overwritten, readable by their owner only.

Three files in the data directory: the ring that encrypts stored credentials, the peppers that client keys are hashed
under, and Django's signing secret. Losing the first makes every stored credential unreadable: back it up apart from
the database.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path

from providers import private_files
from providers.secrets import EncryptionKey

ENCRYPTION_KEYS = "encryption.keys"
CLIENT_KEY_PEPPERS = "client_key.peppers"
DJANGO_SECRET = "django.secret"  # noqa: S105  (the name of a file)


def create_missing(data_dir: Path) -> list[Path]:
    """Make the directory (0700) and the files (0600) that are not there yet; return those made."""
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    contents: dict[str, Callable[[], str]] = {
        ENCRYPTION_KEYS: _ring,
        CLIENT_KEY_PEPPERS: _ring,
        DJANGO_SECRET: lambda: secrets.token_urlsafe(48),
    }
    return [
        data_dir / name for name, content in contents.items() if private_files.create(data_dir / name, content() + "\n")
    ]


def _ring() -> str:
    return EncryptionKey.generate().line()
