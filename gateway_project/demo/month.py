"""The demo data as a whole: what is made, in which order."""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.contrib.auth import get_user_model

from gateway_project.demo import batches, live_state, money, registry, surroundings, writing
from gateway_project.demo.traffic import Traffic
from inference.models import UsageRecord
from providers.models import ImportRun, Provider
from routing import snapshot

ADMIN = "demo"


@dataclass(frozen=True, slots=True)
class Plan:
    until: datetime
    days: int = 30
    requests: int = 40_000
    seed: int = 7

    @property
    def begin(self) -> datetime:
        return self.until - timedelta(days=self.days)


def what_is_there() -> str:
    """What speaks against writing here, in words; empty for an installation that nobody uses yet."""
    providers = Provider.objects.exclude(provider_type__in=("fake", "llama_cpp")).count()
    if providers:
        return f"it has {providers} provider{'s' if providers > 1 else ''}"
    return "it has recorded requests" if UsageRecord.objects.exists() else ""


def is_told_already() -> bool:
    return ImportRun.objects.filter(source_label=registry.LABEL).exists()


def fill(plan: Plan, told: Callable[[int], None]) -> int:
    """Everything; `told` hears of the requests as they are written. Returns how many there are."""
    chance = random.Random(plan.seed)
    identities = registry.build(plan.until, plan.days, chance)
    held = snapshot.refresh()
    traffic = Traffic(
        held,
        identities,
        begin=plan.begin,
        until=plan.until,
        count=plan.requests,
        seed=plan.seed,
    )
    writes = writing.Writing(told)
    writes.write(traffic.entries())
    money.budgets(plan.until)
    surroundings.probes(plan.until, chance)
    surroundings.jobs(plan.until, chance)
    batches.batches(plan.until, chance)
    surroundings.conversations()
    surroundings.late_price(plan.until, plan.days)
    live_state.write(held, traffic.unwell, traffic.figures(), plan.until)
    surroundings.incidents(plan.begin, plan.until)
    writing.forget_old_traces(plan.until)
    writing.settle_statistics()
    return writes.written


def somebody_to_sign_in() -> tuple[str, str]:
    """A superuser with a password that nobody knew before."""
    password = secrets.token_urlsafe(9)
    users = get_user_model()._default_manager
    user = users.filter(username=ADMIN).first() or users.create_superuser(ADMIN)
    user.set_password(password)
    user.save()
    return ADMIN, password
