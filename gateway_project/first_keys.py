"""The secrets an installation needs before it can start: made once, never overwritten, readable by their owner only.

Three files in the data directory: the ring that encrypts stored credentials, the peppers that client keys are hashed
under, and Django's signing secret. Losing the first makes every stored credential unreadable: back it up apart from
the database.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from pathlib import Path

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
    return [data_dir / name for name, content in contents.items() if _create(data_dir / name, content())]


def write_private(path: Path, text: str) -> None:
    """Replace the file in one step, so that no reader ever sees half of it or may read it without leave."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    _write_new(temporary, text)
    temporary.replace(path)


def _ring() -> str:
    return EncryptionKey.generate().line()


def _create(path: Path, text: str) -> bool:
    if path.exists():
        return False
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    _write_new(temporary, text + "\n")
    try:
        # A link fails where the name exists: of two processes starting at once, one set of keys wins whole.
        os.link(temporary, path)
    except FileExistsError:
        return False
    finally:
        temporary.unlink()
    return True


def _write_new(path: Path, text: str) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
