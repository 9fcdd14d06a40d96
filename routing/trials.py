"""A new version of a policy, tried on a share of the clients before it counts for all.

The candidate has its number from the beginning: the rows of usage name it, and promoted it keeps it. Who gets it is settled by the
policy's salt and what the client is known by, so a client stays with its version while the share stands, and a larger share
only adds clients. Each step is one transaction with its audit entry, and raises the revision.

While it runs, its requests are compared with those of the version that counts (`routing.trial_gates`); `roll_back` takes every client
from a candidate that breaks its gate, and leaves it there to be looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone

from providers import actor
from routing import trial_gates
from routing.models import Policy
from routing.trial_gates import BadGate, Figures, Gate, Verdict

NONE, RUNNING, PAUSED, ROLLED_BACK = "none", "running", "paused", "rolled_back"

ReadFigures = Callable[[str, int, datetime, datetime], Figures]
"""The requests of a policy's version between two moments."""


class NoTrial(LookupError):
    """The policy has no candidate."""

    def __init__(self, name: str) -> None:
        super().__init__(f"No other version of the policy {name} is being tried.")


class TrialRunning(Exception):
    """One candidate at a time."""

    def __init__(self, name: str, number: int) -> None:
        super().__init__(f"Version {number} of the policy {name} is being tried: promote it or stop it first.")


@dataclass(frozen=True, slots=True)
class Trial:
    """`percentage` is the share of clients that get the candidate; `finding` what was found when its gate broke."""

    state: str
    policy: str
    active_version: int
    candidate_version: int | None = None
    document: Mapping[str, Any] | None = None
    percentage: Decimal = Decimal(0)
    gate: Gate | None = None
    since: datetime | None = None
    finding: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Both versions over the same time."""

    since: datetime
    candidate: Figures
    active: Figures
    active_since: datetime
    """Earlier than `since` where the version that counts has served too little beside the candidate."""
    verdict: Verdict


def of(policy: Policy) -> Trial:
    """How it stands with the policy."""
    if policy.candidate is None or policy.candidate_version is None:
        return Trial(NONE, policy.name, policy.version)
    return Trial(
        _state(policy),
        policy.name,
        policy.version,
        policy.candidate_version,
        policy.candidate,
        policy.candidate_percentage,
        trial_gates.read(policy.candidate_gate or None),
        policy.candidate_since,
        policy.candidate_finding,
    )


def _state(policy: Policy) -> str:
    if policy.candidate_finding is not None:
        return ROLLED_BACK
    return RUNNING if policy.candidate_percentage else PAUSED


def start(
    policy: Policy, document: Any, percentage: Any, gate: Mapping[str, Any] | None = None, *, note: str = ""
) -> Policy:
    """Give this share of the clients the document as the next version. Raises `TrialRunning` and `ValidationError`.

    A candidate that was rolled back makes place for the next.
    """
    with transaction.atomic(), actor.giving_reason(note or actor.current().reason):
        policy = _locked(policy)
        if policy.candidate_version is not None and _state(policy) != ROLLED_BACK:
            raise TrialRunning(policy.name, policy.candidate_version)
        number = policy.next_version()
        policy.candidate, policy.candidate_version = document, number
        policy.candidate_percentage = _share(percentage)
        policy.candidate_gate = _gate(gate)
        policy.candidate_since, policy.candidate_finding = timezone.now(), None
        policy.full_clean()
        if policy.candidate == policy.document:
            raise ValidationError({"document": "It says what the policy says already."})
        policy.save()
        policy.versions.create(
            number=number, document=policy.candidate, note=note or "tried", created_by=actor.current().name
        )
    return policy


def change(policy: Policy, *, percentage: Any = None, gate: Mapping[str, Any] | None = None, note: str = "") -> Policy:
    """Another share, another gate; what the gate leaves out stays. A share above zero gives a candidate that was rolled back another chance: its figures begin
    anew. Raises `NoTrial` and `ValidationError`."""
    with transaction.atomic(), actor.giving_reason(note or actor.current().reason):
        policy = _with_candidate(policy)
        if gate is not None:
            policy.candidate_gate = _gate({**policy.candidate_gate, **gate} if isinstance(gate, Mapping) else gate)
        if percentage is not None:
            policy.candidate_percentage = _share(percentage)
            if policy.candidate_percentage and policy.candidate_finding is not None:
                policy.candidate_since, policy.candidate_finding = timezone.now(), None
        policy.full_clean()
        policy.save()
    return policy


def promote(policy: Policy, *, note: str = "") -> Policy:
    """Let the candidate count for all, under the number that it has. Raises `NoTrial`."""
    with transaction.atomic(), actor.giving_reason(note or actor.current().reason):
        policy = _with_candidate(policy)
        policy.document, policy.promoted_version = policy.candidate, policy.candidate_version
        _remember(policy, note or "promoted")
        _without_candidate(policy)
        policy.full_clean()
        policy.save()
    return policy


def stop(policy: Policy, *, note: str = "") -> Policy:
    """End the trial; what was tried stays among the versions. Raises `NoTrial`."""
    with transaction.atomic(), actor.giving_reason(note or actor.current().reason):
        policy = _with_candidate(policy)
        if policy.candidate_finding is None:
            _remember(policy, note or "stopped")
        _without_candidate(policy)
        policy.save()
    return policy


def roll_back(policy: Policy, number: int, sentence: str, comparison: Comparison) -> bool:
    """Take every client from the candidate of that number, and keep what was found. False when it is gone already, or nobody has
    it any more: two judges, or one and a person, do no harm."""
    with transaction.atomic(), actor.giving_reason(f"rolled back: {sentence}"[:500]):
        policy = _locked(policy)
        if policy.candidate_version != number or not policy.candidate_percentage:
            return False
        policy.candidate_finding = {
            "at": timezone.now().isoformat(timespec="seconds"),
            "sentence": sentence,
            "percentage": str(policy.candidate_percentage),
            "since": comparison.since.isoformat(timespec="seconds"),
            "active_since": comparison.active_since.isoformat(timespec="seconds"),
            "candidate": asdict(comparison.candidate),
            "active": asdict(comparison.active),
        }
        policy.candidate_percentage = Decimal(0)
        _remember(policy, f"rolled back: {sentence}")
        policy.save()
    return True


def _locked(policy: Policy) -> Policy:
    return Policy.objects.select_for_update().get(pk=policy.pk)


def _with_candidate(policy: Policy) -> Policy:
    policy = _locked(policy)
    if policy.candidate is None:
        raise NoTrial(policy.name)
    return policy


def _without_candidate(policy: Policy) -> None:
    policy.candidate, policy.candidate_version, policy.candidate_since = None, None, None
    policy.candidate_percentage, policy.candidate_gate, policy.candidate_finding = Decimal(0), {}, None


def _remember(policy: Policy, note: str) -> None:
    """How the trial ended, with the version."""
    version = policy.versions.filter(number=policy.candidate_version).first()
    if version is not None:
        version.note = f"{version.note}; {note}"[:500] if version.note else note[:500]
        version.save(update_fields=["note"])


def _share(told: Any) -> Decimal:
    try:
        share = Decimal(str(told).strip().rstrip("%")).quantize(Decimal("0.01"))
    except InvalidOperation:
        share = Decimal(-1)
    if not share.is_finite() or not 0 <= share <= 100:
        raise ValidationError({"percentage": "A number from 0 to 100 is needed."})
    return share


def _gate(told: Mapping[str, Any] | None) -> dict[str, Any]:
    try:
        return trial_gates.as_document(trial_gates.read(told))
    except BadGate as error:
        raise ValidationError(
            {"gate": [f"{name}: {sentence}" if name else sentence for name, sentence in error.problems.items()]}
        ) from None


# --- How the versions do ----------------------------------------------------------------------------------------------------

_read_figures: ReadFigures | None = None


def read_figures_with(read: ReadFigures) -> None:
    """Registered at start-up by whoever keeps the rows of usage."""
    global _read_figures
    _read_figures = read


def compare(trial: Trial, now: datetime) -> Comparison | None:
    """Both versions as they do, or did when the candidate was rolled back; None without a candidate."""
    if trial.candidate_version is None or trial.since is None or trial.gate is None or _read_figures is None:
        return None
    if trial.finding is not None:
        return _as_found(trial.finding)
    window = timedelta(seconds=trial.gate.window_seconds)
    since = active_since = max(trial.since, now - window)
    candidate = _read_figures(trial.policy, trial.candidate_version, since, now)
    active = _read_figures(trial.policy, trial.active_version, since, now)
    if active.requests < trial.gate.min_requests:
        # All clients may have the candidate by now: then it is measured by what was before it.
        active_since = trial.since - window
        active = _read_figures(trial.policy, trial.active_version, active_since, now)
    return Comparison(since, candidate, active, active_since, trial_gates.judge(trial.gate, candidate, active))


def _as_found(finding: Mapping[str, Any]) -> Comparison:
    return Comparison(
        datetime.fromisoformat(finding["since"]),
        Figures(**finding["candidate"]),
        Figures(**finding["active"]),
        datetime.fromisoformat(finding["active_since"]),
        Verdict(trial_gates.BROKEN, finding["sentence"]),
    )
