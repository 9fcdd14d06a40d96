"""How connection parameters are read, which of them are secret, and how those are taken out and put back.

Rows of an environment store every value as text, so a flag may be `true` or "true". A secret is taken out whole, by its path in the object, so `headers.Authorization` is
found as well as `api_key`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from providers import provider_types
from providers.secrets import Secret

Path = tuple[str | int, ...]

_SENSITIVE = re.compile(
    r"(^|[_\-.])(api[_\-]?key|apikey|key|secret|token|password|passwd|passphrase|authorization|credentials?|cookie|private)$"
    r"|secret|password|bearer|access[_\-]?token|api[_\-]?key",
    re.IGNORECASE,
)
_REFERENCES = {"api_key_env_var", "api_key_secret", "auth_header", "max_tokens", "public_key", "allow_private"}
"""Names that look like secrets but are none, such as those that only say where one is found or how it is sent."""

_URL_WITH_CREDENTIALS = re.compile(r"[a-z][a-z0-9+.\-]*://[^/?#\s]*@", re.IGNORECASE)

_SYNONYMS = {"api_base": "base_url", "api_url": "base_url", "endpoint": "base_url", "azure_endpoint": "base_url"}
"""What legacy rows call the base URL."""

_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"0", "false", "no", "off"}


def canonical(params: Mapping[str, Any]) -> dict[str, Any]:
    """The same parameters under the names that backends read."""
    renamed = {new: params[old] for old, new in _SYNONYMS.items() if params.get(old)}
    return renamed | {name: value for name, value in params.items() if name not in _SYNONYMS}


def text(params: Mapping[str, Any], name: str) -> str:
    """A parameter as text, whether it is kept secret or not; empty when absent."""
    value = params.get(name)
    if isinstance(value, Secret):
        return value.reveal()
    return "" if value is None else str(value)


def flag(params: Mapping[str, Any], name: str, *, default: bool) -> bool:
    """A parameter as yes or no; `default` when it is absent or says neither."""
    said = text(params, name).strip().lower()
    return said in _TRUE or (default and said not in _FALSE)


def is_flag(value: Any) -> bool:
    """Whether it says yes or no."""
    return isinstance(value, bool) or str(value).strip().lower() in _TRUE | _FALSE


def secrets_in(value: Any) -> list[Secret]:
    """The secrets of an object, at any depth."""
    if isinstance(value, Secret):
        return [value]
    members = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return [secret for member in members for secret in secrets_in(member)]


def is_sensitive_name(name: str, provider_type: str = "") -> bool:
    """Declared sensitive by the provider type, or named like a secret."""
    if name in _REFERENCES:
        return False
    kind = provider_types.find(provider_type)
    if kind is not None:
        for parameter in kind.parameters:
            if parameter.name == name:
                return parameter.sensitive
    return bool(_SENSITIVE.search(name))


def is_secret(name: str, value: str, provider_type: str = "") -> bool:
    """Named like a secret, or a URL that carries a password, such as a proxy's."""
    return is_sensitive_name(name, provider_type) or bool(_URL_WITH_CREDENTIALS.match(value))


def split(params: Any, provider_type: str = "") -> tuple[Any, dict[str, str]]:
    """The object without its secrets, and the secrets by their JSON path."""
    found: dict[str, str] = {}

    def walk(value: Any, path: Path) -> Any:
        if isinstance(value, dict):
            kept = {}
            for name, member in value.items():
                here = (*path, name)
                if isinstance(member, str) and member and is_secret(name, member, provider_type):
                    found[json.dumps(here)] = member
                else:
                    kept[name] = walk(member, here)
            return kept
        if isinstance(value, list):
            return [walk(member, (*path, index)) for index, member in enumerate(value)]
        return value

    return walk(params, ()), found


def join(params: dict[str, Any], secrets: dict[str, str]) -> dict[str, Any]:
    """Put secrets back where they were, each as a `Secret`; an object that is gone is made again.

    A secret whose place has become something else, such as a shorter list, is left out.
    """
    whole = json.loads(json.dumps(params))
    for path_text, value in secrets.items():
        *parents, name = json.loads(path_text)
        place = _at(whole, parents)
        if isinstance(place, dict):
            place[name] = Secret(value)
    return whole


def _at(place: Any, steps: list[str | int]) -> Any:
    for step in steps:
        if isinstance(place, dict):
            place = place.setdefault(step, {})
        elif isinstance(place, list) and isinstance(step, int) and step < len(place):
            place = place[step]
        else:
            return None
    return place


def pack(secrets: dict[str, str]) -> str:
    return json.dumps(secrets, sort_keys=True)


def unpack(text: str) -> dict[str, str]:
    return json.loads(text)
