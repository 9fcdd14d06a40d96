"""The registry brought to what a file says: compared, shown, written. What command and API share.

The file wins over the registry in what it names and leaves the rest alone; pruning also removes what it does not name.
Writing is an import run, so it is audited, kept and undone like one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import transaction

from providers import actor, exporting, keyring
from providers.config_changes import ADD, CHANGE, REMOVE, Change, difference
from providers.config_sections import Section, register_section
from providers.importers import runs
from providers.importers.config_forms import KEYS, MODELS, PARAMETERS
from providers.importers.drafts import Draft, SourceError
from providers.importers.findings import FAILED, Finding, Level
from providers.importers.yaml_config import ConfigSource, DraftedProvider, read, wanted_variables
from providers.models import ApiKey, ConnectionParameter, ImportRun, Provider, ProviderModel

_AT_ONCE = 500

__all__ = [
    "ADD",
    "CHANGE",
    "REMOVE",
    "Applied",
    "Change",
    "Result",
    "Section",
    "Variable",
    "apply_document",
    "document",
    "register_section",
    "reload_files",
]


@dataclass(frozen=True, slots=True)
class Variable:
    """An environment variable that a reference names."""

    name: str
    is_set: bool
    """In this process: a gateway that runs elsewhere has its own."""


@dataclass(frozen=True, slots=True)
class Applied:
    """`exit_status`: 0 all well, 2 some values need a person, 1 nothing was written, with `message` saying why."""

    written: bool
    changes: tuple[Change, ...]
    findings: tuple[Finding, ...]
    variables: tuple[Variable, ...]
    exit_status: int
    message: str = ""
    run_pk: int | None = None


def document(only: Collection[str] = ()) -> dict[str, Any]:
    """The whole configuration as one object of plain values, which `apply_document` takes back."""
    return exporting.document(only)


def apply_document(
    content: bytes | str,
    *,
    label: str,
    file_format: str = "",
    only: Collection[str] = (),
    write: bool = False,
    prune: bool = False,
    progress: Callable[[runs.Progress], None] | None = None,
) -> Applied:
    """What the text would change in the registry, and with `write` the change done.

    `label` says for people where it came from. `file_format` is yaml or json; without, what it looks like. Raises
    `SourceError`, before anything is written, with every mistake of the text and its place.
    """
    source = read(content, label=label, file_format=file_format, only=only)
    removed_ids = _unnamed_providers(source) if prune and not only else []
    changes = tuple(_changes(source, prune=prune, removed_ids=removed_ids))
    result = _run(source, write=write, progress=progress)
    written = write and result.exit_status != 1
    if written and prune and FAILED.name not in result.codes:
        _prune(source, removed_ids)
    return Applied(
        written=written,
        changes=changes,
        findings=tuple(_findings(source, result)),
        variables=tuple(Variable(name, name in os.environ) for name in wanted_variables(source)),
        exit_status=result.exit_status,
        message=result.message,
        run_pk=result.run_pk,
    )


def _run(source: ConfigSource, *, write: bool, progress: Callable[[runs.Progress], None] | None) -> runs.Result:
    if not write:
        return runs.preview(lambda: source, prefer="source", progress=progress)
    run = runs.start(ImportRun.Kind.APPLY, source.label, actor=actor.current().name)
    return runs.execute(run, lambda: source, prefer="source", progress=progress)


def _findings(source: ConfigSource, result: runs.Result) -> Iterator[Finding]:
    """What was said about the file, and what the engine has to say that the changes do not show."""
    yield from source.configuration.findings
    for found in result.examples.values():
        for finding in found:
            if finding.code.level is Level.PERSON and finding not in source.configuration.findings:
                yield finding


# --- What differs -----------------------------------------------------------------------------------------------------------


def _changes(source: ConfigSource, *, prune: bool, removed_ids: Collection[str]) -> Iterator[Change]:
    for one in source.providers:
        stored = Provider.objects.filter(provider_id=one.entry.provider_id).first()
        before = exporting.provider_document(stored, *_parts(stored)) if stored is not None else None
        yield from _of_provider(one, stored, before, prune=prune)
        yield from _of_parts(one, before or {}, prune=prune)
    for provider_id in removed_ids:
        yield Change(REMOVE, "provider", provider_id, "", {})


def _of_provider(
    one: DraftedProvider, stored: Provider | None, before: dict[str, Any] | None, *, prune: bool
) -> Iterator[Change]:
    draft, provider_id = one.provider, one.entry.provider_id
    wanted = exporting.facts_document(draft.facts, exporting.PROVIDER_FACTS)
    if "request_settings" in wanted:
        wanted["request_settings"] = exporting.without_secrets(provider_id, wanted["request_settings"])
    if "connection_params" in wanted:
        kind = draft.facts.get("provider_type") or (stored.provider_type if stored is not None else "")
        given = {path: secret.reveal() for path, secret in draft.secrets.items()}
        kept = {} if prune or stored is None else stored.stored_secrets()
        params, hidden = exporting.connection_document(provider_id, kind, wanted["connection_params"], kept | given)
        wanted["connection_params"] = params
        wanted["secret_params"] = hidden
    names = [*exporting.PROVIDER_FACTS, "secret_params"]
    yield from difference("provider", provider_id, "", before, {name: wanted[name] for name in names if name in wanted})


def _of_parts(one: DraftedProvider, before: dict[str, Any], *, prune: bool) -> Iterator[Change]:
    for table, kind, identify, drafts, shown in (
        (KEYS, "key", _key_name, one.keys, _key),
        (PARAMETERS, "parameter", _parameter_name, one.parameters, _parameter),
        (MODELS, "model", _model_name, one.models, _model),
    ):
        here = {identify(row): row for row in before.get(table, ())}
        named = set()
        for draft in drafts:
            wanted = shown(draft)
            name = identify(wanted)
            named.add(name)
            yield from difference(kind, one.entry.provider_id, name, here.get(name), wanted)
        if prune and table in one.entry.lists:
            for name in sorted(here.keys() - named):
                yield Change(REMOVE, kind, one.entry.provider_id, name, {})


def _key(draft: Draft) -> dict[str, Any]:
    return exporting.key_document(draft.provider_id, draft.secrets["secret"].reveal(), draft.environment, draft.facts)


def _parameter(draft: Draft) -> dict[str, Any]:
    secret = draft.secrets.get("value")
    value = secret.reveal() if secret is not None else draft.facts["plain_value"]
    return exporting.parameter_document(
        draft.provider_id, draft.name, draft.environment, value, sensitive=secret is not None
    )


def _model(draft: Draft) -> dict[str, Any]:
    facts = exporting.facts_document(draft.facts, exporting.MODEL_FACTS)
    if "parameters" in facts:
        facts["parameters"] = exporting.without_secrets(draft.provider_id, facts["parameters"])
    return {"model_id": draft.name, **facts}


def _key_name(row: Mapping[str, Any]) -> str:
    return f"{row['environment']}/{row['secret']}"


def _parameter_name(row: Mapping[str, Any]) -> str:
    return f"{row['environment']}/{row['param_name']}"


def _model_name(row: Mapping[str, Any]) -> str:
    return row["model_id"]


def _parts(provider: Provider) -> tuple[Iterable[ApiKey], Iterable[ConnectionParameter], Iterable[ProviderModel]]:
    keys = sorted(provider.api_keys.all(), key=lambda key: (key.environment, key.pk))
    return keys, provider.parameters.all(), provider.models.order_by().iterator()


# --- Pruning ----------------------------------------------------------------------------------------------------------------


def _unnamed_providers(source: ConfigSource) -> list[str]:
    named = {one.entry.provider_id for one in source.providers}
    return sorted(set(Provider.objects.values_list("provider_id", flat=True)) - named)


def _prune(source: ConfigSource, removed_ids: Collection[str]) -> None:
    with transaction.atomic():
        for provider in Provider.objects.filter(provider_id__in=removed_ids):
            provider.delete()
        for one in source.providers:
            provider = Provider.objects.select_for_update().filter(provider_id=one.entry.provider_id).first()
            if provider is not None:  # else the run says why it was not written
                _prune_parts(one, provider)


def _prune_parts(one: DraftedProvider, provider: Provider) -> None:
    if one.entry.names_connection:
        stored = provider.stored_secrets()
        kept = {path: secret for path, secret in stored.items() if path in one.provider.secrets}
        if kept != stored:
            provider.set_stored_secrets(kept)
            provider.save()
    if MODELS in one.entry.lists:
        named = {draft.name for draft in one.models}
        rows = provider.models.order_by().values_list("pk", "model_id")
        _delete(ProviderModel, (pk for pk, model_id in rows if model_id not in named))
    if PARAMETERS in one.entry.lists:
        parameters = {(draft.environment, draft.name) for draft in one.parameters}
        rows = provider.parameters.order_by().values_list("pk", "environment", "param_name")
        _delete(ConnectionParameter, (pk for pk, *name in rows if tuple(name) not in parameters))
    if KEYS in one.entry.lists:
        keys = {(draft.environment, keyring.fingerprint(draft.secrets["secret"].reveal())) for draft in one.keys}
        rows = provider.api_keys.order_by().values_list("pk", "environment", "fingerprint")
        _delete(ApiKey, (pk for pk, *name in rows if tuple(name) not in keys))


def _delete(model: type[ApiKey | ConnectionParameter | ProviderModel], keys: Iterable[int]) -> None:
    keys = list(keys)
    for start in range(0, len(keys), _AT_ONCE):
        model.objects.filter(pk__in=keys[start : start + _AT_ONCE]).delete()


# --- Files that rule --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Result:
    """How reading one file went: what it did, or `error`, why it could not be read at all."""

    path: str
    applied: Applied | None = None
    error: str = ""


def reload_files() -> list[Result]:
    """Bring the registry to what the files say that this installation follows (GATEWAY_CONFIG_FILES), one after the other."""
    return [_reload(path) for path in settings.GATEWAY_CONFIG_FILES]


def _reload(path: str) -> Result:
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        return Result(path, error=f"{path} cannot be read: {error.strerror}.")
    try:
        return Result(path, apply_document(content, label=path, write=True))
    except SourceError as error:
        return Result(path, error=str(error))
