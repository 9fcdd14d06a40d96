"""What a Kamiwaza platform says of its deployments, and at which URL each one answers. Pure.

A provider's base URL is the platform's API (https://HOST/api), which lists deployments that come and go; or that of a single
deployment, which ends in /v1 and is all that there is then.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from providers.connection import text

LIST_PATH = "/serving/deployments"
SIGN_IN_PATH = "/auth/token"
DEPLOYED = "DEPLOYED"

NOW, BY_PORT, AUTO = "now", "lb_port", "auto"

OPEN_KEY = "local"
"""What the platform's own client shows to deployments where nobody signed in."""
MODEL_IN_CALLS = "model"
"""A deployment serves one model and takes this for its name."""

MOST_ACTIVE = 500
"""Deployments that are followed. Platforms have dozens; a list of thousands is a mistake or an attack."""

_HTTPS_PORT = 443
_PATH = re.compile(r"(?!.*(?:^|/)\.\.?(?:/|$))[A-Za-z0-9._~!$&'()*+,;=:@%/-]{1,1000}")
"""What may stand in a URL as a path, and leads nowhere else."""
_CLIENT_ID = "kamiwaza-platform"
_TOKEN_SECONDS = 300.0
"""How long a token is taken for good where the platform does not say."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """`base_url` is empty where the platform says too little to tell one."""

    deployment_id: str
    name: str
    """As it was given, blanks included; `model-ID` for one without."""
    status: str
    active: bool
    base_url: str


@dataclass(frozen=True, slots=True)
class Deployed:
    """A model and where it answers: the URLs of all its active deployments, in the platform's order."""

    name: str
    base_urls: tuple[str, ...]
    status: str
    """That of its best deployment."""

    @property
    def active(self) -> bool:
        return bool(self.base_urls)


def is_platform(base_url: str) -> bool:
    """Whether the URL is that of a platform, not of one deployment."""
    return bool(base_url) and not urlsplit(base_url).path.rstrip("/").endswith("/v1")


def deployments(listed: Iterable[Any], connection: Mapping[str, Any]) -> list[Deployment]:
    """The deployments of a list as the platform sent it; whatever is not one is passed over."""
    rows = [row for row in listed if isinstance(row, Mapping) and row.get("id")]
    rule = text(connection, "url_rule") or AUTO
    if rule == AUTO:
        # Platforms whose deployments have paths say so of each, if only with a null.
        rule = NOW if any("access_path" in row for row in rows) else BY_PORT
    return [
        Deployment(
            deployment_id=str(row["id"]),
            name=_name(row),
            status=str(row.get("status") or "UNKNOWN"),
            active=is_active(row),
            base_url=base_url(row, text(connection, "base_url"), rule, text(connection, "scheme")),
        )
        for row in rows
    ]


def models(found: Iterable[Deployment]) -> list[Deployed]:
    """Deployments of one name are one model with several targets."""
    by_name: dict[str, list[Deployment]] = {}
    for deployment in found:
        by_name.setdefault(deployment.name, []).append(deployment)
    return [_together(name, its) for name, its in by_name.items()]


def is_active(row: Mapping[str, Any]) -> bool:
    """The deployment is deployed, and so is an instance of it."""
    instances = row.get("instances")
    return row.get("status") == DEPLOYED and any(
        isinstance(instance, Mapping) and instance.get("status") == DEPLOYED
        for instance in (instances if isinstance(instances, list) else ())
    )


def base_url(row: Mapping[str, Any], endpoint: str, rule: str, scheme: str = "") -> str:
    """Where a deployment of the platform at `endpoint` answers, by the rule `now` or `lb_port`.

    Without a `scheme`, paths are under https; a load balancer's port of the older rule speaks plain HTTP. The endpoint's own
    port counts for its own scheme.
    """
    parts = urlsplit(endpoint)
    host = f"[{parts.hostname}]" if parts.hostname and ":" in parts.hostname else parts.hostname or ""
    port = row.get("lb_port")
    port = port if isinstance(port, int) and not isinstance(port, bool) and 0 < port < 65536 else None
    if rule == BY_PORT:
        return f"{scheme or 'http'}://{host}:{port}/v1" if port else ""
    scheme = scheme or "https"
    path = row.get("access_path") or ""
    if not isinstance(path, str) or (path and not _PATH.fullmatch(path)):
        return ""
    if not path and port and port != _HTTPS_PORT:
        return f"{scheme}://{host}:{port}/v1"
    authority = f"{host}:{parts.port}" if parts.port and parts.scheme == scheme else host
    root = f"{scheme}://{authority}{parts.path.rstrip('/').removesuffix('/api')}"
    if not path:
        return f"{root}/runtime/models/{quote(str(row.get('id')), safe='')}/v1"
    return f"{root}/{path.strip('/').removesuffix('/v1').rstrip('/')}/v1"


def signs_in(connection: Mapping[str, Any]) -> bool:
    """Whether a token is to be had for a user name and a password."""
    return bool(text(connection, "username")) and is_platform(text(connection, "base_url"))


def sign_in_body(connection: Mapping[str, Any]) -> bytes:
    """The form that is posted for a token; it holds the password."""
    return urlencode(
        {
            "grant_type": "password",
            "username": text(connection, "username"),
            "password": text(connection, "password"),
            "scope": "openid email profile",
            "client_id": _CLIENT_ID,
        }
    ).encode()


def token_of(answer: Any) -> tuple[str, float]:
    """The token and for how many seconds it is good. Raises `ValueError`."""
    told = answer if isinstance(answer, Mapping) else {}
    token, seconds = told.get("access_token"), told.get("expires_in")
    if not isinstance(token, str) or not token or any(ord(letter) < 33 or ord(letter) > 126 for letter in token):
        raise ValueError("the answer holds no access token")
    if isinstance(seconds, int | float) and not isinstance(seconds, bool) and seconds > 0:
        return token, float(seconds)
    return token, _TOKEN_SECONDS


def _name(row: Mapping[str, Any]) -> str:
    name = row.get("m_name")
    return name.strip() if isinstance(name, str) and name.strip() else f"model-{row['id']}"


def _together(name: str, found: list[Deployment]) -> Deployed:
    urls = dict.fromkeys(deployment.base_url for deployment in found if deployment.active and deployment.base_url)
    best = next((deployment for deployment in found if deployment.active), found[0])
    return Deployed(name, tuple(urls), best.status)
