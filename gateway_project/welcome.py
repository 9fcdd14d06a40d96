"""The first steps of an installation, each done by what is there and not by a click: provider, test, model, key, request.

`add_the_fake` and its neighbours do what one button can.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.core.cache import cache
from django.db import transaction
from django.db.models import F
from django.utils.translation import gettext as _

from inference.models import UsageRollup
from providers import actions, cells, probes
from providers.models import ProbeResult, Provider, ProviderModel
from providers.secrets import Secret
from routing import issuing, visibility
from routing.models import ClientKey
from routing.rollout import GATEWAY

PROVIDER, TEST, MODEL, KEY, REQUEST = "provider", "test", "model", "key", "request"
FAKE, FAKE_CHAT, FAKE_EMBEDDING = "fake", "fake-chat", "fake-embedding"
FAKE_PRIORITY = 100
"""It must not serve requests that name no model once there are real ones."""
KEY_NAME = "First key"
MAY_SEE = "providers.view_provider"
_MOST_KEYS = 100
_DONE = "welcome-done"
_DONE_SECONDS = 3600


@dataclass(frozen=True, slots=True)
class Step:
    """`fact` says what was found, and `at` when, where it is done."""

    name: str
    title: str
    why: str
    fact: str = ""
    at: datetime | None = None

    @property
    def done(self) -> bool:
        return bool(self.fact)


def sees(user: Any) -> bool:
    return user.has_perm(MAY_SEE) and visibility.sees_everything(user)


def steps() -> list[Step]:
    """All five, as they stand now."""
    return [find() for find in _STEPS]


def unfinished() -> list[Step]:
    """All five while one of them waits; none once everything is done."""
    if cache.get(_DONE):
        return []
    told = steps()
    if all(step.done for step in told):
        cache.set(_DONE, True, _DONE_SECONDS)
        return []
    return told


def is_empty(told: list[Step]) -> bool:
    """Nobody answers and nobody asked: there is nothing to tell of yet."""
    return bool(told) and not told[0].done and not told[-1].done


# --- What is there --------------------------------------------------------------------------------------------------------------


def _provider() -> Step:
    row = _first_provider()
    return Step(
        PROVIDER,
        _("Add a provider"),
        _("Somebody has to answer: a vendor, a server of your own, or the built-in fake one that needs no key."),
        str(row) if row else "",
        row.created_at if row else None,
    )


def _test() -> Step:
    row = (
        ProbeResult.objects.filter(healthy=True, provider__enabled=True)
        .select_related("provider")
        .order_by("id")
        .last()
    )
    fact = _("%(provider)s passed every stage") % {"provider": row.provider} if row else ""
    if not row and _first_answer():
        fact = _("proven by an answered request")
    return Step(
        TEST,
        _("Test it until it is green"),
        _("The test walks from DNS to a first token, and names the stage that fails in the upstream's own words."),
        fact,
        row.at if row else None,
    )


def _model() -> Step:
    row = _usable_models().order_by("provider__priority", "pk").first()
    return Step(
        MODEL,
        _("Enable a model"),
        _("Models are read from the provider; only those that you enable can be asked for."),
        row.route if row else "",
        row.created_at if row else None,
    )


def _key() -> Step:
    row = next(filter(_lets_somebody_ask, _keys()), None)
    return Step(
        KEY,
        _("Create a client key"),
        _("Clients show it with each request. It says what they may use, and is shown to you once."),
        row.name if row else "",
        row.created_at if row else None,
    )


def _request() -> Step:
    row = _first_answer()
    return Step(
        REQUEST,
        _("See the first answer"),
        _("Ask something in the playground, or with any client of OpenAI's API."),
        (row.requested_model or f"{row.provider_id}/{row.model_id}") if row else "",
        row.last_at if row else None,
    )


_STEPS: tuple[Callable[[], Step], ...] = (_provider, _test, _model, _key, _request)


def _first_provider() -> Provider | None:
    return Provider.objects.filter(enabled=True).defer("secret_params").order_by("priority", "pk").first()


def _usable_models() -> Any:
    usable = ProviderModel.objects.filter(enabled=True, provider__enabled=True, auto_disabled_at__isnull=True)
    return usable.select_related("provider").defer("provider__secret_params")


def _keys() -> Any:
    there = ClientKey.objects.filter(enabled=True, revoked_at__isnull=True, person=None)
    return there.select_related("team").order_by("created_at")[:_MOST_KEYS]


def _lets_somebody_ask(key: ClientKey) -> bool:
    return key.state == "active" and bool({"generate", "admin"} & set(key.scopes))


def _first_answer() -> UsageRollup | None:
    answered = UsageRollup.objects.filter(side=GATEWAY, requests__gt=F("failed") + F("left"))
    return answered.order_by("hour").first()


def model_to_ask() -> str:
    """A model that the playground can begin with; empty where none is enabled."""
    row = _usable_models().filter(model_type="chat").order_by("provider__priority", "pk").first()
    return row.model_id if row else ""


# --- What a button does ---------------------------------------------------------------------------------------------------------


def add_the_fake() -> tuple[Provider, ProbeResult]:
    """The built-in provider with its two models, tested at once. Raises `AlreadyExists` where there is one of its name."""
    with transaction.atomic():
        provider = actions.create_provider(
            {
                "provider_id": FAKE,
                "provider_type": "fake",
                "display_name": "Built-in fake",
                "description": "Says back what it is asked, without a model or a key: for trying the gateway out.",
                "connection_params": {"delay_seconds": 0.05},
                "priority": FAKE_PRIORITY,
            },
            models=[
                {
                    "model_id": FAKE_CHAT,
                    "model_type": "chat",
                    "context_window": 8192,
                    **_costs_nothing("chat", "streaming"),
                },
                {"model_id": FAKE_EMBEDDING, "model_type": "embedding", "dimension": 8, **_costs_nothing("embedding")},
            ],
        )
    return provider, probes.probe(provider, trigger="admin")


def _costs_nothing(*capabilities: str) -> dict[str, Any]:
    return {"capabilities": list(capabilities), "input_cost_per_million": 0, "output_cost_per_million": 0}


def test_the_first() -> ProbeResult | None:
    """Of the provider that is asked first; None without one."""
    provider = _first_provider()
    return probes.probe(provider, trigger="admin") if provider is not None else None


def make_a_key() -> tuple[ClientKey, Secret]:
    """A key that may generate and nothing else; its secret is shown once."""
    return issuing.issue(KEY_NAME, ["generate"])


def in_words(result: ProbeResult) -> str:
    """What a probe found, for a message."""
    word, _tone = cells.state_of(result)
    return _("%(provider)s is %(state)s. %(why)s") % {"provider": result.provider, "state": word, "why": result.message}
