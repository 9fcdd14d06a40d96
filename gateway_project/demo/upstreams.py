"""How providers behave: how fast they answer, how often they fail, and when one of them was down. Pure, by a given chance."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from routing.types import ModelView


@dataclass(frozen=True, slots=True)
class Manner:
    """Medians: seconds to the first byte, tokens in a second; `failing` is the share of tries that go wrong on a good day."""

    first_byte: float = 0.55
    tokens_per_second: float = 70.0
    failing: float = 0.004


_USUAL = Manner()
MANNERS = {
    "openai": Manner(0.48, 85),
    "openai/gpt-5": Manner(1.9, 62),
    "openai/gpt-5-mini": Manner(0.9, 95),
    "openai/o4-mini": Manner(2.4, 90),
    "openai/text-embedding-3-small": Manner(0.09, 4000, 0.001),
    "openai/text-embedding-3-large": Manner(0.14, 4000, 0.001),
    "azure-eu": Manner(0.62, 60),
    "anthropic": Manner(0.85, 82, 0.006),
    "anthropic/claude-opus-4-1": Manner(1.6, 55, 0.006),
    "anthropic/claude-haiku-4-5": Manner(0.42, 130, 0.005),
    "gemini": Manner(0.7, 120),
    "gemini/gemini-2.5-pro": Manner(2.8, 75),
    "mistral": Manner(0.4, 80),
    "groq": Manner(0.14, 380, 0.012),
    "deepseek": Manner(1.1, 32, 0.015),
    "openrouter": Manner(0.9, 55, 0.008),
    "gpu-lab": Manner(0.22, 64, 0.003),
    "gpu-lab/bge-m3": Manner(0.03, 4000, 0.001),
    "guide": Manner(0.01, 500, 0.0),
}


def manner(model: ModelView) -> Manner:
    return MANNERS.get(model.route) or MANNERS.get(model.provider.provider_id, _USUAL)


@dataclass(frozen=True, slots=True)
class Failure:
    """How a try went wrong: status and code as the gateway words them, after so many seconds."""

    status: int
    code: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Outage:
    """A provider that answers almost nobody for a while."""

    provider_id: str
    begin: datetime
    end: datetime
    status: int
    code: str
    seconds: float
    share: float = 0.96

    def holds(self, provider_id: str, at: datetime) -> bool:
        return provider_id == self.provider_id and self.begin <= at < self.end


_NOISE = (
    (429, "rate_limit_exceeded", 0.15),
    (502, "upstream_error", 0.6),
    (504, "upstream_timeout", 30.0),
    (502, "upstream_unreachable", 3.0),
    (502, "upstream_broken", 1.2),
)


def outages(until: datetime) -> list[Outage]:
    def ago(days: float, minutes: float, *rest: object) -> tuple[datetime, datetime]:
        begin = until - timedelta(days=days)
        return begin, begin + timedelta(minutes=minutes)

    return [
        Outage("anthropic", *ago(0.24, 40), 502, "upstream_error", 0.9),
        Outage(
            "deepseek", until - timedelta(hours=11), until + timedelta(days=1), 502, "upstream_unreachable", 3.0, 1.0
        ),
        Outage("openai", *ago(6.42, 17), 429, "rate_limit_exceeded", 0.2, 0.7),
        Outage("groq", *ago(11.3, 55), 502, "upstream_unreachable", 3.0),
        Outage("gemini", *ago(19.55, 26), 504, "upstream_timeout", 30.0),
    ]


def failure(model: ModelView, at: datetime, known: Sequence[Outage], chance: random.Random) -> Failure | None:
    """How a try goes wrong there at that moment; None when it is answered."""
    provider_id = model.provider.provider_id
    for outage in known:
        if outage.holds(provider_id, at) and chance.random() < outage.share:
            return Failure(outage.status, outage.code, outage.seconds * chance.uniform(0.7, 1.4))
    if chance.random() < manner(model).failing:
        status, code, seconds = chance.choice(_NOISE)
        return Failure(status, code, seconds * chance.uniform(0.8, 1.2))
    return None


def spread(median: float, sigma: float, chance: random.Random) -> float:
    """As times and lengths are spread: few are many times the median."""
    return chance.lognormvariate(math.log(median), sigma)
