"""Sign-on by OpenID Connect: its settings, and what an identity's claims entitle to here. Pure.

Off unless `GATEWAY_SSO_ISSUER` names an issuer. A group of the issuer's becomes a role or a place in a team by the mappings; an
identity that is entitled to neither is not let in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from gateway_project.env import BadSetting, Environment
from gateway_project.role_names import ROLE_NAMES

APPS = (
    "allauth",
    "allauth.account",
    "allauth.socialaccount",
    "allauth.socialaccount.providers.openid_connect",
)
_LOOPBACK = {"127.0.0.1", "localhost", "::1"}
_IN_A_TEAM = ("views", "manages")


@dataclass(frozen=True, slots=True)
class SignOn:
    """`roles` and `teams` go by the issuer's groups; `session_seconds` is how long a session lasts before the issuer is asked
    again."""

    issuer: str
    client_id: str
    client_secret: str = field(repr=False)
    name: str
    scopes: tuple[str, ...]
    groups_claim: str
    roles: Mapping[str, str]
    teams: Mapping[str, tuple[str, str]]
    default_role: str
    session_seconds: int

    @property
    def discovery(self) -> str:
        return f"{self.issuer}/.well-known/openid-configuration"


@dataclass(frozen=True, slots=True)
class Entitlement:
    """`teams` are names with the role there."""

    roles: frozenset[str]
    teams: Mapping[str, str]

    def __bool__(self) -> bool:
        return bool(self.roles or self.teams)


def read(env: Environment) -> SignOn | None:
    """The settings; None when sign-on is off. Raises `BadSetting`."""
    issuer = env.text("GATEWAY_SSO_ISSUER").removesuffix("/.well-known/openid-configuration").rstrip("/")
    if not issuer:
        return None
    address = urlsplit(issuer)
    if address.scheme != "https" and not (address.scheme == "http" and address.hostname in _LOOPBACK):
        raise BadSetting(f"GATEWAY_SSO_ISSUER is {issuer!r}; an address that begins with https:// is needed")
    return SignOn(
        issuer=issuer,
        client_id=_needed(env, "GATEWAY_SSO_CLIENT_ID"),
        client_secret=_needed(env, "GATEWAY_SSO_CLIENT_SECRET"),
        name=env.text("GATEWAY_SSO_NAME", "single sign-on"),
        scopes=tuple(env.words("GATEWAY_SSO_SCOPES", ("openid", "profile", "email"))),
        groups_claim=env.text("GATEWAY_SSO_GROUPS_CLAIM", "groups"),
        roles={group: _role("GATEWAY_SSO_ROLES", role) for group, role in _pairs(env, "GATEWAY_SSO_ROLES")},
        teams={group: _place(team) for group, team in _pairs(env, "GATEWAY_SSO_TEAMS")},
        default_role=_role("GATEWAY_SSO_DEFAULT_ROLE", env.text("GATEWAY_SSO_DEFAULT_ROLE"), empty=True),
        session_seconds=int(env.seconds("GATEWAY_SSO_SESSION", 8 * 3600.0)),
    )


def django_settings(on: SignOn) -> dict[str, Any]:
    """What allauth is told. Of its pages none are served but ours, which come before and take POST only."""
    app = {
        "provider_id": "sso",
        "name": on.name,
        "client_id": on.client_id,
        "secret": on.client_secret,
        "settings": {"server_url": on.discovery},
    }
    return {
        "ACCOUNT_ADAPTER": "gateway_project.sso.Accounts",
        "ACCOUNT_EMAIL_VERIFICATION": "none",
        "ACCOUNT_UNIQUE_EMAIL": False,
        "SOCIALACCOUNT_ADAPTER": "gateway_project.sso.Identities",
        "SOCIALACCOUNT_LOGIN_ON_GET": True,
        "SOCIALACCOUNT_PROVIDERS": {
            "openid_connect": {"OAUTH_PKCE_ENABLED": True, "SCOPE": list(on.scopes), "APP": app}
        },
    }


def entitled(sign_on: SignOn, claims: Mapping[str, Any]) -> Entitlement:
    """What the groups in the claims amount to. Of two groups for one team the one that manages it counts."""
    groups = groups_in(claims, sign_on.groups_claim)
    roles = {sign_on.roles[group] for group in groups if group in sign_on.roles}
    if not roles and sign_on.default_role:
        roles.add(sign_on.default_role)
    teams: dict[str, str] = {}
    for team, place in (sign_on.teams[group] for group in groups if group in sign_on.teams):
        teams[team] = max(place, teams.get(team, place), key=_IN_A_TEAM.index)
    return Entitlement(frozenset(roles), teams)


def groups_in(claims: Mapping[str, Any], claim: str) -> list[str]:
    """The groups that a claim lists. `realm_access.roles` is a claim within a claim, unless one is called just that."""
    found: Any = claims.get(claim)
    if found is None:
        found = claims
        for part in claim.split("."):
            found = found.get(part) if isinstance(found, Mapping) else None
    if isinstance(found, str):
        return [found]
    return [group for group in found if isinstance(group, str)] if isinstance(found, list) else []


def _needed(env: Environment, name: str) -> str:
    value = env.text(name)
    if not value:
        raise BadSetting(f"{name} (or {name}_FILE) is needed, because GATEWAY_SSO_ISSUER is set")
    return value


def _pairs(env: Environment, name: str) -> list[tuple[str, str]]:
    pairs = []
    for word in env.words(name):
        group, equals, wanted = word.rpartition("=")
        if not (equals and group.strip() and wanted.strip()):
            raise BadSetting(f"{name} holds {word!r}; pairs such as their-group=ours are needed, with commas between")
        pairs.append((group.strip(), wanted.strip()))
    return pairs


def _role(name: str, role: str, *, empty: bool = False) -> str:
    if role in ROLE_NAMES or (empty and not role):
        return role
    raise BadSetting(f"{name} names the role {role!r}; there are {', '.join(ROLE_NAMES)}")


def place_in_team(told: str) -> tuple[str, str]:
    """`research` and `research:views` are the same place. Raises `ValueError`."""
    team, colon, place = told.rpartition(":")
    if not colon:
        return told, _IN_A_TEAM[0]
    if place not in _IN_A_TEAM:
        raise ValueError("after the team comes nothing, :views or :manages")
    return team, place


def _place(told: str) -> tuple[str, str]:
    try:
        return place_in_team(told)
    except ValueError as error:
        raise BadSetting(f"GATEWAY_SSO_TEAMS says {told!r}; {error}") from None
