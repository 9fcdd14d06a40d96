"""What the candidate of a policy must keep to while it is tried, and whether it does. Pure: the figures are arguments.

A gate compares the candidate's requests with those of the version that counts, over the same time. Before the candidate has served
enough of them nothing is concluded, and a difference that chance explains is none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import sqrt
from typing import Any

_STANDARD_ERRORS = 2.0

WAITING, KEPT, BROKEN = "waiting", "kept", "broken"


@dataclass(frozen=True, slots=True)
class Gate:
    """`max_error_rate_increase` is a difference of shares, `max_latency_ratio` one of medians; None does not look at it.

    `window_seconds` is how far back requests count, from the start of the trial at the earliest.
    """

    max_error_rate_increase: float | None = 0.02
    max_latency_ratio: float | None = 1.5
    min_requests: int = 100
    window_seconds: float = 3600.0


@dataclass(frozen=True, slots=True)
class Figures:
    """How requests of one version went. `latency_ms` is the median until the reply, or the first of a stream, was there."""

    requests: int = 0
    errors: int = 0
    latency_ms: float | None = None
    """None when none succeeded."""
    cost: float | None = None
    """Of the average request, where prices are known."""

    @property
    def error_rate(self) -> float:
        return self.errors / self.requests if self.requests else 0.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """`outcome` is `waiting`, `kept` or `broken`; `sentence` says why."""

    outcome: str
    sentence: str


class BadGate(ValueError):
    """`problems` are sentences by member."""

    def __init__(self, problems: Mapping[str, str]) -> None:
        self.problems = dict(problems)
        super().__init__("; ".join(f"{name}: {sentence}" for name, sentence in problems.items()))


_LIMITS: Mapping[str, tuple[float, float, bool]] = {
    "max_error_rate_increase": (0.0, 1.0, True),
    "max_latency_ratio": (1.0, 100.0, True),
    "min_requests": (1, 1_000_000, False),
    "window_seconds": (60.0, 30 * 86_400.0, False),
}
"""The least, the most, and whether null may stand there."""


def read(told: Any) -> Gate:
    """The gate that a document of plain values means; what it leaves out is as usual. Raises `BadGate`."""
    if told is None:
        return Gate()
    if not isinstance(told, Mapping):
        raise BadGate({"": "An object is needed."})
    problems = {str(name): "There is no such member." for name in told if name not in _LIMITS}
    values: dict[str, Any] = {}
    for name, (least, most, may_be_null) in _LIMITS.items():
        if name not in told:
            continue
        value = told[name]
        if value is None and may_be_null:
            values[name] = None
        elif isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            problems[name] = f"A number from {least:g} to {most:g} is needed."
        elif name == "min_requests" and value != int(value):
            problems[name] = "A whole number is needed."
        else:
            values[name] = int(value) if name == "min_requests" else float(value)
    if problems:
        raise BadGate(problems)
    return Gate(**values)


def as_document(gate: Gate) -> dict[str, Any]:
    return asdict(gate)


def judge(gate: Gate, candidate: Figures, active: Figures) -> Verdict:
    """Whether the candidate keeps to the gate, measured by the version that counts."""
    for whose, figures in (("the candidate", candidate), ("the version that counts", active)):
        if figures.requests < gate.min_requests:
            seen = f"{figures.requests} of {gate.min_requests} requests"
            return Verdict(WAITING, f"{whose} has served {seen} that are needed to judge")
    broken = [
        sentence for sentence in (_errors(gate, candidate, active), _latency(gate, candidate, active)) if sentence
    ]
    if broken:
        return Verdict(BROKEN, "; ".join(broken))
    return Verdict(KEPT, f"{candidate.requests} requests of the candidate keep to the gate")


def _errors(gate: Gate, candidate: Figures, active: Figures) -> str:
    most = gate.max_error_rate_increase
    if most is None or candidate.error_rate - active.error_rate <= most or _by_chance(candidate, active):
        return ""
    return (
        f"{candidate.error_rate:.1%} of the candidate's requests failed, {active.error_rate:.1%} of the others': "
        f"more than {most * 100:g} points above"
    )


def _by_chance(candidate: Figures, active: Figures) -> bool:
    """Whether two samples of one and the same error rate would often differ as much: below two standard errors. It is asked again
    and again while a trial runs, so a few unlucky requests at its start must not end it."""
    share = (candidate.errors + active.errors) / (candidate.requests + active.requests)
    spread = sqrt(share * (1 - share) * (1 / candidate.requests + 1 / active.requests))
    return candidate.error_rate - active.error_rate < _STANDARD_ERRORS * spread


def _latency(gate: Gate, candidate: Figures, active: Figures) -> str:
    most = gate.max_latency_ratio
    if most is None or not candidate.latency_ms or not active.latency_ms:
        return ""
    if candidate.latency_ms <= most * active.latency_ms:
        return ""
    return (
        f"the candidate answers in {candidate.latency_ms:.0f} ms, the others in {active.latency_ms:.0f} ms: "
        f"more than {most:g} times as long"
    )
