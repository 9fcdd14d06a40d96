"""Signing in by OpenID Connect, on django-allauth. Loaded only where `GATEWAY_SSO_ISSUER` is set: the package is an extra.

Of allauth's pages only the way to the issuer and back is served. An identity is known by its subject and never joined with an
account by name or e-mail; it is let in with what its groups entitle to, at each sign-on anew.
"""

from __future__ import annotations

import logging
from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from allauth.core.exceptions import ImmediateHttpResponse
from allauth.socialaccount.adapter import DefaultSocialAccountAdapter, _build_apps_from_settings
from allauth.socialaccount.internal import jwtkit
from allauth.socialaccount.providers.base.constants import AuthProcess
from allauth.socialaccount.providers.oauth2.client import OAuth2Error
from allauth.socialaccount.providers.oauth2.views import OAuth2CallbackView, OAuth2LoginView
from allauth.socialaccount.providers.openid_connect.views import OpenIDConnectOAuth2Adapter
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import path, reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST
from requests import RequestException

from gateway_project import entitlements, sign_on
from providers import actor

PROVIDER = "sso"
log = logging.getLogger(__name__)


class Issuer(OpenIDConnectOAuth2Adapter):
    """Checks more than allauth does: the issuer's own name, and the signature of a token that came straight from it."""

    def __init__(self, request: HttpRequest) -> None:
        super().__init__(request, PROVIDER)

    @property
    def openid_config(self) -> dict[str, Any]:
        try:
            config: dict[str, Any] = super().openid_config
        except ValueError as error:
            raise OAuth2Error("the issuer's configuration is no JSON") from error
        needed = {"issuer", "authorization_endpoint", "token_endpoint", "jwks_uri"}
        if missing := sorted(needed - config.keys()):
            raise OAuth2Error(f"the issuer's configuration lacks {', '.join(missing)}")
        if str(config["issuer"]).rstrip("/") != settings.SIGN_ON.issuer:
            raise OAuth2Error(f"the issuer calls itself {config['issuer']}, not {settings.SIGN_ON.issuer}")
        return config

    def complete_login(self, request: HttpRequest, app: Any, token: Any, **kwargs: Any) -> Any:
        if not kwargs["response"].get("id_token"):
            raise OAuth2Error("the issuer sent no id_token")
        claims = self._decode_id_token(app, kwargs["response"]["id_token"])
        said = self._fetch_user_info(token.token) if "userinfo_endpoint" in self.openid_config else {}
        if said and said.get("sub") != claims.get("sub"):
            raise OAuth2Error("userinfo is about another subject than the id_token")
        return self.get_provider().sociallogin_from_response(request, {"id_token": claims, "userinfo": claims | said})

    def _decode_id_token(self, app: Any, id_token: str) -> dict[str, Any]:
        return jwtkit.verify_and_decode(
            credential=id_token,
            keys_url=self.openid_config["jwks_uri"],
            issuer=self.openid_config["issuer"],
            audience=app.client_id,
            lookup_kid=jwtkit.lookup_kid_jwk,
        )

    def get_callback_url(self, request: HttpRequest, app: Any) -> str:
        return request.build_absolute_uri(reverse("sso_callback"))


class Identities(DefaultSocialAccountAdapter):
    def list_apps(self, request: HttpRequest, provider: Any = None, client_id: Any = None) -> list[Any]:
        """The issuer of the settings: rows of a table name none."""
        apps = _build_apps_from_settings(provider=provider, client_id=client_id)
        return [app for found in apps.values() for app in found]

    def get_provider(self, request: HttpRequest, provider: Any, client_id: Any = None) -> Any:
        found = super().get_provider(request, provider, client_id)
        found.get_oauth2_adapter = Issuer
        return found

    def pre_social_login(self, request: HttpRequest, sociallogin: Any) -> None:
        if sociallogin.state.get("process") != AuthProcess.LOGIN:
            # allauth would let an open session add an identity to its account: a way in that no page shows.
            raise ImmediateHttpResponse(refused(request, "There is nothing here but signing in.", 400))
        entitlement = _entitlement(sociallogin)
        known = sociallogin.is_existing
        if known and not sociallogin.user.is_active:
            raise ImmediateHttpResponse(refused(request, "Your account here is switched off.", 403))
        if known:
            _grant(sociallogin, entitlement)
        if not entitlement:
            raise ImmediateHttpResponse(refused(request, "You are known, but no group of yours has a role here.", 403))

    def is_open_for_signup(self, request: HttpRequest, sociallogin: Any) -> bool:
        return True

    def save_user(self, request: HttpRequest, sociallogin: Any, form: Any = None) -> Any:
        user = super().save_user(request, sociallogin, form)
        _grant(sociallogin, _entitlement(sociallogin))
        return user

    def on_authentication_error(
        self, request: HttpRequest, provider: Any, error: Any = None, exception: Any = None, extra_context: Any = None
    ) -> None:
        raise ImmediateHttpResponse(failed(request, exception))


class Accounts(DefaultAccountAdapter):
    def post_login(self, request: HttpRequest, user: Any, **kwargs: Any) -> HttpResponse:
        response = super().post_login(request, user, **kwargs)
        request.session.set_expiry(settings.SIGN_ON.session_seconds)
        return response

    def add_message(self, *args: Any, **kwargs: Any) -> None:
        """The page that follows says enough."""


def _entitlement(sociallogin: Any) -> sign_on.Entitlement:
    return sign_on.entitled(settings.SIGN_ON, sociallogin.account.extra_data["userinfo"])


def _grant(sociallogin: Any, entitlement: sign_on.Entitlement) -> None:
    mapped = {team for team, _ in settings.SIGN_ON.teams.values()}
    with actor.acting_as(f"user:{sociallogin.user.get_username()}", reason="sign-on"):
        entitlements.grant(sociallogin.user, entitlement, mapped_teams=mapped)


def refused(request: HttpRequest, why: str, status: int) -> HttpResponse:
    return render(request, "gateway_project/sso_refused.html", {"why": why}, status=status)


def failed(request: HttpRequest, exception: Exception | None) -> HttpResponse:
    """The log has the reason; the page has none, for anybody can ask for it with what parameters they like."""
    told = str(exception)[:300] if isinstance(exception, OAuth2Error) else type(exception).__name__
    if exception is not None:
        log.warning("Sign-on failed: %s", told)
    return refused(request, "It did not work this time. Try again, or ask whoever runs the gateway.", 502)


@never_cache
@require_POST
def login(request: HttpRequest) -> HttpResponse:
    """To the issuer. By POST, so that no other site sends people there."""
    try:
        return OAuth2LoginView.adapter_view(Issuer(request))(request)
    except (RequestException, OAuth2Error) as error:
        return failed(request, error)


@never_cache
@require_GET
def callback(request: HttpRequest) -> HttpResponse:
    """And back from it."""
    return OAuth2CallbackView.adapter_view(Issuer(request))(request)


urlpatterns = [
    path("admin/sso/login/", login, name="sso_login"),
    path("admin/sso/callback/", callback, name="sso_callback"),
]
