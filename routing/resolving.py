"""Names turned into models: what each policy means over a registry, and which chain follows when its targets fail. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from routing import filters
from routing.policy_documents import PolicyDocument, Requirements, Target
from routing.types import ModelView, PolicyTarget, PolicyVersionView, PolicyView, Snapshot

Named = Mapping[str, tuple[ModelView, ...]]
_NOTHING = Requirements()


def by_every_name(found: Sequence[PolicyView]) -> dict[str, PolicyView]:
    """The policies by name and by `kind/name`, each knowing which other one it only renames."""
    views = {view.name: view for view in found}
    for view in found:
        views.setdefault(f"{view.kind}/{view.name}", view)
    return {name: _renaming(view, views) for name, view in views.items()}


def with_document(snapshot: Snapshot, name: str, document: PolicyDocument, *, number: int = 0) -> Snapshot:
    """The snapshot as it would be if the policy said this, with every other policy that names it.

    An override and a version on trial are left out of the policy: they stand over what it says. A name that no policy has
    becomes one.
    """
    views = snapshot.each_policy()
    known = next((view for view in views if view.name == name), None)
    kind = known.kind if known is not None else "policy"
    resolving = Resolving.over(snapshot, name, kind, document)
    found = [
        replace(view, active=resolving.version(view.name, view.active.number, view.active.document), stands_for="")
        for view in views
        if view.name != name
    ]
    version = resolving.version(name, number, document)
    salt, said = (known.salt, known.description) if known is not None else (b"", "")
    found.append(PolicyView(name, kind, version, description=said, salt=salt))
    return replace(snapshot, policies=by_every_name(found))


def _renaming(view: PolicyView, views: Mapping[str, PolicyView]) -> PolicyView:
    """The view, and which policy it is only another name of, also where several names lead there."""
    seen, there = {view.name}, view
    while (further := views.get(_only_names(there))) is not None:
        if further.name in seen:
            return view
        seen.add(further.name)
        there = further
    return view if there is view else replace(view, stands_for=there.name)


def _only_names(view: PolicyView) -> str:
    """The one thing that a policy names without saying anything else; empty when it says more."""
    targets = view.active.document.targets
    if len(targets) != 1 or view.candidate is not None or view.override is not None:
        return ""
    says_no_more = view.active.document == PolicyDocument(targets=(Target(targets[0].model, weight=targets[0].weight),))
    return targets[0].model if says_no_more else ""


class Resolving:
    """Names turned into models. Policies may name policies; whatever comes round again is passed over."""

    def __init__(
        self,
        documents: Mapping[str, PolicyDocument],
        kinds: Mapping[str, str],
        models: Sequence[ModelView],
        by_name: Named,
    ) -> None:
        self._documents, self._kinds, self._models, self._by_name = documents, kinds, models, by_name
        self._with_kind = {f"{kind}/{name}": name for name, kind in kinds.items() if f"{kind}/{name}" not in documents}
        self._every: tuple[PolicyTarget, ...] | None = None
        self._chains: dict[str, tuple[PolicyTarget, ...]] = {}
        self._alone: dict[tuple[str, str], tuple[PolicyTarget, ...]] = {}
        """What a name means by itself, and to a policy that demands something: those that fall back on one another ask for it
        over and over."""

    @classmethod
    def over(cls, snapshot: Snapshot, name: str, kind: str, document: PolicyDocument) -> Resolving:
        """What the policies of a snapshot mean when this one says the document."""
        policies = snapshot.each_policy()
        documents = {policy.name: policy.active.document for policy in policies} | {name: document}
        kinds = {policy.name: policy.kind for policy in policies} | {name: kind}
        return cls(documents, kinds, snapshot.models, snapshot.by_name)

    def version(self, name: str, number: int, document: PolicyDocument) -> PolicyVersionView:
        targets = _once(self._of_targets(document.targets, (name,))) if document.targets else self._all()
        # A policy that chooses among logical models falls back as the chosen one says, before it takes the next best.
        through = {target.via for target in targets} - {""} if document.targets else set()
        chains = {via: self._chain(via) for via in through if via in self._documents}
        return PolicyVersionView(number, document, targets, self._fallbacks(document, name), chains)

    def limited(self, version: PolicyVersionView, name: str, may_name: Callable[[str], bool]) -> PolicyVersionView:
        """The version for a caller to whom other policies are open only as `may_name` says: what it may choose stays, and no chain
        goes through a policy that is closed."""
        chains = {via: self._limited_chain(via, may_name) for via in version.chains if may_name(via)}
        fallbacks = self._fallbacks(version.document, name, may_name)
        return replace(version, fallbacks=fallbacks, chains=chains)

    def _limited_chain(self, name: str, may_name: Callable[[str], bool]) -> tuple[PolicyTarget, ...]:
        document = self._documents[name]
        return meeting(document.requirements, self._fallbacks(document, name, may_name))

    def named(self, name: str, within: tuple[str, ...] = (), weight: int = 1) -> Iterator[PolicyTarget]:
        """What a name means; models reached through another policy say through which, and are what that one demands."""
        name = self._with_kind.get(name, name)
        document = self._documents.get(name)
        if document is not None and name not in within:
            its = tuple(self._of_targets(document.targets, (*within, name))) if document.targets else self._all()
            for target in meeting(document.requirements, its):
                yield PolicyTarget(target.model, target.via or name, weight, target.order)
        elif document is None or not within or name == within[-1]:
            # A policy may be named as the model that it stands for.
            for model in self._by_name.get(name, ()):
                yield PolicyTarget(model, "", weight)

    def _of_targets(self, targets: Sequence[Target], within: tuple[str, ...]) -> Iterator[PolicyTarget]:
        group = 0
        for target in targets:
            names = self._of_kind(target.kind) if target.kind else [target.model]
            for name in names:
                if target.kind and name in within:
                    continue
                group += 1
                for found in self.named(name, within, target.weight):
                    if not target.provider or found.model.provider.provider_id == target.provider:
                        yield replace(found, group=group)

    def _of_kind(self, kind: str) -> list[str]:
        return [name for name, its in self._kinds.items() if its == kind]

    def _chain(self, name: str) -> tuple[PolicyTarget, ...]:
        if name not in self._chains:
            document = self._documents[name]
            self._chains[name] = meeting(document.requirements, self._fallbacks(document, name))
        return self._chains[name]

    def _fallbacks(
        self, document: PolicyDocument, name: str, leads_on: Callable[[str], bool] = lambda name: True
    ) -> tuple[PolicyTarget, ...]:
        """The policies' own fallbacks follow those that name them, and are what these demand, until nothing new comes.
        `leads_on` says of a policy whether the chain may go through it."""
        found: list[PolicyTarget] = []
        waiting = deque((fallback, "") for fallback in document.fallbacks)
        seen: set[object] = {name}
        while waiting:
            fallback, whose = waiting.popleft()
            fallback = self._with_kind.get(fallback, fallback)
            if fallback in seen or (whose and (fallback, whose) in seen):
                continue
            seen.add((fallback, whose) if whose else fallback)
            further = self._documents.get(fallback)
            if further is not None and not leads_on(fallback):
                continue
            found += self._by_itself(fallback, whose)
            if further is not None:
                demanding = fallback if further.requirements != _NOTHING else ""
                waiting += ((one, demanding) for one in further.fallbacks)
        return _once(found)

    def _by_itself(self, name: str, whose: str) -> tuple[PolicyTarget, ...]:
        found = self._alone.get((name, whose))
        if found is None:
            demanded = self._documents[whose].requirements if whose else _NOTHING
            found = self._alone[name, whose] = meeting(demanded, tuple(self.named(name)))
        return found

    def _all(self) -> tuple[PolicyTarget, ...]:
        if self._every is None:
            self._every = tuple(PolicyTarget(model, order=order) for order, model in enumerate(self._models))
        return self._every


def meeting(demanded: Requirements, targets: tuple[PolicyTarget, ...]) -> tuple[PolicyTarget, ...]:
    """Those that are what a policy demands through which they are reached."""
    if demanded == _NOTHING:
        return targets
    return tuple(target for target in targets if filters.meets(target.model, demanded))


def _once(targets: Iterator[PolicyTarget] | Sequence[PolicyTarget]) -> tuple[PolicyTarget, ...]:
    """Each model once, at its first place, counted through."""
    first: dict[str, PolicyTarget] = {}
    for target in targets:
        first.setdefault(target.model.route, target)
    return tuple(
        PolicyTarget(target.model, target.via, target.weight, order, target.group)
        for order, target in enumerate(first.values())
    )
