"""A configuration file as a source of an import: what `config_forms` read, as drafts.

A reference that our export made for a secret of the provider that is stored here means that secret; any other is stored as
the reference it is.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings

from providers import allowed_references, keyring
from providers.importers import bridge_yaml, config_forms, documents, env_forms, model_policies
from providers.importers.config_forms import (
    KEYS,
    MODELS,
    PARAMETERS,
    PROVIDERS,
    Configuration,
    KeyEntry,
    ParameterEntry,
    ProviderEntry,
)
from providers.importers.drafts import Bundle, Draft, Kind, Ledger, Origin, SourceError
from providers.importers.env_text import Variables
from providers.importers.findings import Outcome
from providers.importers.foreign_forms import Readable
from providers.importers.legacy import model_key
from providers.importers.object_secrets import read_like_secrets
from providers.importers.state import Digester, normal
from providers.importers.taken_references import TakenReferences, secrets_of
from providers.models import Provider
from providers.references import StoredSecrets, is_reference, reference_to, variable_of
from providers.secrets import Secret

BATCH = 1000
_LONGEST_KEY = 600

__all__ = ["ConfigSource", "read", "wanted_variables"]


@dataclass(frozen=True, slots=True)
class DraftedProvider:
    """A provider of the file, its parts as drafts, and which kinds of parts the file names."""

    entry: ProviderEntry
    provider: Draft
    keys: list[Draft]
    parameters: list[Draft]
    models: list[Draft]

    def drafts(self) -> Iterator[Draft]:
        yield self.provider
        yield from self.keys
        yield from self.parameters
        yield from self.models


@dataclass(slots=True)
class ConfigSource:
    """A `Source`. Nothing is open: the whole file was read and found to be right before there is one."""

    label: str
    identity: str
    configuration: Configuration
    providers: list[DraftedProvider]
    facts: Mapping[str, Any] = field(default_factory=dict)
    rows: Mapping[str, int] = field(default_factory=dict)

    def bundles(self, ledger: Ledger) -> Iterator[Bundle]:
        for finding in self.configuration.findings:
            ledger.find(finding)
        for table, count in self.configuration.rejected.items():
            ledger.read(table, count)
            ledger.count(table, Outcome.REJECTED, count)
        for one in self.providers:
            for draft in one.drafts():
                ledger.read(draft.origin.table)
            batches = (one.models[start : start + BATCH] for start in range(0, len(one.models), BATCH))
            yield Bundle(one.provider.provider_id, one.provider, one.keys, one.parameters, batches)

    def close(self) -> None:
        return


def read(
    content: bytes | str | Variables,
    *,
    label: str,
    file_format: str = "",
    only: Collection[str] = (),
    identity: str = "",
    sections: Collection[str] = (),
    lenient: bool = False,
) -> ConfigSource:
    """The file, or variables of this process, as a source, compared with what the registry has.

    `only` takes the providers of those ids, `sections` are what our own form may have beside them; `lenient` leaves out an
    entry with a mistake in place of refusing the file. Raises `SourceError`: a `BadDocument` for text that is no document,
    `BadConfiguration` with every place that is wrong.
    """
    ours = isinstance(content, Variables)
    parsed = content if isinstance(content, Variables) else documents.parse(content, file_format)
    configuration = _configuration(parsed, sections, ours=ours, lenient=lenient)
    if only:
        missing = set(only) - {entry.provider_id for entry in configuration.providers}
        if missing:
            raise SourceError(f"The file has no provider named {', '.join(map(repr, sorted(missing)))}.")
        configuration.providers = [entry for entry in configuration.providers if entry.provider_id in only]
    drafting = _Drafting()
    drafted = [drafting.provider(entry) for entry in configuration.providers]
    rows: dict[str, int] = dict(configuration.rejected)
    for one in drafted:
        for draft in one.drafts():
            rows[draft.origin.table] = rows.get(draft.origin.table, 0) + 1
    return ConfigSource(
        label=label,
        identity=identity or f"config:{hashlib.sha256(label.encode()).hexdigest()[:32]}",
        configuration=configuration,
        providers=drafted,
        facts={"form": configuration.form, "providers": len(drafted)},
        rows=rows,
    )


def _configuration(parsed: Any, sections: Collection[str], *, ours: bool, lenient: bool) -> Configuration:
    """`ours`: the variables are those of this very process."""
    stored_types = dict(Provider.objects.values_list("provider_id", "provider_type"))
    known: dict[str, Any] = {"stored_types": stored_types, "environment": settings.GATEWAY_ENVIRONMENT}
    known["why_not"] = TakenReferences().why_not
    if isinstance(parsed, Variables):
        return config_forms.read_foreign(env_forms.read(parsed, references=ours), **known)
    variables = Readable(os.environ, {name for name in os.environ if allowed_references.why_not_variable(name)})
    if model_policies.recognises(parsed):
        return config_forms.read_foreign(model_policies.read(parsed, stored_types, variables), **known)
    if bridge_yaml.recognises(parsed):
        return config_forms.read_foreign(bridge_yaml.read(parsed, variables), **known)
    return config_forms.read(parsed, **known, sections=sections, lenient=lenient)


def wanted_variables(source: ConfigSource) -> list[str]:
    """The environment variables that the file's references name, those that mean a stored secret aside."""
    names: set[str | None] = set()
    for one in source.providers:
        params = one.provider.facts.get("connection_params")
        names.add(params.get("api_key_env_var") if isinstance(params, dict) else None)
        for draft in one.drafts():
            names |= {variable_of(secret.reveal()) for secret in draft.secrets.values()}
            if draft.name == "api_key_env_var" and draft.kind is Kind.PARAMETER:
                names.add(draft.facts.get("plain_value"))
    return sorted(name for name in names if isinstance(name, str) and name)


class _Drafting:
    def __init__(self) -> None:
        self._digester = Digester()

    def provider(self, entry: ProviderEntry) -> DraftedProvider:
        stored = Provider.objects.filter(provider_id=entry.provider_id).first()
        meant = StoredSecrets(secrets_of(stored) if stored is not None else ())
        facts = dict(entry.facts)
        if entry.secrets and stored is not None:
            facts.setdefault("connection_params", stored.connection_params)
        elif entry.secrets:
            facts.setdefault("connection_params", {})
        for name in ("connection_params", "request_settings") if stored is not None else ():
            if name in facts:
                facts[name] = _as_stored(facts[name], getattr(stored, name), entry.provider_id)
        secrets = {path: meant.meant(value) for path, value in entry.secrets.items()}
        provider = self._draft(Kind.PROVIDER, PROVIDERS, entry.provider_id, entry.provider_id, facts, secrets=secrets)
        return DraftedProvider(
            entry,
            provider,
            _once_each([self._key(entry, key, meant) for key in entry.keys]),
            [self._parameter(entry, parameter, meant) for parameter in entry.parameters],
            list(self._models(entry, stored)),
        )

    def _key(self, entry: ProviderEntry, key: KeyEntry, meant: StoredSecrets) -> Draft:
        secret = meant.meant(key.secret)
        named = f"{entry.provider_id}/{key.environment}/{keyring.fingerprint(secret.reveal())}"
        return self._draft(
            Kind.KEY, KEYS, named, entry.provider_id, key.facts, environment=key.environment, secrets={"secret": secret}
        )

    def _parameter(self, entry: ProviderEntry, one: ParameterEntry, meant: StoredSecrets) -> Draft:
        facts = {} if one.is_sensitive else {"plain_value": one.value}
        secrets = {"value": meant.meant(one.value)} if one.is_sensitive else {}
        named = f"{entry.provider_id}/{one.environment}/{one.name}"
        return self._draft(
            Kind.PARAMETER,
            PARAMETERS,
            named,
            entry.provider_id,
            facts,
            name=one.name,
            environment=one.environment,
            secrets=secrets,
        )

    def _models(self, entry: ProviderEntry, stored: Provider | None) -> Iterator[Draft]:
        for model in entry.models:
            facts = dict(model.facts)
            if stored is not None and _has_references(facts.get("parameters")):
                held = stored.models.filter(model_id=model.model_id).values_list("parameters", flat=True).first()
                facts["parameters"] = _as_stored(facts["parameters"], held, entry.provider_id)
            named = model_key(entry.provider_id, model.model_id)
            yield self._draft(Kind.MODEL, MODELS, named, entry.provider_id, facts, name=model.model_id)

    def _draft(
        self,
        kind: Kind,
        table: str,
        key: str,
        provider_id: str,
        facts: Mapping[str, Any],
        *,
        name: str = "",
        environment: str = "",
        secrets: Mapping[str, Secret] | None = None,
    ) -> Draft:
        secrets = secrets or {}
        said = [normal(dict(facts)), {path: keyring.fingerprint(secret.reveal()) for path, secret in secrets.items()}]
        digest = self._digester.of(json.dumps([key, environment, *said], sort_keys=True).encode())
        return Draft(kind, Origin(table, _short(key), digest), provider_id, facts, name, environment, secrets)


def _has_references(facts: Any) -> bool:
    """Whether anything in it looks as if our export had put it there."""
    waiting = [facts]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str) and is_reference(value):
            return True
        waiting.extend(value.values() if isinstance(value, dict) else value if isinstance(value, list) else ())
    return False


def _as_stored(facts: Any, held: Any, provider_id: str) -> Any:
    """An object that is stored in the clear, the references of our export put back to what stands there now."""
    facts = copy.deepcopy(facts)
    for path, secret in read_like_secrets(held).items():
        *parents, name = steps = json.loads(path)
        try:
            holder = facts
            for step in parents:
                holder = holder[step]
            if holder[name] == reference_to(secret, provider_id, *steps):
                holder[name] = secret
        except (KeyError, IndexError, TypeError):
            continue  # the file's object has another shape
    return facts


def _once_each(keys: list[Draft]) -> list[Draft]:
    """A stored secret may be named by its reference and by itself: the engine would take the second for an error."""
    seen: dict[str, Draft] = {}
    for key in keys:
        seen.setdefault(key.origin.key, key)
    return list(seen.values())


def _short(key: str) -> str:
    if len(key) <= _LONGEST_KEY:
        return key
    return f"{key[: _LONGEST_KEY - 33]}…{hashlib.blake2b(key.encode(), digest_size=16).hexdigest()}"
