"""Guessing passwords: ten failures from one address close the login to it for a quarter of an hour, and fifty for one account from
wherever close it to that account.

Counted by django-axes in the database, so every process counts together and without Redis. An account's own count is the higher
one, and does not close it to addresses that it was used from before, so that nobody keeps a colleague out with wrong passwords.
Sign-on by OpenID Connect is not counted and not closed.
"""

from __future__ import annotations

from datetime import timedelta
from ipaddress import IPv6Network
from typing import Any

from axes.handlers.database import AxesDatabaseHandler
from axes.helpers import get_client_username
from axes.models import AccessAttempt, AccessLog
from django.conf import settings
from django.db.models import QuerySet, Sum
from django.http import HttpRequest
from django.utils import timezone

from routing import client_addresses

ACCOUNT_FACTOR = 5
KNOWN_FOR = timedelta(days=90)
_OF_ONE_CLIENT = 64
"""Bits of an IPv6 address by which a network tells its clients apart: each has all the addresses beyond."""


class LoginGuard(AxesDatabaseHandler):
    def get_failures(self, request: HttpRequest, credentials: dict | None = None) -> int:
        here = super().get_failures(request, credentials)
        username = get_client_username(request, credentials)
        if not username or _signed_in_from(request, username).exists():
            return here
        since = timezone.now() - settings.AXES_COOLOFF_TIME
        of_account = AccessAttempt.objects.filter(username=username, attempt_time__gte=since)
        everywhere = of_account.aggregate(failures=Sum("failures_since_start"))["failures"] or 0
        return max(here, everywhere // ACCOUNT_FACTOR)

    def user_logged_in(self, sender: Any, request: HttpRequest, user: Any, **kwargs: Any) -> None:
        """Forget the user's own slips from here; those under other names stay, so an account of one's own frees nobody."""
        super().user_logged_in(sender, request, user, **kwargs)
        slips = AccessAttempt.objects.filter(username=user.get_username(), ip_address=request.axes_ip_address)  # type: ignore[attr-defined]
        slips.delete()
        if request.axes_ip_address is not None:  # type: ignore[attr-defined]
            before = _signed_in_from(request, user.get_username())
            if not before.update(attempt_time=timezone.now()):
                AccessLog.objects.create(username=user.get_username(), ip_address=request.axes_ip_address)  # type: ignore[attr-defined]


def _signed_in_from(request: HttpRequest, username: str) -> QuerySet[AccessLog]:
    """Lately, and from where this request comes."""
    since = timezone.now() - KNOWN_FOR
    address = request.axes_ip_address  # type: ignore[attr-defined]
    return AccessLog.objects.filter(username=username, ip_address=address, attempt_time__gte=since).exclude(
        ip_address=None
    )


def address_of(request: HttpRequest) -> str | None:
    """Where a login comes from, of IPv6 the network of one client; on a Unix socket, from nowhere in particular."""
    address = client_addresses.plain(client_addresses.of_meta(request.META, settings.GATEWAY_TRUSTED_PROXIES))
    if address is None or ":" not in address:
        return address
    return str(IPv6Network((address, _OF_ONE_CLIENT), strict=False).network_address)


def named(username: str, ip_address: str, user_agent: str, path_info: str, request: HttpRequest) -> str:
    """For the log. No name, because people type passwords there, and no path, because a link that signs in is one."""
    return f"somebody at {ip_address or 'a local socket'}"
