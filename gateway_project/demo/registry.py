"""Sets the demo installation up by the same actions that people use, so that versions, audit entries and import runs come of it."""

from __future__ import annotations

import random
import secrets
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.db import transaction

from gateway_project import entitlements
from gateway_project.demo import legacy, money
from gateway_project.demo.clients import CLIENTS, PEOPLE, Client
from gateway_project.sign_on import Entitlement
from inference.models import AlertChannel, AlertRule
from providers import actor, configuration
from providers.models import ApiKey, Provider, ProviderModel
from providers.secrets import Secret
from routing import issuing, policy_actions, trials
from routing.models import ClientKey, Policy, Rollout, Team
from routing.types import Identity

FILE = Path(__file__).parent / "registry.yaml"
LABEL = "the demo installation"


def build(until: datetime, days: int, chance: random.Random) -> dict[str, Identity]:
    """Everything but the traffic; returns who calls, by the client's name."""
    with actor.acting_as("user:marie", reason="First set-up"):
        configuration.apply_document(FILE.read_text(), label=LABEL, write=True)
        _people()
        _upstream_keys(until)
        keys = {client.name: _client_key(client, until) for client in CLIENTS}
    legacy.bring_over()
    with transaction.atomic():
        money.limits(keys)
        _policies_move_on(until)
        _alerts()
        _rollout()
        _age(until, days, chance)
    return {name: key.identity for name, key in keys.items()}


def _people() -> None:
    users = get_user_model()._default_manager
    for person in PEOPLE:
        user = users.filter(username=person.name).first() or users.create_user(person.name)
        entitlements.grant(user, Entitlement(frozenset(person.roles), person.teams), mapped_teams=(), keeps_roles=False)


_KEYS: tuple[tuple[str, str, str, dict[str, Any]], ...] = (
    ("openai", "main", "sk-proj-", {"weight": 3}),
    ("openai", "second account", "sk-proj-", {"weight": 1}),
    ("openai", "staging", "sk-proj-", {"environment": "staging"}),
    ("azure-eu", "key 1", "", {}),
    ("anthropic", "main", "sk-ant-api03-", {"weight": 2}),
    ("anthropic", "batch jobs", "sk-ant-api03-", {"weight": 1, "expires_in": 19}),
    ("gemini", "project acme-llm", "AIza", {}),
    ("mistral", "main", "", {"expires_in": 61}),
    ("groq", "main", "gsk_", {}),
    ("deepseek", "trial", "sk-", {}),
    ("deepseek", "before the trial", "sk-", {"expires_in": -20, "enabled": False}),
    ("openrouter", "main", "sk-or-v1-", {}),
    ("together", "old contract", "", {"enabled": False}),
)


def _upstream_keys(until: datetime) -> None:
    providers = {row.provider_id: row for row in Provider.objects.all()}
    for provider_id, name, prefix, told in _KEYS:
        values = dict(told)
        days = values.pop("expires_in", None)
        ApiKey(
            provider=providers[provider_id],
            name=name,
            secret=Secret(prefix + secrets.token_hex(20)),  # good nowhere
            expires_at=None if days is None else until + timedelta(days=days),
            **{"environment": settings.GATEWAY_ENVIRONMENT, **values},
        ).save()


def _client_key(client: Client, until: datetime) -> ClientKey:
    days = client.expires_in_days
    key, _ = issuing.issue(
        client.name,
        client.scopes,
        allowed_models=None if client.allowed_models is None else list(client.allowed_models),
        expires_at=None if days is None else until + timedelta(days=days),
        team=Team.objects.get(name=client.team),
        tags=list(client.tags),
        role=client.role,
        captures_content=client.captures_content,
    )
    if client.state == "suspended":
        with actor.acting_as("user:omar", reason="Costs three times what was agreed; talking to the data team"):
            key.suspend()
    elif client.state == "revoked":
        with actor.acting_as("user:kim", reason="The connector was switched off"):
            key.revoke("The connector was switched off")
    return key


def _policies_move_on(until: datetime) -> None:
    """Some have a past, one has a next version on trial."""
    with actor.acting_as("user:omar"):
        fast = Policy.objects.get(name="fast")
        longer = {**fast.document, "fallbacks": [*fast.document["fallbacks"], "gemini-2.5-flash"]}
        policy_actions.update(fast, {"document": longer}, note="One way out more, after the outage of the eleventh")
        summarise = Policy.objects.get(name="summarise")
        with_limit = {**summarise.document, "max_cost": "0.05"}
        policy_actions.update(summarise, {"document": with_limit}, note="No digest is worth more than five cents")
        policy_actions.restore(Policy.objects.get(name="summarise"), 1, "Long papers were refused")
        support = Policy.objects.get(name="support-assistant")
        targets = [{"model": "openai/gpt-4o", "weight": 30}, {"model": "claude-haiku-4-5", "weight": 70}]
        trials.start(
            support,
            {**support.document, "targets": targets},
            25,
            {"min_requests": 20, "window_seconds": 86_400},
            note="Haiku answers as well, for a third of the money",
        )


_FAILING = {"name": "Provider failing", "least_requests": 3, "recover_minutes": 5}


def _alerts() -> None:
    with actor.acting_as("user:omar"):
        channel = AlertChannel(name="on call", kind="email", recipients=["on-call@demo.invalid"], enabled=False)
        channel.full_clean()
        channel.save()
        for values in (
            {**_FAILING, "signal": "error_rate", "told_for": "provider", "threshold": 20, "window_minutes": 15},
            {"name": "Budget nearly used up", "signal": "budget_used", "threshold": 80},
            {"name": "Client key expires", "signal": "key_expiring", "threshold": 7},
            {"name": "Spend of an hour", "signal": "hourly_cost", "told_for": "gateway", "threshold": 15},
            {"name": "Probe failing", "signal": "probe_failing", "threshold": 2},
        ):
            rule = AlertRule(**values)
            rule.full_clean()
            rule.save()


def _rollout() -> None:
    with actor.acting_as("user:marie", reason="All clients are over; the old system is kept for a while"):
        Rollout.change(percentage=Decimal(100), legacy_base_url="http://legacy-gateway.demo.invalid:8080")


def _age(until: datetime, days: int, chance: random.Random) -> None:
    """The rows are older than the traffic; when a change was made stands in the audit log, and is not made up."""
    old = until - timedelta(days=days + 20)
    for model in (Provider, ProviderModel, ApiKey, Team):
        model._base_manager.update(created_at=old)
    for key in ClientKey._base_manager.all():
        ClientKey._base_manager.filter(pk=key.pk).update(created_at=old + timedelta(days=chance.random() * 15))
    Policy._base_manager.exclude(candidate_version=None).update(
        candidate_since=until - timedelta(days=min(days, 4) / 2)
    )
