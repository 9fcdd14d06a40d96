"""Settings that are right on one's own machine and wrong for others."""

from __future__ import annotations

import os

from django.conf import settings

from gateway_project import first_keys
from gateway_project.doctor.findings import ERROR, SETTINGS, WARNING, Finding, Fix, Told, check

_HERE = {"127.0.0.1", "localhost", "[::1]", "::1"}


@check("debug", "Errors show nothing of the inside", SETTINGS)
def debug_is_off() -> Told:
    if settings.DEBUG:
        yield Finding(
            ERROR if settings.PRODUCTION or not _is_only_here() else WARNING,
            "Debugging is on.",
            "An error shows source, settings and variables to whoever met it, and every query is kept in memory.",
            Fix("Unset GATEWAY_DEBUG and restart."),
        )
    yield "Debugging is off."


@check("hosts", "Only known names are answered to", SETTINGS)
def names_are_known() -> Told:
    if "*" in settings.ALLOWED_HOSTS:
        yield Finding(
            ERROR if settings.PRODUCTION else WARNING,
            "The gateway answers to every host name.",
            "Links in its answers can be made to point elsewhere by whoever sends the request.",
            Fix("Name the hosts in GATEWAY_ALLOWED_HOSTS and restart."),
        )
    yield f"{', '.join(settings.ALLOWED_HOSTS)}."


@check("cookies", "Sessions travel over TLS only", SETTINGS)
def cookies_are_safe() -> Told:
    if settings.SESSION_COOKIE_SECURE and settings.CSRF_COOKIE_SECURE:
        yield "Cookies are sent over TLS only."
        return
    if _is_only_here():
        yield "The gateway answers to this machine only, so they may go without."
        return
    yield Finding(
        WARNING,
        "Session cookies are sent without TLS, to names beyond this machine.",
        "Whoever listens on the way can sign in as the person whose cookie passes.",
        Fix("Put a proxy with TLS in front, set GATEWAY_PRODUCTION=1 and restart."),
    )


@check("secret", "Sessions outlive a restart", SETTINGS)
def sessions_last() -> Told:
    kept = settings.DATA_DIR / first_keys.DJANGO_SECRET
    if not kept.is_file() and not any(
        os.environ.get(name) for name in ("GATEWAY_SECRET_KEY", "GATEWAY_SECRET_KEY_FILE")
    ):
        yield Finding(
            WARNING,
            "Sessions are signed with a secret that ends with the process.",
            "Everybody has to sign in again after each restart, and with several processes at every other click.",
            Fix("Make a lasting one and restart.", command="manage.py create_keys"),
        )
    yield "The secret that signs them is kept."


def _is_only_here() -> bool:
    return set(settings.ALLOWED_HOSTS) <= _HERE
