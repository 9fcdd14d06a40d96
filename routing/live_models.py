"""Which models can be asked for now, and which one a choice by name or by capability means. Pure.

What can be asked for is what the snapshot holds and the caller's key allows. A choice is made by what is declared of a model,
never by what its name sounds like, and by the rules of every request: `routing.decide` decides.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit, urlunsplit

from providers.capabilities import canonical
from routing import filters
from routing.decide import decide
from routing.types import NOMINAL, Conditions, Identity, ModelView, RequestFacts, RouteDecision, Snapshot

DEFAULT, FALLBACK = "default", "fallback"
"""The policies that say which model serves where none is named, and which one when that fails."""

ACTIVE, FAILING = "active", "failing"

_OPERATIONS = {"chat": "chat", "completion": "completions", "embedding": "embeddings"}
"""Capabilities that are operations: a model has them by its type, or by declaring them."""


@dataclass(frozen=True, slots=True)
class Reading:
    """When a provider's list of models was read, in epoch seconds; `problem` says why it could not be read again."""

    read_at: float | None
    problem: str = ""

    @property
    def stale(self) -> bool:
        return bool(self.problem) or self.read_at is None


@dataclass(frozen=True, slots=True)
class LiveModel:
    model: ModelView
    status: str
    """`active`, or `failing` while its breaker is not closed."""
    reading: Reading | None = None
    """Of a provider whose models come and go."""


@dataclass(frozen=True, slots=True)
class Listing:
    """`default` and `fallback` are what would serve now; None where nothing would."""

    models: tuple[LiveModel, ...]
    default: ModelView | None
    fallback: ModelView | None
    readings: Mapping[str, Reading] = field(default_factory=dict)
    """By provider id."""

    @property
    def stale(self) -> bool:
        return any(reading.stale for reading in self.readings.values())

    @property
    def read_at(self) -> float | None:
        """The oldest reading that the list is made of."""
        return min((reading.read_at for reading in self.readings.values() if reading.read_at), default=None)


@dataclass(frozen=True, slots=True)
class Choice:
    """`name` is what a session keeps; `model` what it means now. `warning` is set where the two are not the same."""

    name: str
    model: ModelView
    warning: str = ""


class NoSuchChoice(LookupError):
    """A sentence for whoever chose."""


def listing(
    snapshot: Snapshot,
    conditions: Conditions,
    readings: Mapping[str, Reading],
    identity: Identity | None = None,
    *,
    now: float,
) -> Listing:
    shown = [model for model in snapshot.models if filters.permits(identity, model) and not model.auto_disabled]
    default, fallback = standing(snapshot, identity, now=now)
    return Listing(
        models=tuple(
            LiveModel(
                model,
                ACTIVE if conditions.of(model.route).breaker == "closed" else FAILING,
                readings.get(model.provider.provider_id),
            )
            for model in shown
        ),
        default=default,
        fallback=fallback,
        readings={name: reading for name, reading in readings.items() if name in snapshot.providers},
    )


def standing(
    snapshot: Snapshot, identity: Identity | None = None, *, now: float
) -> tuple[ModelView | None, ModelView | None]:
    """The model that serves where none is named, and the one that follows when it fails."""
    name = DEFAULT if DEFAULT in snapshot.policies else ""
    first = _decided(RequestFacts(model=name, identity=identity), snapshot, now).candidates
    if FALLBACK in snapshot.policies:
        second = _decided(RequestFacts(model=FALLBACK, identity=identity), snapshot, now).candidates
        return _model(first, 0), _model(second, 0)
    return _model(first, 0), _model(first, 1)


def by_name(name: str, snapshot: Snapshot, identity: Identity | None = None, *, now: float) -> Choice:
    """What a name means. Raises `NoSuchChoice`."""
    for operation in ("chat", "embeddings"):
        decision = _decided(RequestFacts(model=name, operation=operation, identity=identity), snapshot, now)
        if decision.candidates:
            break
    else:
        raise NoSuchChoice(_unknown(name, decision))
    model = decision.candidates[0].model
    if name in (model.model_id, model.route):
        return Choice(name, model)
    if decision.policy and not decision.notices:
        return Choice(name, model, f"{name!r} is a policy; it means {model.model_id!r} now")
    return Choice(model.route, model, "; ".join(decision.notices) or f"{name!r} means {model.model_id!r} now")


def by_capability(capability: str, snapshot: Snapshot, identity: Identity | None = None, *, now: float) -> Choice:
    """The model to use for what is to be done: of the default policy's models if one can, else of all. Raises `NoSuchChoice`."""
    (wanted,) = canonical([capability]) or {""}
    facts = RequestFacts(identity=identity, operation=_OPERATIONS.get(wanted, "chat"))
    if wanted == "vision":
        facts = replace(facts, require_vision=True)
    elif wanted not in _OPERATIONS:
        facts = replace(facts, capabilities=frozenset({wanted}))
    anywhere = replace(snapshot, defaults=replace(snapshot.defaults, default_policy=""))
    tries = [(replace(facts, model=DEFAULT), snapshot)] if DEFAULT in snapshot.policies else []
    for asked, where in (*tries, (facts, snapshot), (facts, anywhere)):
        candidates = _decided(asked, where, now).candidates
        if candidates:
            model = candidates[0].model
            return Choice(model.route, model)
    raise NoSuchChoice(f"No model that you may use declares the capability {capability!r}.")


def endpoint_of(model: ModelView) -> str:
    """Where it answers, without anything that could be a secret; empty for what runs here."""
    urls = model.parameters.get("base_urls")
    url = urls[0] if isinstance(urls, list | tuple) and urls else model.provider.connection.get("base_url")
    return public_url(str(url)) if url else ""


def public_url(url: str) -> str:
    """A URL without user, password, query and fragment."""
    try:
        parts = urlsplit(url)
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
    except ValueError:
        return ""


def capabilities_of(model: ModelView) -> Iterator[str]:
    """What is declared of it, its type included."""
    yield from sorted(model.capabilities | {model.model_type})


def _decided(facts: RequestFacts, snapshot: Snapshot, now: float) -> RouteDecision:
    return decide(facts, snapshot, NOMINAL, now=now)


def _model(candidates: tuple, place: int) -> ModelView | None:
    return candidates[place].model if len(candidates) > place else None


def _unknown(name: str, decision: RouteDecision) -> str:
    sentence = f"No model is named {name!r}, or you do not have access to it."
    return f"{sentence} Did you mean: {', '.join(decision.nearest)}?" if decision.nearest else sentence
