"""A document between the page that shows its differences and the click that writes it: sealed, so that no secret in it is ever
part of a page, and bound to its reader and to what was shown.

The browser keeps it: nothing is stored here that nobody comes back for, and any process can open it.
"""

from __future__ import annotations

import base64
import json
import time
import zlib
from dataclasses import asdict, dataclass

from providers import keyring
from providers.secrets import SecretError

GOOD_FOR_SECONDS = 3600.0


class NotOurs(Exception):
    """Nothing that was sealed here for this reader, or too old."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What somebody saw: the document, and by digest and revision what it would have changed then."""

    content: str
    label: str
    file_format: str
    prune: bool
    digest: str
    revision: int


def seal(shown: Shown, reader: str, now: float | None = None) -> str:
    packed = zlib.compress(json.dumps({**asdict(shown), "at": now or time.time()}).encode())
    return keyring.current().encrypt(base64.b64encode(packed).decode(), bound_to=_bound(reader))


def opened(sealed: str, reader: str, now: float | None = None) -> Shown:
    """Raises `NotOurs`."""
    try:
        told = json.loads(zlib.decompress(base64.b64decode(keyring.current().decrypt(sealed, bound_to=_bound(reader)))))
    except SecretError as error:
        raise NotOurs from error
    if (now or time.time()) - told.pop("at") > GOOD_FOR_SECONDS:
        raise NotOurs
    return Shown(**told)


def _bound(reader: str) -> str:
    return f"configuration shown to {reader}"
