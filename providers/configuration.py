"""The registry brought to what a file says: compared, shown, written. What command and API share.

The file wins over the registry in what it names and leaves the rest alone; pruning also removes what it does not name.
Writing is an import run, so it is audited, kept and undone like one.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from providers import actor, config_sections, exporting, keyring
from providers.config_changes import ADD, CHANGE, REMOVE, Change, difference, digest
from providers.config_sections import Part, Plan, Refusal, Section, register_section
from providers.importers import config_forms, documents, env_forms, runs
from providers.importers.config_forms import KEYS, MODELS, PARAMETERS
from providers.importers.drafts import Draft, SourceError
from providers.importers.env_text import Variables
from providers.importers.findings import (
    ENTRY_REFUSED,
    FAILED,
    IGNORED_VARIABLE,
    VARIABLE_MISSING,
    Finding,
    Level,
)
from providers.importers.yaml_config import ConfigSource, DraftedProvider, read, wanted_variables
from providers.models import ApiKey, ConfigFile, ConnectionParameter, ImportRun, Provider, ProviderModel
from providers.ownership import owner_of_all
from providers.secrets import SecretError

log = logging.getLogger(__name__)

_AT_ONCE = 500
_PATIENCE_SECONDS = 30.0
_PAUSE_SECONDS = 0.25
_QUIET_SECONDS = 0.05
_MOST_READINGS = 100

__all__ = [
    "ADD",
    "CHANGE",
    "REMOVE",
    "Applied",
    "Change",
    "NotAsShown",
    "Result",
    "Section",
    "Variable",
    "apply_document",
    "disown",
    "document",
    "files",
    "last_written",
    "own_file",
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
    named: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """What the file speaks of: ids and names, by the file's members."""
    busy: bool = False
    """Nothing was done because another import was running."""
    refused: tuple[Refusal, ...] = ()
    """Of the changes, those that were not written, or as far as a rehearsal tells would not be."""
    rehearsed: bool = False


class NotAsShown(Exception):
    """The changes are others than those that somebody saw and agreed to; nothing was written."""


def document(only: Collection[str] = (), sections: Collection[str] = ()) -> dict[str, Any]:
    """The configuration as one object of plain values, which `apply_document` takes back."""
    return exporting.document(only, sections)


def apply_document(
    content: bytes | str | Variables,
    *,
    label: str,
    file_format: str = "",
    only: Collection[str] = (),
    write: bool = False,
    prune: bool = False,
    owner: str = "",
    shown: str = "",
    rehearse: bool = False,
    progress: Callable[[runs.Progress], None] | None = None,
) -> Applied:
    """What the text would change in the registry, and with `write` the change done.

    `label` says for people where it came from. `file_format` is yaml, json or env; without, what it looks like. Instead of a
    text, variables of this process. `owner` is the path of a file that is to own what it names: a mistake in it leaves out
    its own entry only. `shown` is the digest of the changes that somebody agreed to: others raise `NotAsShown`. `rehearse` asks,
    where nothing is written, what of the changes would be refused; what stands on a provider or a model that is only added is
    not asked. Raises `SourceError`, before anything is written, with every mistake of the text and its place.
    """
    with _acting_for(owner):
        source = read(
            content,
            label=label,
            file_format=file_format,
            only=only,
            sections=config_sections.names(),
            lenient=bool(owner),
        )
    parts = _parts_of_sections(source)
    _keep_what_others_own(source, owner)
    whole = not any(finding.code in (ENTRY_REFUSED, VARIABLE_MISSING) for finding in source.configuration.findings)
    prune = prune and whole
    planned = [] if only else _planned(source, parts, prune=prune, owner=owner, drop=whole)
    removed_ids = _unnamed_providers(source) if prune and not only else []
    dropped = _dropped(source, owner) if owner and whole else _Dropped()
    changes = (
        *_changes(source, prune=prune, removed_ids=removed_ids),
        *dropped.changes(),
        *(change for one in planned for change in one.changes()),
    )
    if shown and shown != digest(changes):
        raise NotAsShown
    writes = write and (bool(changes) or not owner)
    result = _run(source, write=writes, owner=owner, progress=progress)
    written = writes and result.exit_status != 1
    refused: list[Refusal] = []
    rehearsed = rehearse and not written and not any(one.action == ADD and one.provider_id for one in changes)
    if rehearsed:
        refused = config_sections.rehearse(planned)
    if written:
        with _acting_for(owner):
            refused = config_sections.write(planned, ImportRun.objects.get(pk=result.run_pk))
            if prune and FAILED.name not in result.codes:
                _prune(source, removed_ids)
            dropped.write()
    if write and owner and result.exit_status != 1:
        with _acting_for(owner):
            _claim(source, planned, owner, whole=whole)
    return Applied(
        written=written,
        changes=changes,
        findings=(*_findings(source, result), *(one.finding for one in refused)),
        variables=tuple(Variable(name, name in os.environ) for name in wanted_variables(source)),
        exit_status=result.exit_status or (runs.FOR_A_PERSON if refused else 0),
        message=result.message,
        run_pk=result.run_pk,
        named=_named(source, planned),
        busy=result.busy,
        refused=tuple(refused),
        rehearsed=rehearsed,
    )


def _parts_of_sections(source: ConfigSource) -> dict[str, Part]:
    """What the file says for each section; what is wrong with it goes the way of all mistakes."""
    configuration = source.configuration
    parts = {
        section.name: section.read(configuration.sections[section.name], section.name)
        for section in config_sections.registered()
        if section.name in configuration.sections
    }
    problems = [(name, problem) for name, part in parts.items() for problem in part.problems]
    if problems and not configuration.lenient:
        raise config_forms.BadConfiguration([problem for _, problem in problems])
    configuration.findings += [
        Finding(name, problem.place, "", ENTRY_REFUSED, "rejected", problem.sentence) for name, problem in problems
    ]
    return parts


def _planned(source: ConfigSource, parts: Mapping[str, Part], *, prune: bool, owner: str, drop: bool) -> list[Plan]:
    planned: list[Plan] = []
    for section in config_sections.registered():
        named = section.name in parts
        if not named and not owner:
            continue
        plan, said = config_sections.plan(
            section, parts.get(section.name, Part()), prune=prune and named, owner=owner, drop=drop
        )
        planned.append(plan)
        source.configuration.findings += said
    return planned


def _named(source: ConfigSource, planned: Iterable[Plan]) -> dict[str, tuple[str, ...]]:
    """What the file speaks of, by member."""
    found = {"providers": tuple(one.entry.provider_id for one in source.providers)}
    members = {one.section.name: tuple(entry.name for entry in one.part.entries) for one in planned}
    return found | {name: names for name, names in members.items() if names}


def _run(
    source: ConfigSource, *, write: bool, owner: str, progress: Callable[[runs.Progress], None] | None
) -> runs.Result:
    if not write:
        return runs.preview(lambda: source, prefer="source", progress=progress)
    who = f"file:{owner}" if owner else actor.current().name
    run = runs.start(ImportRun.Kind.APPLY, source.label, actor=who)
    if reason := actor.current().reason:
        run.options = {**run.options, "reason": reason}
    return runs.execute(run, lambda: source, prefer="source", progress=progress)


def _acting_for(owner: str) -> contextlib.AbstractContextManager:
    """A file is the author of what it says, whoever had it read."""
    if not owner:
        return contextlib.nullcontext()
    return actor.acting_as(f"file:{owner}", reason=f"read for {actor.current().name}")


def _findings(source: ConfigSource, result: runs.Result) -> Iterator[Finding]:
    """What was said about the file, and what the engine has to say that the changes do not show."""
    yield from source.configuration.findings
    for found in result.examples.values():
        for finding in found:
            if finding.code.level is Level.PERSON and finding not in source.configuration.findings:
                yield finding


# --- Who owns what ----------------------------------------------------------------------------------------------------------


def _keep_what_others_own(source: ConfigSource, owner: str) -> None:
    """Leave out of the source, with a finding, what would change a row that another file owns."""
    for position, one in enumerate(source.providers):
        stored = Provider.objects.filter(provider_id=one.entry.provider_id).first()
        if stored is None:
            continue
        before = exporting.provider_document(stored, *_parts(stored))
        if stored.managed_by not in ("", owner) and any(_of_provider(one, stored, before, prune=False)):
            told = config_sections.owned_elsewhere(config_forms.PROVIDERS, one.entry.place, stored.managed_by)
            source.configuration.findings.append(told)
            one = source.providers[position] = replace(one, provider=replace(one.provider, facts={}, secrets={}))
        owners = dict(stored.models.exclude(managed_by__in=["", owner]).values_list("model_id", "managed_by"))
        if owners:
            held = {row["model_id"]: row for row in before[MODELS]}
            foreign = [
                draft
                for draft in one.models
                if draft.name in owners and any(difference("model", "", "", held.get(draft.name), _model(draft)))
            ]
            for draft in foreign:
                told = config_sections.owned_elsewhere(MODELS, draft.origin.key, owners[draft.name])
                source.configuration.findings.append(told)
            source.providers[position] = replace(one, models=[draft for draft in one.models if draft not in foreign])


@dataclass(frozen=True, slots=True)
class _Dropped:
    """What a file owned and does not name any more. Models go; a provider is switched off and nobody's, as its keys could not be
    brought back."""

    models: Mapping[int, tuple[str, str]] = field(default_factory=dict)
    """Provider's and model's id by primary key."""
    providers: tuple[str, ...] = ()

    def changes(self) -> Iterator[Change]:
        for provider_id, model_id in self.models.values():
            yield Change(REMOVE, "model", provider_id, model_id, {})
        for provider_id in self.providers:
            yield Change(CHANGE, "provider", provider_id, "", {"enabled": [True, False]})

    def write(self) -> None:
        with transaction.atomic():
            _delete(ProviderModel, self.models)
            Provider.objects.filter(provider_id__in=self.providers).update(enabled=False)


def _dropped(source: ConfigSource, owner: str) -> _Dropped:
    named = {one.entry.provider_id: {draft.name for draft in one.models} for one in source.providers}
    owned = ProviderModel.objects.filter(managed_by=owner).order_by("pk")
    rows = owned.values_list("pk", "provider__provider_id", "model_id")
    models = {
        pk: (provider_id, model_id) for pk, provider_id, model_id in rows if model_id not in named.get(provider_id, ())
    }
    providers = Provider.objects.filter(managed_by=owner, enabled=True).exclude(provider_id__in=named)
    return _Dropped(models, tuple(providers.order_by("pk").values_list("provider_id", flat=True)))


def _claim(source: ConfigSource, planned: Iterable[Plan], owner: str, *, whole: bool) -> None:
    """Let the file own what it names and, if nothing of it was left out, nothing else. A provider of which it names parts only is
    not its own."""
    with transaction.atomic():
        owned = set(Provider.objects.filter(managed_by=owner).values_list("provider_id", flat=True))
        ids = {one.entry.provider_id for one in source.providers if one.entry.facts or one.entry.provider_id in owned}
        models: set[int] = set()
        for one in source.providers:
            rows = ProviderModel.objects.filter(provider__provider_id=one.entry.provider_id)
            named = {draft.name for draft in one.models}
            models |= {pk for pk, model_id in rows.values_list("pk", "model_id") if model_id in named}
        kept = set(ProviderModel.objects.filter(managed_by=owner).values_list("pk", flat=True))
        if whole:
            Provider.objects.filter(managed_by=owner).exclude(provider_id__in=ids).update(managed_by="")
            _update_models(kept - models, "", of=owner)
        Provider.objects.filter(provider_id__in=ids, managed_by="").update(managed_by=owner)
        _update_models(models - kept, owner, of="")
        for one in planned:
            owners = one.section.owners()
            names = {name for name in one.part.named if owners.get(name, "") in ("", owner)}
            if not whole:
                names |= {name for name, path in owners.items() if path == owner}
            one.section.own(names, owner)


def _update_models(keys: Collection[int], owner: str, *, of: str) -> None:
    keys = list(keys)
    for start in range(0, len(keys), _AT_ONCE):
        ProviderModel.objects.filter(pk__in=keys[start : start + _AT_ONCE], managed_by=of).update(managed_by=owner)


def last_written() -> ImportRun | None:
    """The last file that was written and not taken back: what `undo` takes back, unless another import stands on it."""
    return next((run for run in runs.undoable() if run.source_identity.startswith("config:")), None)


def disown(path: str) -> None:
    """Let go of everything that a file owns, and follow it no longer."""
    with actor.acting_as(f"file:{path}", reason=f"let go by {actor.current().name}"), transaction.atomic():
        for rows in (Provider.objects, ProviderModel.objects):
            rows.filter(managed_by=path).update(managed_by="")
        for section in config_sections.registered():
            section.own((), path)
        ConfigFile.objects.filter(path=path).delete()


# --- What differs -----------------------------------------------------------------------------------------------------------


def _changes(source: ConfigSource, *, prune: bool, removed_ids: Collection[str]) -> Iterator[Change]:
    for one in source.providers:
        stored = Provider.objects.filter(provider_id=one.entry.provider_id).first()
        before = exporting.provider_document(stored, *_parts(stored)) if stored is not None else None
        yield from _of_provider(one, stored, before, prune=prune)
        yield from _of_parts(one, before or {}, _prunable(one, stored) if prune else {})
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


def _prunable(one: DraftedProvider, stored: Provider | None) -> dict[str, Collection[str]]:
    """By the lists that the file names, what is not to be removed: what files own stays."""
    if stored is None:
        return {}
    owned = stored.models.exclude(managed_by="").values_list("model_id", flat=True)
    lists = {MODELS} if stored.managed_by else {MODELS, KEYS, PARAMETERS}
    return {table: set(owned) if table == MODELS else () for table in lists & one.entry.lists}


def _of_parts(
    one: DraftedProvider, before: dict[str, Any], prunable: Mapping[str, Collection[str]]
) -> Iterator[Change]:
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
        if table in prunable:
            for name in sorted(here.keys() - named - set(prunable[table])):
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
    if source.configuration.form == "export" and not source.configuration.names_providers:
        return []
    named = {one.entry.provider_id for one in source.providers} | source.configuration.left_out
    rows = Provider.objects.exclude(provider_id__in=named).order_by("provider_id")
    return [row.provider_id for row in rows if not owner_of_all(row)]


def _prune(source: ConfigSource, removed_ids: Collection[str]) -> None:
    with transaction.atomic():
        for provider in Provider.objects.filter(provider_id__in=removed_ids):
            provider.delete()
        for one in source.providers:
            provider = Provider.objects.select_for_update().filter(provider_id=one.entry.provider_id).first()
            if provider is not None:  # else the run says why it was not written
                _prune_parts(one, provider)


def _prune_parts(one: DraftedProvider, provider: Provider) -> None:
    if MODELS in one.entry.lists:
        named = {draft.name for draft in one.models}
        rows = provider.models.filter(managed_by="").order_by().values_list("pk", "model_id")
        _delete(ProviderModel, (pk for pk, model_id in rows if model_id not in named))
    if provider.managed_by:
        return
    if one.entry.names_connection:
        stored = provider.stored_secrets()
        kept = {path: secret for path, secret in stored.items() if path in one.provider.secrets}
        if kept != stored:
            provider.set_stored_secrets(kept)
            provider.save()
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
    """How reading one file went: what it did, or `error`, why it could not be applied at all."""

    path: str
    applied: Applied | None = None
    error: str = ""


def files() -> list[str]:
    """The files that own what they name: those of GATEWAY_CONFIG_FILES, and those that were given to `apply_config --own`."""
    followed = ConfigFile.objects.order_by("pk").values_list("path", flat=True)
    return list(dict.fromkeys([*settings.GATEWAY_CONFIG_FILES, *followed]))


def reload_files() -> list[Result]:
    """Bring the registry to what those files say now, one after the other. What cannot be read leaves everything as it was."""
    return [own_file(path) for path in files()]


def own_file(path: str) -> Result:
    """Apply a file and let it own what it names; how that went is remembered."""
    now = timezone.now()
    facts: dict[str, Any] = {"read_at": now}
    try:
        content = _settled(path)
        applied = _applied_in_turn(content, path)
        result = Result(path, applied, applied.message if applied.exit_status == 1 else "")
        if not result.error:
            facts |= {"digest": hashlib.sha256(content).hexdigest(), "applied_at": now}
    except OSError as error:
        result = Result(path, error=f"{path} cannot be read: {error.strerror}.")
    except (SourceError, SecretError) as error:
        result = Result(path, error=str(error))
    findings = [*_told(result), *({"place": "", **one} for one in _ignored_variables())]
    ConfigFile.objects.update_or_create(path=path, defaults={**facts, "error": result.error, "findings": findings})
    log.log(
        logging.ERROR if result.error else logging.INFO,
        "configuration file %s: %s",
        path,
        result.error or f"{len(result.applied.changes) if result.applied else 0} changes",
    )
    for one in findings:
        if one["level"] == Level.PERSON or one["code"] == IGNORED_VARIABLE.name:
            log.warning("configuration file %s: %s %s %s", path, one["code"], one["place"], one["detail"])
    return result


def _settled(path: str) -> bytes:
    """The file's text once nobody writes it: the first half of a file would pass for one that names less, and remove the rest."""
    for _ in range(_MOST_READINGS):
        with open(path, "rb") as file:
            before = os.fstat(file.fileno())
            content = file.read(documents.LARGEST_BYTES + 1)
        if time.time() - before.st_mtime < _QUIET_SECONDS:
            time.sleep(_QUIET_SECONDS)
        after = os.stat(path)
        if (before.st_ino, before.st_mtime_ns, before.st_size) == (after.st_ino, after.st_mtime_ns, after.st_size):
            return content
    raise OSError(errno.EBUSY, "somebody is writing it")


def _applied_in_turn(content: bytes, path: str) -> Applied:
    """Processes that start together read the same files: each waits for the one before it."""
    patience = time.monotonic() + _PATIENCE_SECONDS
    while True:
        applied = apply_document(content, label=path, file_format=documents.format_of(path), write=True, owner=path)
        if not applied.busy or time.monotonic() > patience:
            return applied
        time.sleep(_PAUSE_SECONDS)


def _told(result: Result) -> Iterator[dict[str, str]]:
    for finding in result.applied.findings if result.applied is not None else ():
        yield {
            "place": ".".join(filter(None, (finding.key, finding.field))),
            "code": finding.code.name,
            "level": str(finding.code.level),
            "detail": finding.detail,
        }


def _ignored_variables() -> Iterator[dict[str, str]]:
    for name in env_forms.ignored(os.environ):
        detail = f"{name} is set and ignored: configuration comes from files."
        yield {"code": IGNORED_VARIABLE.name, "level": str(IGNORED_VARIABLE.level), "detail": detail}
