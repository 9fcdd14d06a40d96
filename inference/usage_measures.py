"""What usage can be measured by, and what of it sums are kept of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.utils.translation import gettext_lazy as _

from inference.rollup_models import DURATION, FIRST_BYTE
from inference.spend_reports import MODEL, OPERATION, PROVIDER, Line, Question, Sight

MONEY, COUNT, SHARE, MILLISECONDS = "money", "count", "share", "milliseconds"
TIMED = (MODEL, PROVIDER, OPERATION)
"""How long requests took is summed by these alone."""


@dataclass(frozen=True, slots=True)
class Measure:
    """`value` is of a line of a report; one of times has none, and says what is timed and at which percentile instead."""

    label: Any
    kind: str
    value: Callable[[Line], Decimal | None] | None = None
    timed: str = ""
    percent: float = 0.0
    good_up: bool | None = None
    """Whether more is better; None where it is neither."""

    @property
    def adds_up(self) -> bool:
        return self.kind in (MONEY, COUNT)


def _error_rate(line: Line) -> Decimal | None:
    return Decimal(line.failed) / line.requests if line.requests else None


def _count(label: Any, *names: str, good_up: bool | None = None) -> Measure:
    return Measure(label, COUNT, lambda line: Decimal(sum(getattr(line, name) for name in names)), good_up=good_up)


MEASURES = {
    "cost": Measure(_("spend"), MONEY, lambda line: line.cost),
    "requests": _count(_("requests"), "requests"),
    "tokens": _count(_("tokens"), "input_tokens", "output_tokens"),
    "input": _count(_("tokens in"), "input_tokens"),
    "output": _count(_("tokens out"), "output_tokens"),
    "cached": _count(_("cached tokens"), "cached_tokens", good_up=True),
    "failed": _count(_("errors"), "failed", good_up=False),
    "error_rate": Measure(_("error rate"), SHARE, _error_rate, good_up=False),
    "rescued": _count(_("rescued requests"), "rescued"),
    "p50": Measure(_("latency, median"), MILLISECONDS, timed=DURATION, percent=50, good_up=False),
    "p95": Measure(_("latency, p95"), MILLISECONDS, timed=DURATION, percent=95, good_up=False),
    "ttft": Measure(_("first token, p95"), MILLISECONDS, timed=FIRST_BYTE, percent=95, good_up=False),
}


def untimed(groups: tuple[str, ...], question: Question, sight: Sight) -> list[str]:
    """What stands in the way of telling times: groups and filters that they are not summed by."""
    filters = [name for name in ("key", "team", "policy", "tag") if getattr(question, name) not in ("", None)]
    narrowed = ["team"] if sight.teams is not None or sight.key_id is not None else []
    return list(dict.fromkeys([*(name for name in groups if name not in TIMED), *filters, *narrowed]))
