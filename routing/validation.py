"""What is wrong with the policies as a whole: names that nothing has, requirements that nobody meets. Pure.

A mistake within one document is found when it is written; what is found here depends on everything else in the registry.
"""

from __future__ import annotations

from dataclasses import dataclass

from routing.types import Snapshot


@dataclass(frozen=True, slots=True)
class Issue:
    """`code` is for programs, `name` the policy that has it, `sentence` for people."""

    code: str
    name: str
    sentence: str


@dataclass(frozen=True, slots=True)
class Validation:
    """Issues keep requests from being served as the policies say; warnings do not yet."""

    issues: tuple[Issue, ...] = ()
    warnings: tuple[Issue, ...] = ()

    @property
    def valid(self) -> bool:
        return not self.issues


def validate(snapshot: Snapshot, *, now: float | None = None) -> Validation:
    """Everything that is wrong, in the policies' order. `now` in epoch seconds; without, when the snapshot was built."""
    issues: list[Issue] = []
    for policy in _policies(snapshot):
        document = policy.active.document
        for place, name in [
            *(("target", target.model) for target in document.targets if target.model),
            *(("fallback", name) for name in document.fallbacks),
        ]:
            if name not in snapshot.policies and name not in snapshot.by_name and name not in snapshot.out_of_service:
                issues.append(Issue(f"undefined_{place}", policy.name, f"{place} {name!r} is not defined"))
    return Validation(tuple(issues))


def _policies(snapshot: Snapshot) -> list:
    return [policy for name, policy in snapshot.policies.items() if name == policy.name]
