"""What is wrong with the policies as a whole: names that nothing has, requirements that nobody meets. Pure.

A mistake within one document is found when it is written; what is found here depends on everything else in the registry.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from providers.capabilities import OPERATION_NEEDS
from routing import filters, strategies
from routing.decide import decide
from routing.policy_documents import PolicyDocument, Requirements, Target
from routing.types import (
    NOMINAL,
    Asked,
    Dropped,
    PolicyTarget,
    PolicyVersionView,
    PolicyView,
    RequestFacts,
    RouteDecision,
    Snapshot,
)

OPERATIONS = tuple(OPERATION_NEEDS)


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

    def of(self, name: str) -> Validation:
        """What concerns one policy."""
        return Validation(
            tuple(issue for issue in self.issues if issue.name == name),
            tuple(issue for issue in self.warnings if issue.name == name),
        )


def validate(snapshot: Snapshot, *, now: float | None = None, disabled: Collection[str] = ()) -> Validation:
    """Everything that is wrong, policy by policy.

    `now` in epoch seconds; without, when the snapshot was built. `disabled` are the names of policies that are switched off,
    which the snapshot does not hold.
    """
    checking = _Checking(snapshot, snapshot.built_at if now is None else now, frozenset(disabled))
    policies = snapshot.each_policy()
    for policy in policies:
        checking.policy(policy)
    checking.cycles(policies)
    checking.defaults()
    return Validation(tuple(checking.issues), tuple(checking.warnings))


def is_served(decision: RouteDecision) -> bool:
    """Whether somebody may serve, now or once what passes has passed."""
    return bool(decision.candidates) or any(_passes(dropped) for dropped in decision.dropped)


class _Checking:
    def __init__(self, snapshot: Snapshot, now: float, disabled: frozenset[str]) -> None:
        self.snapshot, self.now, self.disabled = snapshot, now, disabled
        self.kinds = {policy.kind for policy in snapshot.policies.values()}
        self.issues: list[Issue] = []
        self.warnings: list[Issue] = []

    def policy(self, policy: PolicyView) -> None:
        before = len(self.issues)
        self._document(policy, policy.active.document, "")
        if policy.candidate is not None:
            self._document(policy, policy.candidate.document, f"candidate version {policy.candidate.number}: ")
        self._override(policy)
        if policy.active.targets or len(self.issues) == before:
            self._service(policy)
        self._prices(policy)
        self._name(policy)

    # --- One document ---------------------------------------------------------------------------------------------------

    def _document(self, policy: PolicyView, document: PolicyDocument, of: str) -> None:
        known = strategies.names()
        if document.strategy not in known:
            self._issue(
                "unknown_strategy", policy, f"{of}there is no strategy {document.strategy!r}; priority decides instead"
            )
        if document.strategy == "weighted" and document.targets and not any(one.weight for one in document.targets):
            self._issue("no_weight", policy, f"{of}the weights of all targets are zero")
        off = [target for target in document.targets if self._target(policy, target, of) == "off"]
        if off and len(off) == len(document.targets):
            self._issue("only_disabled_targets", policy, f"{of}all its targets are switched off")
        for name in document.fallbacks:
            self._named(policy, "fallback", name, of)

    def _target(self, policy: PolicyView, target: Target, of: str) -> str:
        """`off` for one that is only switched off; what does not exist is an issue."""
        if target.kind:
            if target.kind not in self.kinds:
                self._issue("undefined_target", policy, f"{of}no policy is of kind {target.kind!r}, which it targets")
            return ""
        if target.provider and target.model not in self.snapshot.policies:
            name = f"{target.provider}/{target.model}"
            there = self.snapshot.by_name.get(target.model, ())
            if any(model.provider.provider_id == target.provider for model in there):
                return ""
            return self._named(policy, "target", name, of)
        return self._named(policy, "target", target.model, of)

    def _named(self, policy: PolicyView, place: str, name: str, of: str) -> str:
        snapshot = self.snapshot
        if name in snapshot.policies or name in snapshot.by_name:
            return ""
        if name in self.disabled:
            self._warn(f"disabled_{place}", policy, f"{of}its {place} {name!r} is a policy that is switched off")
            return "off"
        if name in snapshot.out_of_service:
            why = snapshot.out_of_service[name][0].detail
            self._warn(f"disabled_{place}", policy, f"{of}its {place} {name!r} is switched off: {why}")
            return "off"
        self._issue(
            f"undefined_{place}", policy, f"{of}its {place} {name!r} is not defined: no model or policy has that name"
        )
        return "undefined"

    def _override(self, policy: PolicyView) -> None:
        override = policy.override
        if override is None:
            return
        if override.expires_at is not None and override.expires_at <= self.now:
            self._warn("expired_override", policy, f"its override by {override.target!r} has expired")
        elif not override.targets:
            self._issue(
                "undefined_override", policy, f"it is overridden by {override.target!r}, which no model or policy is"
            )

    # --- Who serves -----------------------------------------------------------------------------------------------------

    def _service(self, policy: PolicyView) -> None:
        decisions = []
        for operation in OPERATIONS:
            decisions.append(self._decision(policy, operation))
            if decisions[-1].candidates:
                return
        if any(is_served(decision) for decision in decisions):
            reasons = {dropped.detail for decision in decisions for dropped in decision.dropped if _passes(dropped)}
            self._warn("out_of_service", policy, f"nobody can serve it at present: {'; '.join(sorted(reasons))}")
            return
        self._issue("unserved", policy, f"no model can serve it: {self._why_nobody(policy)}")

    def _decision(self, policy: PolicyView, operation: str) -> RouteDecision:
        return decide(RequestFacts(model=policy.name, operation=operation), self.snapshot, NOMINAL, now=self.now)

    def _why_nobody(self, policy: PolicyView) -> str:
        version = policy.active
        models = _each_once([*version.targets, *version.fallbacks])
        if not models:
            return "none of its targets exists" if version.document.targets else "the registry has no enabled model"
        lacking = [what for what, asked in self._single(version) if all(_refused(one, asked) for one in models)]
        if lacking and len(models) > 1:
            return f"none of the {len(models)} models that it may choose from {' or '.join(lacking)}"
        reasons = {}
        for target in models:
            refused = filters.refusal(target.model, self._asked(version, version.document.requirements))
            if refused is not None:
                reasons[target.model.route] = refused.detail
        shown = [f"{route}: {detail}" for route, detail in list(reasons.items())[:5]]
        return "; ".join(shown)

    def _single(self, version: PolicyVersionView) -> Iterator[tuple[str, Asked]]:
        """Each demand alone, in words that follow `none of them …`."""
        needs = version.document.requirements
        for capability in sorted(needs.capabilities):
            yield f"has {capability}", self._asked(version, Requirements(capabilities=frozenset({capability})))
        if needs.min_context_window:
            least = needs.min_context_window
            yield f"has a context of {least} tokens", self._asked(version, Requirements(min_context_window=least))
        if needs.max_cost_tier:
            tier = needs.max_cost_tier
            yield f"is of the cost tier {tier} or below", self._asked(version, Requirements(max_cost_tier=tier))
        if needs.reasoning:
            yield "is a reasoning model", self._asked(version, Requirements(reasoning=True))
        if needs.vision:
            yield "can see pictures", self._asked(version, Requirements(vision=True))
        if needs.task:
            yield f"is meant for the task {needs.task}", self._asked(version, Requirements(task=needs.task))
        if needs.local_only:
            yield "is at a local provider", self._asked(version, Requirements(local_only=True))
        for tag in sorted(needs.data_tags):
            yield f"may get data tagged {tag}", self._asked(version, Requirements(data_tags=frozenset({tag})))
        if version.document.max_cost is not None:
            limited = replace(self._asked(version, Requirements()), max_cost=version.document.max_cost)
            yield f"is known to cost at most {version.document.max_cost} USD", limited

    def _asked(self, version: PolicyVersionView, requirements: Requirements) -> Asked:
        operation = "embeddings" if version.document.requirements.task == "embedding" else "chat"
        return Asked(
            RequestFacts(operation=operation),
            requirements,
            NOMINAL,
            self.now,
            barred_types=self.snapshot.defaults.barred_types,
        )

    def _prices(self, policy: PolicyView) -> None:
        limit = policy.active.document.max_cost
        if limit is None:
            return
        unpriced = [one.model.route for one in policy.active.targets if not one.model.prices.known]
        if unpriced:
            shown = ", ".join(unpriced[:5]) + (f" and {len(unpriced) - 5} more" if len(unpriced) > 5 else "")
            self._warn(
                "price_unknown",
                policy,
                f"under its limit of {limit} USD nothing goes to models without prices: {shown}",
            )

    def _name(self, policy: PolicyView) -> None:
        """A policy may stand for the model of its own name; one that hides it from everybody is likely a mistake."""
        hidden = {model.route for model in self.snapshot.by_name.get(policy.name, ())}
        chosen = {target.model.route for target in (*policy.active.targets, *policy.active.fallbacks)}
        if hidden and not hidden & chosen:
            self._warn(
                "shadows_a_model",
                policy,
                f"a model is named {policy.name!r} too: it can be reached as {min(hidden)!r} only",
            )

    # --- All together ---------------------------------------------------------------------------------------------------

    def cycles(self, policies: Sequence[PolicyView]) -> None:
        """Cycles end by themselves when they are resolved; whoever wrote one may not have meant it."""
        names = {policy.name: policy for policy in policies}
        targets = {name: _names_of(policy.active.document.targets, names) for name, policy in names.items()}
        fallbacks = {
            name: [one for one in policy.active.document.fallbacks if one in names] for name, policy in names.items()
        }
        for kind, edges in (("targets", targets), ("fallbacks", fallbacks)):
            for cycle in _cycles(edges):
                if len(cycle) == 1 and cycle[0] in self.snapshot.by_name:
                    continue
                way = " -> ".join([*cycle, cycle[0]])
                self._warn("cycle", names[cycle[0]], f"its {kind} come back to it: {way}; what was seen is passed over")

    def defaults(self) -> None:
        name = self.snapshot.defaults.default_policy
        if name and name not in self.snapshot.policies:
            why = "is switched off" if name in self.disabled else "is not defined"
            self.issues.append(
                Issue("undefined_default", "routing settings", f"the default policy {name!r} {why}: any model serves")
            )

    def _issue(self, code: str, policy: PolicyView, sentence: str) -> None:
        self.issues.append(Issue(code, policy.name, sentence))

    def _warn(self, code: str, policy: PolicyView, sentence: str) -> None:
        self.warnings.append(Issue(code, policy.name, sentence))


def _passes(dropped: Dropped) -> bool:
    return dropped.reason in filters.PASSING_REASONS


def _refused(target: PolicyTarget, asked: Asked) -> bool:
    return filters.refusal(target.model, asked) is not None


def _each_once(targets: Sequence[PolicyTarget]) -> list[PolicyTarget]:
    return list({target.model.route: target for target in targets}.values())


def _names_of(targets: Sequence[Target], names: Mapping[str, PolicyView]) -> list[str]:
    return [target.model for target in targets if target.model in names]


def _cycles(edges: Mapping[str, Sequence[str]]) -> list[list[str]]:
    """Every strongly connected group that comes back to itself, as one way round it; each name is walked once."""
    found: list[list[str]] = []
    done: set[str] = set()
    for start in edges:
        if start in done:
            continue
        way: list[str] = []
        waiting = [(start, iter(edges[start]))]
        way.append(start)
        while waiting:
            name, further = waiting[-1]
            following = next(further, None)
            if following is None:
                waiting.pop()
                way.pop()
                done.add(name)
            elif following in way:
                found.append(way[way.index(following) :])
            elif following not in done:
                way.append(following)
                waiting.append((following, iter(edges.get(following, ()))))
    return found
