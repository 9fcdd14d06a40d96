"""What stands for a secret in a document: the name of a variable, made from where the secret is and what it is.

A stored `env:NAME` or `file:PATH` names its secret already and stands for itself. Any other is named
`env:LLM_KEY_<PROVIDER>_<PLACE>_<8 hex of its fingerprint>`, so a document that comes back to where it was made finds the
very secret again, and one that goes elsewhere says which variable is wanted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from providers import keyring
from providers.secrets import Secret

_HEX = 8
_MADE_HERE = re.compile(rf"env:LLM_KEY_\w*_([0-9a-f]{{{_HEX}}})", re.ASCII)
_REFERENCE = re.compile(r"(env:[A-Za-z_][A-Za-z0-9_]*|file:.+)", re.DOTALL)


def is_reference(value: str) -> bool:
    return bool(_REFERENCE.fullmatch(value))


def variable_of(value: str) -> str | None:
    """The environment variable that a reference wants to be set."""
    return value.removeprefix("env:") if value.startswith("env:") and is_reference(value) else None


def reference_to(secret: str, provider_id: str, *where: str | int) -> str:
    """What stands for `secret` of that provider; `where` is its environment, or its path in connection_params."""
    if is_reference(secret):
        return secret
    words = "_".join(re.sub(r"[^A-Z0-9]+", "_", str(step).upper()).strip("_") or "X" for step in (provider_id, *where))
    return f"env:LLM_KEY_{words}_{keyring.fingerprint(secret)[:_HEX]}"


class StoredSecrets:
    """The secrets that a provider has now: a reference of ours to one of them means that one."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._literal = set()
        self._by_fingerprint = {}
        for secret in secrets:
            self._literal.add(secret)
            if not is_reference(secret):
                self._by_fingerprint[keyring.fingerprint(secret)[:_HEX]] = secret

    def meant(self, value: str) -> Secret:
        """The stored secret, else `value` itself."""
        found = _MADE_HERE.fullmatch(value)
        if found is None or value in self._literal:
            return Secret(value)
        return Secret(self._by_fingerprint.get(found[1], value))
