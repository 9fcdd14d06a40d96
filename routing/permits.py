"""What lets a person of the admin ask with a client key that nobody can read back: a permit, signed and good for minutes.

It names the key and the person, and it is no key: it is taken at the playground's own door alone. The signature is made with the peppers,
which lie outside the database and which every process of an installation has; whoever reads the database alone can sign nothing.
"""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass

TAKEN_AT = "/admin/playground/chat"
"""The one path at which it counts."""
TAG = "playground"
PERSON = "user:"
"""Before a person's name, where requests are marked with it."""
GOOD_FOR_SECONDS = 300.0
LONGEST_PERSON = 59
"""Characters: with `user:` before it, it is a tag."""

_FORM = "gwp"
_PURPOSE = b"a permit of the playground"


class PermitRefused(Exception):
    """It was not signed here, was changed, or is over; `over` tells the last from the others."""

    def __init__(self, *, over: bool = False) -> None:
        super().__init__("the permit is over" if over else "the permit is none of ours")
        self.over = over


@dataclass(frozen=True, slots=True)
class Permit:
    """`prefix` names the client key, `person` who asks, `until` is the epoch second from which it is worth nothing."""

    prefix: str
    person: str
    until: float

    @property
    def marks(self) -> tuple[str, str]:
        """The tags of every request that is asked under it."""
        return TAG, f"{PERSON}{self.person}"


def marks_of(person: str) -> tuple[str, str]:
    """As permits of this person mark their requests."""
    return Permit("", _fitting(person), 0.0).marks


def issue(prefix: str, person: str, peppers: Mapping[str, bytes], *, now: float) -> tuple[str, Permit]:
    """The text to show, and what it says. Signed with the first pepper, which is the newest."""
    permit = Permit(prefix, _fitting(person), now + GOOD_FOR_SECONDS)
    pepper_id = next(iter(peppers))
    said = _packed(json.dumps([pepper_id, permit.prefix, permit.person, permit.until], ensure_ascii=False).encode())
    return f"{_FORM}.{said}.{_packed(_signature(said, peppers[pepper_id]))}", permit


def read(shown: str, peppers: Mapping[str, bytes], *, now: float) -> Permit:
    """Raises `PermitRefused`."""
    form, _, rest = shown.partition(".")
    said, _, signature = rest.partition(".")
    try:
        pepper_id, prefix, person, until = json.loads(_unpacked(said))
        pepper = peppers[pepper_id]
        genuine = form == _FORM and hmac.compare_digest(_signature(said, pepper), _unpacked(signature))
    except (ValueError, TypeError, KeyError, RecursionError):
        raise PermitRefused from None
    if not genuine:
        raise PermitRefused
    if until <= now:
        raise PermitRefused(over=True)
    return Permit(prefix, person, until)


def _fitting(person: str) -> str:
    return person.replace(",", " ")[:LONGEST_PERSON]


def _signature(said: str, pepper: bytes) -> bytes:
    own = hmac.digest(pepper, _PURPOSE, "sha256")
    return hmac.digest(own, said.encode(), "sha256")


def _packed(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _unpacked(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
