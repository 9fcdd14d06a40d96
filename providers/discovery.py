"""What an upstream offers, compared with what the registry holds of it.

Types that run here answer from the machine itself (files, the script); everybody else is asked over the
network. Applying a difference adds and disables: a model that is gone is never deleted, its history and prices stay. No row
remembers whether a value of it was entered by hand, so what the upstream tells otherwise is shown, and taken where somebody says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import transaction

from providers import actor, anthropic_offers, dialling, kamiwaza, ollama, upstream
from providers.capabilities import MODEL_TYPES, canonical, type_by_name
from providers.connection import text
from providers.models import Provider, ProviderModel, validate_identifier

FAKE_MODELS = (("fake-chat", "chat"), ("fake-embedding", "embedding"))
_EMBEDDING_WORDS = ("embed", "bge-", "gte-", "e5-", "minilm")
_MOST_FILES = 2000
_MOST_NAMED = 40


class DiscoveryFailed(Exception):
    """The offer cannot be read; a sentence for the operator, without secrets."""


class NowhereToLook(DiscoveryFailed):
    """No place was named where models would be found; those that were added by hand may work all the same."""


@dataclass(frozen=True, slots=True)
class Offered:
    """One model that the upstream lists. `parameters` go to the model's row, such as the path of its file."""

    model_id: str
    model_type: str = "chat"
    context_window: int | None = None
    max_tokens: int | None = None
    capabilities: tuple[str, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True, slots=True)
class Retold:
    """A registered model of which the upstream says other than its row: by field, what stands there and what would."""

    row: ProviderModel
    offer: Offered
    fields: Mapping[str, tuple[Any, Any]]


@dataclass(frozen=True, slots=True)
class Difference:
    """`gone` are enabled rows that are no longer listed; `retold` are of the unchanged ones, without those that a file owns."""

    new: tuple[Offered, ...]
    gone: tuple[ProviderModel, ...]
    unchanged: tuple[ProviderModel, ...]
    retold: tuple[Retold, ...] = ()

    def why_not_refreshed(self, names: Iterable[str]) -> str:
        """Which of these no row can be refreshed by, and which there are; empty where all are registered and listed."""
        known = [row.model_id for row in self.unchanged]
        unknown = sorted(set(names).difference(known))
        if not unknown:
            return ""
        more = f" and {len(known) - _MOST_NAMED:,} more" if len(known) > _MOST_NAMED else ""
        return (
            f"Not both registered here and listed by the upstream: {', '.join(map(repr, unknown))}. "
            f"Those that are: {', '.join(known[:_MOST_NAMED]) or 'none'}{more}."
        )


@dataclass(frozen=True, slots=True)
class Applied:
    added: tuple[str, ...]
    disabled: tuple[str, ...]
    refreshed: tuple[str, ...] = ()


_builtin_files: dict[str, str] = {}
_readers: list[Callable[[Path], Offered]] = []
_directory_readers: list[Callable[[Path, str], Offered | None]] = []


def register_builtin_file(reference: str, label: str) -> None:
    """Offer a file that ships with the product under `reference`, such as `builtin:demo`, as llama.cpp model `label`."""
    _builtin_files[reference] = label


def read_files_with(reader: Callable[[Path], Offered]) -> None:
    """Say how this process learns what a GGUF file is; called at start-up by the layer that can open one."""
    _readers[:] = [reader]


def read_directories_with(reader: Callable[[Path, str], Offered | None]) -> None:
    """The same of a model directory and the name it would have; None when it holds no model."""
    _directory_readers[:] = [reader]


def offered(provider: Provider) -> list[Offered]:
    """What the upstream lists now, by model id. Raises `DiscoveryFailed`."""
    try:
        facts = upstream.load(provider)
        if runs_here(facts):
            found = _offered_here(provider, facts)
        else:
            listed = dialling.list_models(facts)
            if facts.connection.get("anthropic_version"):
                listed = [anthropic_offers.in_common_words(model) for model in listed]
            found = _deployed(listed, facts) if lists_deployments(facts) else [_described(model) for model in listed]
            if facts.kind.name == "gemini":
                found = _by_their_names(found, provider)
            if ollama.is_spoken(facts.connection):
                found = [
                    replace(one, parameters=ollama.parameters(told)) for one, told in zip(found, listed, strict=True)
                ]
    except (upstream.UnusableProvider, dialling.DialFailed) as error:
        raise DiscoveryFailed(str(error)) from error
    unique = {model.model_id: model for model in found if _is_storable(model.model_id)}
    return [unique[model_id] for model_id in sorted(unique)]


def runs_here(facts: upstream.Upstream) -> bool:
    """Whether the type dials nobody: it declares no base URL."""
    return all(parameter.name != "base_url" for parameter in facts.kind.parameters)


def lists_deployments(facts: upstream.Upstream) -> bool:
    """Whether what it lists are deployments, each with a URL of its own."""
    return facts.connection.get("url_style") == "kamiwaza" and kamiwaza.is_platform(text(facts.connection, "base_url"))


def compare(provider: Provider, offers: Iterable[Offered]) -> Difference:
    """Three ways: not in the registry, no longer listed, and both. A row counts under the name that the upstream knows."""
    listed = {offer.model_id: offer for offer in offers}
    rows = list(provider.models.order_by("model_id"))
    names = {_upstream_name(row) for row in rows} | {row.model_id for row in rows}
    meant = [(row, _offer_of(row, listed)) for row in rows]
    retold = [Retold(row, offer, _retold(row, offer)) for row, offer in meant if offer and not row.managed_by]
    return Difference(
        new=tuple(offer for model_id, offer in listed.items() if model_id not in names),
        gone=tuple(row for row, offer in meant if row.enabled and offer is None),
        unchanged=tuple(row for row, offer in meant if offer is not None),
        retold=tuple(one for one in retold if one.fields),
    )


def apply(
    provider: Provider, *, add: Iterable[Offered] = (), disable: Iterable[str] = (), refresh: Iterable[Retold] = ()
) -> Applied:
    """Add these models, disable those ids and let rows say what the upstream does, all or nothing. What is already so stays."""
    # Where deployments answer is the platform's word, not that of whoever ticks them.
    with actor.acting_as(actor.current().name, reason=actor.current().reason), transaction.atomic():
        held = set(provider.models.values_list("model_id", flat=True))
        added = [_add(provider, offer) for offer in add if offer.model_id not in held]
        disabled = list(provider.models.filter(model_id__in=list(disable), enabled=True))
        for row in disabled:
            row.enabled = False
            row.save(update_fields=["enabled"])
        refreshed = [one.row.model_id for one in refresh if _refresh(provider, one)]
    return Applied(tuple(row.model_id for row in added), tuple(row.model_id for row in disabled), tuple(refreshed))


def _retold(row: ProviderModel, offer: Offered) -> dict[str, tuple[Any, Any]]:
    """Words are added and none is taken away, as people know more of a model than a list; numbers are replaced."""
    fields: dict[str, tuple[Any, Any]] = {}
    words = [str(word) for word in row.capabilities] if isinstance(row.capabilities, list) else []
    if missing := sorted(set(offer.capabilities) - canonical(words)):
        fields["capabilities"] = (words, [*words, *missing])
    for name in ("context_window", "max_tokens"):
        before, after = getattr(row, name), getattr(offer, name)
        if after is not None and before != after:
            fields[name] = (before, after)
    return fields


def _refresh(provider: Provider, one: Retold) -> bool:
    row = provider.models.select_for_update().filter(pk=one.row.pk, managed_by="").first()
    fields = {} if row is None else _retold(row, one.offer)
    if row is None or not fields:
        return False
    for name, (_, after) in fields.items():
        setattr(row, name, after)
    row.save(update_fields=list(fields))
    return True


def _add(provider: Provider, offer: Offered) -> ProviderModel:
    return ProviderModel.objects.create(
        provider=provider,
        model_id=offer.model_id,
        model_type=offer.model_type,
        context_window=offer.context_window,
        max_tokens=offer.max_tokens,
        capabilities=list(offer.capabilities),
        parameters=dict(offer.parameters),
    )


def _upstream_name(row: ProviderModel) -> str:
    parameters = row.parameters if isinstance(row.parameters, dict) else {}
    return str(parameters.get("upstream_model_id") or row.model_id)


def _offer_of(row: ProviderModel, listed: Mapping[str, Offered]) -> Offered | None:
    parameters = row.parameters if isinstance(row.parameters, dict) else {}
    path = parameters.get("model_path")
    if "base_urls" in parameters:
        return listed.get(row.model_id)  # its deployments all know it by one name
    of_the_file = (offer for offer in listed.values() if offer.parameters.get("model_path") == path)
    return (next(of_the_file, None) if path else None) or listed.get(_upstream_name(row))


def _is_storable(model_id: str) -> bool:
    try:
        validate_identifier(model_id)
    except ValidationError:
        return False
    return len(model_id) <= 255


def _deployed(listed: list[dict[str, Any]], facts: upstream.Upstream) -> list[Offered]:
    """The models that are deployed now; one that is only being deployed is not offered yet."""
    found = kamiwaza.models(kamiwaza.deployments(listed, facts.connection))
    active = sum(len(model.base_urls) for model in found)
    if active > kamiwaza.MOST_ACTIVE:
        raise DiscoveryFailed(
            f"The platform lists {active:,} deployments; at most {kamiwaza.MOST_ACTIVE} are followed."
        )
    return [
        Offered(
            model.name,
            model_type=_model_type(model.name, {}, frozenset()),
            parameters={"base_urls": list(model.base_urls), "upstream_model_id": kamiwaza.MODEL_IN_CALLS},
            note=f"{len(model.base_urls)} deployments" if len(model.base_urls) != 1 else "1 deployment",
        )
        for model in found
        if model.active
    ]


def _by_their_names(found: Iterable[Offered], provider: Provider) -> list[Offered]:
    """Gemini lists `models/NAME` and answers to NAME too, which is what documents and price lists say. What is registered under the
    longer name keeps it."""
    held = set(provider.models.values_list("model_id", flat=True))
    return [
        one if one.model_id in held else replace(one, model_id=one.model_id.removeprefix("models/")) for one in found
    ]


def _described(model: Mapping[str, Any]) -> Offered:
    """What vendors say of a model beside its id; the words for it differ."""
    model_id = str(model.get("id") or model.get("name"))
    capabilities = canonical(_capabilities(model))
    return Offered(
        model_id=model_id,
        model_type=_model_type(model_id, model, capabilities),
        context_window=_whole(model, "context_length", "context_window", "max_model_len", "max_context_length"),
        max_tokens=_whole(model, "max_completion_tokens", "max_output_tokens"),
        capabilities=tuple(sorted(capabilities)),
        note=str(model.get("owned_by") or ""),
    )


def _capabilities(model: Mapping[str, Any]) -> list[str]:
    told = model.get("capabilities")
    if isinstance(told, Mapping):
        return [str(name) for name, holds in told.items() if holds is True]
    return [str(name) for name in told] if isinstance(told, list) else []


def _model_type(model_id: str, model: Mapping[str, Any], capabilities: frozenset[str]) -> str:
    told = str(model.get("type") or "").lower()
    if told in MODEL_TYPES:
        return told
    if "embedding" in capabilities or told in {"embeddings", "text-embedding"}:
        return "embedding"
    for capability in canonical([told]) & set(MODEL_TYPES):
        return capability
    return guessed_type(model_id)


def guessed_type(model_id: str) -> str:
    """By the words that such models have in their names."""
    named = type_by_name(model_id)
    if named is not None:
        return named
    return "embedding" if any(word in model_id.lower() for word in _EMBEDDING_WORDS) else "chat"


def _whole(model: Mapping[str, Any], *names: str) -> int | None:
    for name in names:
        value = model.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**31:
            return value
    return None


# --- What runs here ------------------------------------------------------------------------------------------------------


def _offered_here(provider: Provider, facts: upstream.Upstream) -> list[Offered]:
    lister = _HERE.get(facts.kind.name)
    if lister is None:
        raise DiscoveryFailed(f"The type {facts.kind.label} cannot list models: add them by hand.")
    return lister(provider)


def _scripted(provider: Provider) -> list[Offered]:
    """The fake answers to any name: what it offers is what is registered, and two names to begin with."""
    registered = [Offered(row.model_id, model_type=row.model_type) for row in provider.models.all()]
    return [*(Offered(model_id, model_type=kind) for model_id, kind in FAKE_MODELS), *registered]


def _gguf_files(provider: Provider) -> list[Offered]:
    """The built-in files and those in GATEWAY_MODEL_FOLDERS; of a split model, its first part stands for all."""
    found = [Offered(label, parameters={"model_path": reference}) for reference, label in _builtin_files.items()]
    for folder in map(Path, settings.GATEWAY_MODEL_FOLDERS):
        found += [_readers[0](path) for path in _files_in(folder.expanduser()) if _is_first_part(path)]
    return found


def _files_in(folder: Path, pattern: str = "*.gguf") -> list[Path]:
    if not folder.is_dir():
        raise DiscoveryFailed(f"The model folder {folder} is not there (GATEWAY_MODEL_FOLDERS).")
    return sorted(path for path in folder.rglob(pattern) if path.is_file())[:_MOST_FILES]


def _model_directories(provider: Provider) -> list[Offered]:
    """Those in GATEWAY_MODEL_FOLDERS, which may be a hub cache, too."""
    if not settings.GATEWAY_MODEL_FOLDERS:
        raise NowhereToLook("GATEWAY_MODEL_FOLDERS names no folder to look for models in: add them by hand.")
    found = []
    for folder in (Path(named).expanduser() for named in settings.GATEWAY_MODEL_FOLDERS):
        for file in _files_in(folder, "config.json"):
            found.append(_directory_readers[0](file.parent, _name_of(file.parent, folder)))
    return [offer for offer in found if offer is not None]


def _name_of(directory: Path, folder: Path) -> str:
    """As in its folder, such as org/name; of a hub cache's snapshot the id that it has on the hub."""
    steps = directory.relative_to(folder).parts or (directory.name,)
    kept = next((step for step in reversed(directory.parts) if step.startswith("models--")), "")
    return (
        kept.removeprefix("models--").replace("--", "/") if kept and "snapshots" in directory.parts else "/".join(steps)
    )


def _is_first_part(path: Path) -> bool:
    part, of, _ = path.stem.rpartition("-of-")
    return not of or part.endswith("-00001")


_HERE: dict[str, Callable[[Provider], list[Offered]]] = {
    "llama_cpp": _gguf_files,
    "transformers": _model_directories,
    "fake": _scripted,
}
