"""Where this process's keys come from: the environment, else the files of the data directory.

Read once and again when the file changes, so a rotation needs no restart. Holds the encryption ring (secrets we use) and
the peppers (digests of secrets that clients show us, fingerprints, the audit chain).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from django.conf import settings

from providers.secrets import Keyring, KeyringError, load_keyring, parse_keyring

T = TypeVar("T")
_PEPPER_BYTES = 32


@dataclass(frozen=True, slots=True)
class Peppers:
    """`current_id` signs new digests; the oldest keeps fingerprints and the audit chain comparable over time."""

    by_id: dict[str, bytes]
    current_id: str
    oldest_id: str

    def derive(self, purpose: str, pepper_id: str | None = None) -> bytes:
        """A key of its own for each purpose, so no two uses share one."""
        pepper = self.by_id[pepper_id or self.oldest_id]
        return hmac.new(pepper, purpose.encode(), hashlib.sha256).digest()


class _Source(Generic[T]):
    """A value parsed from a setting, else from a file that is read again when it changes."""

    def __init__(self, parse: Callable[[str], T], load: Callable[[Path], T], setting: str) -> None:
        self._parse, self._load, self._setting = parse, load, setting
        self._seen: tuple[object, T] | None = None

    def current(self) -> T:
        text = getattr(settings, self._setting)
        path: Path = getattr(settings, f"{self._setting}_FILE")
        mark: object = text or _mark(path)
        if self._seen is None or self._seen[0] != mark:
            self._seen = (mark, self._parse(text.replace(",", "\n")) if text else self._load(path))
        return self._seen[1]


def _mark(path: Path) -> tuple[str, int, int]:
    try:
        status = path.stat()
    except FileNotFoundError:
        return (str(path), 0, 0)
    return (str(path), status.st_mtime_ns, status.st_size)


def parse_peppers(text: str) -> Peppers:
    """Read `pepper_id:base64` lines, the current one first."""
    by_id: dict[str, bytes] = {}
    for line in text.splitlines():
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        pepper_id, _, material = line.partition(":")
        try:
            by_id[pepper_id] = base64.urlsafe_b64decode(material)
        except ValueError as error:
            raise KeyringError(f"pepper {pepper_id!r} is not base64") from error
        if len(by_id[pepper_id]) < _PEPPER_BYTES:
            raise KeyringError(f"pepper {pepper_id!r} is shorter than {_PEPPER_BYTES} bytes")
    if not by_id:
        raise KeyringError("the file of client key peppers is empty")
    ids = list(by_id)
    return Peppers(by_id=by_id, current_id=ids[0], oldest_id=ids[-1])


def _load_peppers(path: Path) -> Peppers:
    try:
        return parse_peppers(path.read_text())
    except FileNotFoundError as error:
        raise KeyringError(f"no client key peppers at {path}; `manage.py create_keys` makes them") from error


_ring: _Source[Keyring] = _Source(parse_keyring, load_keyring, "ENCRYPTION_KEYS")
_peppers: _Source[Peppers] = _Source(parse_peppers, _load_peppers, "CLIENT_KEY_PEPPERS")


def current() -> Keyring:
    """The encryption ring. Raises `KeyringError` with what to do when there is none."""
    return _ring.current()


def peppers() -> Peppers:
    return _peppers.current()


def fingerprint(value: str) -> str:
    """Tells equal secrets apart from different ones; useless without the pepper."""
    return hmac.new(peppers().derive("fingerprint"), value.encode(), hashlib.sha256).hexdigest()[:16]
