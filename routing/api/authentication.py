"""The API's only credential: a client key in a header. Sessions of the admin are worth nothing here."""

from __future__ import annotations

import time

from django.db import DatabaseError
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from providers import actor
from routing import building, client_addresses, client_keys, key_use, snapshot
from routing.types import Identity, Snapshot

_LONGEST_KEY = 512


class ClientKeyAuthentication(BaseAuthentication):
    """Finds the `Identity` behind `Authorization: Bearer`, `x-api-key` or `api-key`, and attributes changes to it.

    The key is checked against its row, not against the snapshot: revoking counts from the next request on.
    """

    realm = "llm-gateway"

    def authenticate(self, request: Request) -> tuple[Identity, Identity] | None:
        presented = _presented_key(request)
        if presented is None:
            return None
        try:
            held = _keys_like(presented, request)
            address = client_addresses.of_meta(request.META, held.trusted_proxies)
            identity = client_keys.verify(presented, held, now=time.time(), address=address)
        except client_keys.KeyRefused as refused:
            raise AuthenticationFailed(_sentence(refused.reason), code="invalid_key") from None
        key_use.note(identity.key_id, address)
        actor.become(
            f"key:{identity.prefix}",
            may_handle_secrets=identity.may("secrets:read"),
            may_read_machine=identity.may("admin"),
        )
        return identity, identity

    def authenticate_header(self, request: Request) -> str:
        return f'Bearer realm="{self.realm}"'


def _keys_like(presented: str, request: Request) -> Snapshot:
    """Of a view with `works_without_database`, while that is away, those by which requests are served."""
    try:
        return building.credentials(presented)
    except DatabaseError:
        if getattr(request.parser_context.get("view"), "works_without_database", False):
            return snapshot.current()
        raise


def _presented_key(request: Request) -> str | None:
    """The key out of whichever header holds it; two different ones are refused, not ranked."""
    scheme, _, bearer = _header(request, "Authorization").partition(b" ")
    if scheme and scheme.lower() != b"bearer":
        raise AuthenticationFailed("Send the key as 'Authorization: Bearer YOUR_KEY'.", code="invalid_key")
    others = (_header(request, name) for name in ("x-api-key", "api-key"))
    found = {value.strip() for value in (bearer, *others) if value.strip()}
    if not found:
        return None
    if len(found) > 1:
        raise AuthenticationFailed("Two different keys were sent; send one.", code="invalid_key")
    key = found.pop()
    if len(key) > _LONGEST_KEY or not key.isascii():
        raise AuthenticationFailed(_sentence("unknown"), code="invalid_key")
    return key.decode("ascii")


def _header(request: Request, name: str) -> bytes:
    return request.headers.get(name, "").encode("latin-1", "replace")


_SENTENCES = {
    "disabled": "This key has been disabled.",
    "revoked": "This key has been revoked.",
    "team_disabled": "The team of this key has been disabled.",
    "expired": "This key has expired.",
    "rotated": "This key has been replaced by a newer one.",
    "address": "This key may not be used from your address.",
}


def _sentence(reason: str) -> str:
    return _SENTENCES.get(reason, "This key is not known.")
