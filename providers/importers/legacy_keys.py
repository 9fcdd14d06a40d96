"""The keys that a legacy backoffice encrypted with, and what opens under them. Pure.

Three kinds of text are Fernet tokens or are not: a key as it was stored, a key that was encrypted more than once, and a
token whose key nobody has any more. Only the first two become keys here; whatever still looks like a token never does.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from cryptography.fernet import Fernet, InvalidToken

from providers.secrets import Secret, is_ciphertext

MOST_LAYERS = 8

_FERNET_KEY_LENGTH = 44
_TOKEN = re.compile(r"[A-Za-z0-9_\-+/]{8,}={0,2}")
_HEAD = "gAAAA"  # version 0x80 and a time before the year 2106
_FIXED_BYTES = 1 + 8 + 16 + 32  # version, time, initialisation vector, HMAC
_BLOCK = 16
_WRAPPED = re.compile(r"""b?(['"])(.*)\1""", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Opened:
    """`value` is None when a layer does not open under any key; `layers` were opened, 0 of a plain value."""

    value: Secret | None
    layers: int


class LegacyKeys:
    """Opens what was encrypted under any of `secrets`: Fernet keys, or passphrases by the legacy gateway's rule.

    That rule takes the first 32 bytes of a text that is not 44 characters long, padded with NUL. A text of 44 characters that
    is no Fernet key is tried by it as well, as is each text without the blanks around it and the mark that editors put first.
    """

    def __init__(self, secrets: Iterable[Secret] = ()) -> None:
        given = [secret.reveal() for secret in secrets]
        texts = dict.fromkeys(form for text in given for form in (text, text.removeprefix("\ufeff").strip()) if form)
        self._ciphers = tuple(cipher for text in texts for cipher in _ciphers(text))

    def __len__(self) -> int:
        return len(self._ciphers)

    def __repr__(self) -> str:
        return f"LegacyKeys({len(self)})"

    def peel(self, value: str) -> Opened:
        """Open layer by layer until the value no longer looks encrypted; it is given as it is when it never did."""
        layers = 0
        while looks_encrypted(value):
            inner = self._layer_of(value) if layers < MOST_LAYERS else None
            if inner is None:
                return Opened(None, layers)
            value, layers = inner, layers + 1
        return Opened(Secret(value), layers)

    def _layer_of(self, token: str) -> str | None:
        compact = _compact(token)
        padded = compact.rstrip("=") + "=" * (-len(compact.rstrip("=")) % 4)
        for cipher in self._ciphers:
            try:
                return cipher.decrypt(padded.encode()).decode()
            except (InvalidToken, ValueError):
                continue
        return None


def looks_encrypted(text: str) -> bool:
    """A Fernet token, or one of this gateway's own ciphertexts, which no legacy key opens."""
    return looks_like_token(text) or is_ciphertext(text.strip())


def looks_like_token(text: str) -> bool:
    """A Fernet token, also one with blanks in it, in quotes (`b'gAAAA…'`), without its padding or cut short."""
    if not text.lstrip().lstrip("b'\"").lstrip().startswith("g"):
        return False  # said of nearly every text, so at little cost
    compact = _compact(text)
    if compact.startswith(_HEAD):
        return True
    if not compact.startswith("g") or not _TOKEN.fullmatch(compact):
        return False
    bare = compact.rstrip("=")
    try:
        raw = base64.urlsafe_b64decode(bare + "=" * (-len(bare) % 4))
    except (binascii.Error, ValueError):
        return False
    length = len(raw) - _FIXED_BYTES
    return raw[0] == 0x80 and length >= _BLOCK and length % _BLOCK == 0


def _compact(text: str) -> str:
    stripped = text.strip()
    wrapped = _WRAPPED.fullmatch(stripped)
    return "".join((wrapped[2] if wrapped else stripped).split())


def _ciphers(text: str) -> Iterator[Fernet]:
    if len(text) == _FERNET_KEY_LENGTH:
        try:
            yield Fernet(text)
            return
        except (ValueError, binascii.Error):
            pass
    raw = text.encode("utf-8", "surrogatepass")[:32].ljust(32, b"\0")
    yield Fernet(base64.urlsafe_b64encode(raw))
