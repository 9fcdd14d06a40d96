"""Secrets: the value that masks itself, and the ring of keys that encrypts it at rest.

A ciphertext reads ``gw1.<key id>.<base64url(nonce + AES-256-GCM output)>``: versioned, with the id of its key in
front, bound by associated data to the row and field it was written for. A value moved to another row does not open.
This module imports nothing of ours and reads no settings; `gateway_project.settings` says where the ring lies.
"""

from __future__ import annotations

import base64
import hmac
import os
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

VERSION = "gw1"
_NONCE_BYTES = 12
_KEY_BYTES = 32


_OURS = ("GATEWAY_", "DJANGO_", "DATABASE_URL", "LEGACY_DATABASE_URL", "REDIS_URL", "PG", "CELERY_")


def is_ours(variable: str) -> bool:
    """Whether the environment variable belongs to the gateway itself, so that no registry and no file may refer to it."""
    return variable.upper().startswith(_OURS)


class SecretError(Exception):
    """A secret could not be read or written; the text never holds the secret."""


class KeyringError(SecretError):
    """The ring of keys itself is missing or malformed."""


class UnknownKey(SecretError):
    """The ciphertext names a key that is not on the ring."""


class Undecryptable(SecretError):
    """The key is on the ring but the ciphertext was changed, cut or moved to another row."""


class Secret:
    """A text that shows itself only when asked by name: `repr`, `str` and `format` print a mask."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return "Secret('••••')" if self._value else "Secret('')"

    __str__ = __repr__

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._value.encode(), other._value.encode())

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __reduce__(self) -> tuple:
        raise TypeError("a Secret does not pickle: pass the id of its row instead")


def hint(value: str) -> str:
    """What an admin may see of a secret: `sk-…9f3a`; short secrets show nothing."""
    if len(value) < 16:
        return "…"
    return f"{value[:3]}…{value[-4:]}"


@dataclass(frozen=True, slots=True)
class EncryptionKey:
    key_id: str
    material: Secret

    @classmethod
    def generate(cls) -> EncryptionKey:
        return cls(
            key_id=os.urandom(4).hex(), material=Secret(base64.urlsafe_b64encode(os.urandom(_KEY_BYTES)).decode())
        )

    def line(self) -> str:
        """The key as one line of a ring file: `key_id:material`."""
        return f"{self.key_id}:{self.material.reveal()}"


class Keyring:
    """Encrypts under the first key, decrypts under any. The order of the file is the order of the ring."""

    def __init__(self, keys: list[EncryptionKey]) -> None:
        if not keys:
            raise KeyringError("the encryption keyring is empty")
        self._ciphers: dict[str, AESGCM] = {}
        for key in keys:
            if key.key_id in self._ciphers:
                raise KeyringError(f"the encryption keyring names key {key.key_id!r} twice")
            self._ciphers[key.key_id] = AESGCM(_raw(key))
        self.primary_id = keys[0].key_id

    @property
    def key_ids(self) -> tuple[str, ...]:
        return tuple(self._ciphers)

    def encrypt(self, value: str, *, bound_to: str) -> str:
        """`bound_to` names the row and field, such as `providers.apikey/3f2c…/secret`."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._ciphers[self.primary_id].encrypt(nonce, value.encode(), _associated(self.primary_id, bound_to))
        return f"{VERSION}.{self.primary_id}.{base64.urlsafe_b64encode(nonce + sealed).decode()}"

    def decrypt(self, ciphertext: str, *, bound_to: str) -> str:
        key_id = key_id_of(ciphertext)
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            raise UnknownKey(
                f"{bound_to} was encrypted with key {key_id!r}, which is not on the ring "
                f"(on the ring: {', '.join(self._ciphers)}); add that key to the keyring file"
            )
        try:
            blob = base64.urlsafe_b64decode(ciphertext.split(".", 2)[2])
            return cipher.decrypt(blob[:_NONCE_BYTES], blob[_NONCE_BYTES:], _associated(key_id, bound_to)).decode()
        except (InvalidTag, ValueError) as error:
            raise Undecryptable(
                f"{bound_to} does not open with key {key_id!r}: the stored value was changed or moved"
            ) from error

    def seal(self, value: bytes, *, bound_to: str) -> bytes:
        """As `encrypt`, for what is large and lives for hours: the bytes as they are, without base64."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._ciphers[self.primary_id].encrypt(nonce, value, _associated(self.primary_id, bound_to))
        return b"%s.%s." % (VERSION.encode(), self.primary_id.encode()) + nonce + sealed

    def unseal(self, sealed: bytes, *, bound_to: str) -> bytes:
        """Raises `UnknownKey` and `Undecryptable`."""
        version, _, rest = sealed.partition(b".")
        key_id, _, blob = rest.partition(b".")
        cipher = self._ciphers.get(key_id.decode("ascii", "replace")) if version == VERSION.encode() else None
        if cipher is None:
            raise UnknownKey(f"{bound_to} was encrypted with a key that is not on the ring")
        try:
            return cipher.decrypt(blob[:_NONCE_BYTES], blob[_NONCE_BYTES:], _associated(key_id.decode(), bound_to))
        except (InvalidTag, ValueError) as error:
            raise Undecryptable(f"{bound_to} does not open: the stored value was changed or moved") from error

    def needs_rotation(self, ciphertext: str) -> bool:
        return key_id_of(ciphertext) != self.primary_id

    def rotate(self, ciphertext: str, *, bound_to: str) -> str:
        return self.encrypt(self.decrypt(ciphertext, bound_to=bound_to), bound_to=bound_to)


def is_ciphertext(text: str) -> bool:
    return text.startswith(VERSION + ".") and text.count(".") == 2


def key_id_of(ciphertext: str) -> str:
    if not is_ciphertext(ciphertext):
        raise Undecryptable("the stored value is not one of this gateway's ciphertexts")
    return ciphertext.split(".", 2)[1]


def parse_keyring(text: str) -> Keyring:
    """Read `key_id:material` lines; blank lines and `#` comments are skipped."""
    keys = []
    for number, line in enumerate(text.splitlines(), start=1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        key_id, colon, material = line.partition(":")
        if not colon or not key_id.isalnum():
            raise KeyringError(f"line {number} of the encryption keyring is not `key_id:material`")
        keys.append(EncryptionKey(key_id=key_id, material=Secret(material)))
    return Keyring(keys)


def load_keyring(path: Path) -> Keyring:
    try:
        return parse_keyring(path.read_text())
    except FileNotFoundError as error:
        raise KeyringError(
            f"no encryption keyring at {path}; `manage.py quickstart` or `manage.py create_keys` makes one"
        ) from error


def _raw(key: EncryptionKey) -> bytes:
    try:
        raw = base64.urlsafe_b64decode(key.material.reveal())
    except ValueError as error:
        raise KeyringError(f"encryption key {key.key_id!r} is not base64") from error
    if len(raw) != _KEY_BYTES:
        raise KeyringError(f"encryption key {key.key_id!r} holds {len(raw)} bytes, {_KEY_BYTES} are needed")
    return raw


def _associated(key_id: str, bound_to: str) -> bytes:
    return f"{VERSION}\0{key_id}\0{bound_to}".encode()
