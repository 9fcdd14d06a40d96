"""Which references of a source are taken: those that whoever acts may write, and those that their provider holds already.

What a provider holds may be said again, as an export says it; `providers.holding` sees to it that it goes nowhere else by that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from providers import allowed_references, connection
from providers.allowed_references import BY_NAME
from providers.importers.drafts import Bundle, Draft, Ledger
from providers.importers.findings import REFERENCE_REFUSED, Finding, Outcome
from providers.importers.object_secrets import read_like_secrets
from providers.models import Provider
from providers.secrets import Secret, SecretError


@dataclass(slots=True)
class _Held:
    secrets: set[str] = field(default_factory=set)
    plain: Mapping[str, Any] = field(default_factory=dict)
    """What connection_params and plain parameters say, by name."""


class TakenReferences:
    """For one reading: what a provider holds is read once, and only if something of it would be refused."""

    def __init__(self) -> None:
        self._held: dict[str, _Held] = {}

    def why_not(self, provider_id: str, name: str | None, value: Any) -> str:
        """Why the value of a connection parameter, or a secret if `name` is None, may not refer to what it does."""
        if not _why_not(name, value, _Held()):
            return ""
        if provider_id not in self._held:
            self._held[provider_id] = _held_by(Provider.objects.filter(provider_id=provider_id).first())
        return _why_not(name, value, self._held[provider_id])

    def bundles(self, bundles: Iterable[Bundle], ledger: Ledger) -> Iterator[Bundle]:
        """The bundles without the keys, parameters and secrets that are not taken; each is counted and told of."""
        for bundle in bundles:
            provider = self._provider(bundle.provider, ledger) if bundle.provider else None
            keys = [draft for draft in bundle.keys if self._takes(draft, ledger)]
            parameters = [draft for draft in bundle.parameters if self._takes(draft, ledger)]
            yield replace(bundle, provider=provider, keys=keys, parameters=parameters)

    def _provider(self, draft: Draft, ledger: Ledger) -> Draft:
        """It comes without what is refused, as one whose key does not open comes without it."""
        secrets = dict(draft.secrets)
        for path, secret in draft.secrets.items():
            if why := self.why_not(draft.provider_id, None, secret.reveal()):
                ledger.find(_finding(draft, f"connection_params {path}", why))
                del secrets[path]
        facts, params = dict(draft.facts), draft.facts.get("connection_params")
        for name in list(params) if isinstance(params, dict) else ():
            if why := self.why_not(draft.provider_id, name, params[name]):
                ledger.find(_finding(draft, f"connection_params.{name}", why))
                facts["connection_params"] = {
                    other: value for other, value in facts["connection_params"].items() if other != name
                }
        return replace(draft, facts=facts, secrets=secrets)

    def _takes(self, draft: Draft, ledger: Ledger) -> bool:
        told = [self.why_not(draft.provider_id, None, secret.reveal()) for secret in draft.secrets.values()]
        if draft.name:
            told.append(self.why_not(draft.provider_id, draft.name, draft.facts.get("plain_value")))
        why = next(filter(None, told), "")
        if not why:
            return True
        ledger.find(_finding(draft, draft.name or "secret", why))
        for origin in (draft.origin, *draft.merged):
            if not origin.inside:
                ledger.count(origin.table, Outcome.REJECTED)
        return False


def secrets_of(provider: Provider) -> Iterator[str]:
    """Whatever of it is a secret or may be taken for one."""
    yield from provider.stored_secrets().values()
    yield from read_like_secrets(provider.connection_params).values()
    for key in provider.api_keys.all():
        yield key.secret.reveal()
    for parameter in provider.parameters.all():
        value = parameter.param_value
        yield value.reveal() if isinstance(value, Secret) else value or ""


def _why_not(name: str | None, value: Any, held: _Held) -> str:
    if name is None:
        return allowed_references.why_not(value, held=value in held.secrets)
    stored = value if isinstance(value, str) and name != BY_NAME and value in held.secrets else held.plain.get(name)
    return allowed_references.why_not_parameter(name, value, stored)


def _held_by(provider: Provider | None) -> _Held:
    if provider is None:
        return _Held()
    rows = {row.param_name: row.plain_value for row in provider.parameters.filter(is_sensitive=False)}
    params = provider.connection_params if isinstance(provider.connection_params, dict) else {}
    try:
        secrets = {value for value in secrets_of(provider) if value not in rows.values()}
    except SecretError:
        secrets = set()  # what does not open is held by nobody
    return _Held(secrets, {**rows, **params, **connection.canonical(params)})


def _finding(draft: Draft, name: str, why: str) -> Finding:
    return Finding(draft.origin.table, draft.origin.key, name, REFERENCE_REFUSED, "rejected", why)
