"""Signing in without a password, once: the link that quickstart prints for the first administrator.

The link is signed, names its user and the state that the user was in, and is good for a day. Signing in changes that state
(`last_login`), as setting a password does, so a link opens one session and every older link dies with it. Nothing is stored.
"""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.contrib.auth import get_user_model, login, update_session_auth_hash
from django.contrib.auth.decorators import login_required
from django.contrib.auth.forms import SetPasswordForm
from django.contrib.auth.models import AbstractUser
from django.core import signing
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import path, reverse
from django.utils import timezone
from django.utils.crypto import salted_hmac
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

_SALT = "gateway_project.first_login"
LIFETIME_SECONDS = 24 * 3600
BY_LINK = "django.contrib.auth.backends.ModelBackend"
"""Who finds the user of such a session again."""


class LinkRefused(Exception):
    """The link is not ours, too old, or was used."""


def token_for(user: AbstractUser) -> str:
    return signing.dumps({"user": user.pk, "state": _state(user)}, salt=_SALT)


def path_for(user: AbstractUser) -> str:
    return reverse("first_login", args=[token_for(user)])


def claim(token: str) -> AbstractUser:
    """The user of a link, which this call uses up. Raises `LinkRefused`."""
    try:
        claims: dict[str, Any] = signing.loads(token, salt=_SALT, max_age=LIFETIME_SECONDS)
    except signing.BadSignature as error:
        raise LinkRefused from error
    users = get_user_model()._default_manager
    user = users.filter(pk=claims["user"], is_active=True).first()
    if user is None or user.has_usable_password() or _state(user) != claims["state"]:
        raise LinkRefused
    # Of two browsers that open the link at once, one finds `last_login` as the link knew it.
    if not users.filter(pk=user.pk, last_login=user.last_login).update(last_login=timezone.now()):
        raise LinkRefused
    return users.get(pk=user.pk)


def _state(user: AbstractUser) -> str:
    seen = user.last_login.isoformat() if user.last_login else "never"
    return salted_hmac(_SALT, f"{user.pk}:{user.password}:{seen}").hexdigest()[:32]


@never_cache
@require_safe
def first_login(request: HttpRequest, token: str) -> HttpResponse:
    if request.method == "HEAD":
        # Chat programs look at links before people do; only a visit uses one up.
        return HttpResponse()
    try:
        user = claim(token)
    except LinkRefused:
        return render(request, "gateway_project/link_refused.html", status=410)
    login(request, user, backend=BY_LINK)
    messages.info(
        request,
        format_html(
            _('You are signed in by a one-time link. <a href="{}">Set a password</a> to come back.'),
            reverse("first_password"),
        ),
    )
    return redirect("admin:index")


@never_cache
@login_required(login_url="admin:login")
def first_password(request: HttpRequest) -> HttpResponse:
    """For whoever came by a link; a user with a password changes it in the admin, which asks for the old one."""
    if request.user.has_usable_password():
        return redirect("admin:password_change")
    form = SetPasswordForm(request.user, request.POST or None)
    if request.method == "POST" and form.is_valid():
        update_session_auth_hash(request, form.save())
        messages.success(request, _("Your password is set."))
        return redirect("admin:index")
    return render(request, "gateway_project/first_password.html", {"form": form})


urlpatterns = [
    path("welcome/password/", first_password, name="first_password"),
    path("welcome/<str:token>/", first_login, name="first_login"),
]
