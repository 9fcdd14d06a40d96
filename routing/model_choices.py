"""What is live for a caller, and the choice that a session keeps: the registry, the state of the routes and the store together."""

from __future__ import annotations

import time
from dataclasses import dataclass

from providers import offers
from providers.capabilities import serves
from routing import health, live_models, selections, snapshot
from routing.live_models import Choice, Listing, Reading
from routing.types import Identity, ModelView


class NothingChosen(ValueError):
    """Neither a name nor a capability was given."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """`session_id` is None where the choice holds for the client key as a whole."""

    choice: Choice
    session_id: str | None
    expires_in_seconds: int


def listed(identity: Identity | None = None) -> Listing:
    """What the caller can ask for now."""
    return live_models.listing(snapshot.refresh(), health.read(), readings(), identity, now=time.time())


def choose(
    identity: Identity | None = None,
    *,
    model_name: str | None = None,
    capability: str | None = None,
    session_id: str | None = None,
) -> Chosen:
    """Keep a model for the caller's session; a name goes before a capability.

    Raises `NothingChosen`, `live_models.NoSuchChoice` and `selections.SelectionsAway`.
    """
    if not model_name and not capability:
        raise NothingChosen("Name a model, or say which capability it must have.")
    held, now = snapshot.refresh(), time.time()
    if model_name:
        choice = live_models.by_name(model_name, held, identity, now=now)
    else:
        choice = live_models.by_capability(capability or "", held, identity, now=now)
    prefix = "" if identity is None else identity.prefix
    selections.select(prefix, session_id, choice.name, embeddings=_only_embeds(choice.model))
    return Chosen(choice, session_id or None, selections.DAY_SECONDS)


def _only_embeds(model: ModelView) -> bool:
    return not serves(model.model_type, model.capabilities, "chat") and serves(
        model.model_type, model.capabilities, "embeddings"
    )


def readings() -> dict[str, Reading]:
    """By provider id, of the providers whose models come and go."""
    rows = offers.Offer.objects.values_list("provider__provider_id", "read_at", "problem")
    return {
        provider_id: Reading(read_at.timestamp() if read_at else None, problem)
        for provider_id, read_at, problem in rows
    }
