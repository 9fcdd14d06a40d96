"""What a policy says, as a document of plain values and as frozen objects; how both are checked and compared. Pure.

A document names only what it means to say. Reading one collects every mistake with the field's name; `as_document` gives the
same document back for the same meaning, so two versions can be compared member by member.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any, TypeGuard

from providers.capabilities import TASKS, canonical
from providers.cost_tiers import COST_TIERS, is_tier

KINDS = ("policy", "alias", "node", "task", "logical")
"""Words for people and for lists; all work alike. A name may also be sent as `node/writer` or `task/vision`."""

LOGICAL = "logical"
CACHE_SCOPES = ("key", "team", "everyone")
LONGEST_CACHED_SECONDS = 30 * 24 * 3600
MOST_TARGETS = 1000
_LONGEST = 600


@dataclass(frozen=True, slots=True)
class Target:
    """One thing that may serve: `model` names a model id, a `provider/model` or another policy; `kind` all policies of a kind.

    `provider` narrows a model id to one provider. `weight` is the share under the strategy `weighted`.
    """

    model: str = ""
    provider: str = ""
    kind: str = ""
    weight: int = 1


@dataclass(frozen=True, slots=True)
class Requirements:
    """What a model must be. Everything but the preferences is hard: nothing fits rather than something that does not."""

    capabilities: frozenset[str] = frozenset()
    preferred_capabilities: frozenset[str] = frozenset()
    min_context_window: int = 0
    max_cost_tier: str = ""
    reasoning: bool = False
    vision: bool = False
    task: str = ""
    local_only: bool = False
    data_tags: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Retries:
    """How often each candidate is asked again after a failure that was over quickly; None leaves it to the gateway's setting,
    which is for the last candidate alone.

    The n-th pause is `delay_seconds * backoff ** n`, with jitter.
    """

    attempts: int | None = None
    delay_seconds: float | None = None
    backoff: float = 2.0


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds for one attempt until it answers, and for all of them; None leaves it to the gateway's setting."""

    attempt_seconds: float | None = None
    total_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Cache:
    """For how long a complete answer is given again to a request that is exactly like the one it was made for; 0 for never.

    `scope` says to whom: the same client key, keys of the same team, or everyone who may use the policy.
    """

    ttl_seconds: int = 0
    scope: str = "key"


@dataclass(frozen=True, slots=True)
class PolicyDocument:
    """Without targets, every model that meets the requirements is one."""

    targets: tuple[Target, ...] = ()
    requirements: Requirements = field(default_factory=Requirements)
    strategy: str = "priority"
    fallbacks: tuple[str, ...] = ()
    """Names of models or policies, asked in this order when no target answered; they too must meet the requirements."""
    retries: Retries = field(default_factory=Retries)
    timeouts: Timeouts = field(default_factory=Timeouts)
    cache: Cache = field(default_factory=Cache)
    max_cost: Decimal | None = None
    """USD that the estimate of a request may reach."""
    overridable: bool = True
    mixed_embeddings: bool = False
    """Let embeddings fall back to another model of the same dimension; without, to the same model elsewhere."""
    captures_content: bool = False
    """What is asked and answered under it is kept with the traces for a while, redacted and encrypted."""


class BadPolicy(ValueError):
    """`problems` are pairs of a field's place and a sentence."""

    def __init__(self, problems: Sequence[tuple[str, str]]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(f"{place}: {sentence}" if place else sentence for place, sentence in problems))


def read(told: Any, strategies: Sequence[str] = ()) -> PolicyDocument:
    """The document's meaning. `strategies` are the names that exist; without, any name passes. Raises `BadPolicy`."""
    reader = _Reader(told, "")
    targets = tuple(_target(one) for one in reader.objects("targets"))
    requirements = _requirements(reader.inner("requirements"))
    retries, timeouts = reader.inner("retries"), reader.inner("timeouts")
    cache = _cache(reader.inner("cache"))
    document = PolicyDocument(
        targets=targets,
        requirements=requirements,
        strategy=reader.choice("strategy", strategies, "priority"),
        fallbacks=tuple(reader.texts("fallbacks")),
        retries=Retries(
            attempts=retries.whole("attempts", None, most=10),
            delay_seconds=retries.seconds("delay_seconds"),
            backoff=retries.number("backoff", 2.0, least=1.0, most=10.0),
        ),
        timeouts=Timeouts(timeouts.seconds("attempt_seconds"), timeouts.seconds("total_seconds")),
        cache=cache,
        max_cost=reader.money("max_cost"),
        overridable=reader.flag("overridable", True),
        mixed_embeddings=reader.flag("mixed_embeddings", False),
        captures_content=reader.flag("captures_content", False),
    )
    reader.end()
    return document


def _target(reader: _Reader) -> Target:
    target = Target(
        model=reader.text("model"),
        provider=reader.text("provider"),
        kind=reader.choice("kind", KINDS, ""),
        weight=reader.whole("weight", 1, most=1_000_000) or 0,
    )
    if bool(target.model) == bool(target.kind):
        reader.problem("", "Either `model` or `kind` says what may serve.")
    return target


def _requirements(reader: _Reader) -> Requirements:
    return Requirements(
        capabilities=canonical(reader.texts("capabilities")),
        preferred_capabilities=canonical(reader.texts("preferred_capabilities")),
        min_context_window=reader.whole("min_context_window", 0) or 0,
        max_cost_tier=reader.tier("max_cost_tier"),
        reasoning=reader.flag("reasoning", False),
        vision=reader.flag("vision", False),
        task=reader.choice("task", TASKS, ""),
        local_only=reader.flag("local_only", False),
        data_tags=frozenset(reader.texts("data_tags")),
    )


def _cache(reader: _Reader) -> Cache:
    ttl = reader.whole("ttl_seconds", 0, most=LONGEST_CACHED_SECONDS) or 0
    scope = reader.choice("scope", CACHE_SCOPES, "")
    if scope and not ttl:
        reader.problem("ttl_seconds", "For how many seconds is needed beside `scope`.")
    return Cache(ttl, scope or "key") if ttl else Cache()


def as_document(policy: PolicyDocument) -> dict[str, Any]:
    """The plain values, without what is as usual."""
    document: dict[str, Any] = {}
    if policy.targets:
        document["targets"] = [_without_defaults(target, Target()) for target in policy.targets]
    for name, usual in _INNER:
        if inner := _without_defaults(getattr(policy, name), usual):
            document[name] = inner
    document["strategy"] = policy.strategy
    if policy.fallbacks:
        document["fallbacks"] = list(policy.fallbacks)
    if policy.max_cost is not None:
        document["max_cost"] = str(policy.max_cost)
    for name in ("overridable", "mixed_embeddings", "captures_content"):
        if getattr(policy, name) != getattr(_USUAL, name):
            document[name] = getattr(policy, name)
    return document


def _without_defaults(told: Any, usual: Any) -> dict[str, Any]:
    values = {name: getattr(told, name) for name in type(told).__slots__}
    return {name: _plain(value) for name, value in values.items() if value != getattr(usual, name)}


def _plain(value: Any) -> Any:
    return sorted(value) if isinstance(value, frozenset) else value


_INNER = (("requirements", Requirements()), ("retries", Retries()), ("timeouts", Timeouts()), ("cache", Cache()))
_USUAL = PolicyDocument()


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Place, old and new value of every member that differs between two documents; None where there is none."""
    old, new = dict(_flat(before)), dict(_flat(after))
    places = [*old, *(place for place in new if place not in old)]
    return [(place, old.get(place), new.get(place)) for place in places if old.get(place) != new.get(place)]


def told_differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[tuple[str, str | None, str | None]]:
    """The same for people: lists with commas, everything else as JSON says it."""
    return [(place, _in_words(old), _in_words(new)) for place, old, new in differences(before, after)]


def _in_words(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return ", ".join(value)
    return json.dumps(value, ensure_ascii=False)


def _flat(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from _flat(inner, f"{place}.{name}" if place else str(name))
    elif isinstance(value, list) and any(isinstance(one, Mapping) for one in value):
        for index, inner in enumerate(value):
            yield from _flat(inner, f"{place}[{index}]")
    else:
        yield place, value


def _is_text(told: object) -> TypeGuard[str]:
    """Not too long, and without characters that databases refuse or that nobody sees."""
    if not isinstance(told, str) or len(told) > _LONGEST:
        return False
    return (told.isascii() and told.isprintable()) or not any(unicodedata.category(one).startswith("C") for one in told)


class _Reader:
    """One object of the document; what is wrong with it goes into the list shared by all."""

    def __init__(self, told: Any, place: str, problems: list[tuple[str, str]] | None = None) -> None:
        self._problems = [] if problems is None else problems
        self._place = place
        self._left: dict[str, Any] = {}
        if told is None:
            told = {}
        if isinstance(told, Mapping):
            self._left = dict(told)
        else:
            self.problem("", "An object is needed.")
        self._inner: list[_Reader] = []

    def problem(self, name: str, sentence: str) -> None:
        place = f"{self._place}.{name}" if self._place and name else self._place or name
        self._problems.append((place, sentence))

    def end(self) -> None:
        """Raises for everything that was wrong, names that nobody asked for included."""
        self._refuse_unknown()
        if self._problems:
            raise BadPolicy(self._problems)

    def _refuse_unknown(self) -> None:
        for name in self._left:
            self.problem(str(name), "There is no such member.")
        for inner in self._inner:
            inner._refuse_unknown()

    def _take(self, name: str) -> Any:
        return self._left.pop(name, None)

    def inner(self, name: str) -> _Reader:
        reader = _Reader(self._take(name), f"{self._place}.{name}" if self._place else name, self._problems)
        self._inner.append(reader)
        return reader

    def objects(self, name: str) -> list[_Reader]:
        told = self._take(name)
        if told is None:
            return []
        if not isinstance(told, list) or len(told) > MOST_TARGETS:
            self.problem(name, f"A list of at most {MOST_TARGETS} is needed.")
            return []
        readers = [
            _Reader({"model": one} if isinstance(one, str) else one, f"{name}[{index}]", self._problems)
            for index, one in enumerate(told)
        ]
        self._inner += readers
        return readers

    def texts(self, name: str) -> list[str]:
        told = self._take(name)
        if told is None:
            return []
        if not isinstance(told, list) or not all(_is_text(one) and one.strip() for one in told):
            self.problem(name, "A list of words is needed.")
            return []
        return [one.strip() for one in told]

    def text(self, name: str) -> str:
        told = self._take(name)
        if told is None:
            return ""
        if not _is_text(told):
            self.problem(name, "A text is needed.")
            return ""
        return str(told).strip()

    def choice(self, name: str, choices: Sequence[str], usual: str) -> str:
        told = self.text(name) or usual
        if choices and told and told not in choices:
            self.problem(name, f"{told!r} is none of: {', '.join(choices)}.")
        return told

    def tier(self, name: str) -> str:
        told = self.text(name).upper()
        if told and not is_tier(told):
            self.problem(name, f"{told!r} is none of: {', '.join(COST_TIERS)}.")
        return told

    def flag(self, name: str, usual: bool) -> bool:
        told = self._take(name)
        if told is None:
            return usual
        if not isinstance(told, bool):
            self.problem(name, "true or false is needed.")
        return bool(told)

    def whole(self, name: str, usual: int | None, *, most: int = 1_000_000_000) -> int | None:
        told = self._take(name)
        if told is None:
            return usual
        if isinstance(told, bool) or not isinstance(told, int) or not 0 <= told <= most:
            self.problem(name, f"A whole number from 0 to {most} is needed.")
            return usual
        return told

    def number(self, name: str, usual: float, *, least: float, most: float) -> float:
        told = self._take(name)
        if told is None:
            return usual
        if isinstance(told, bool) or not isinstance(told, int | float) or not least <= told <= most:
            self.problem(name, f"A number from {least:g} to {most:g} is needed.")
            return usual
        return float(told)

    def seconds(self, name: str) -> float | None:
        return None if self._left.get(name) is None else self.number(name, 0.0, least=0.001, most=86_400.0)

    def money(self, name: str) -> Decimal | None:
        told = self._take(name)
        if told is None:
            return None
        try:
            amount = Decimal(str(told)) if not isinstance(told, bool) else Decimal("NaN")
        except InvalidOperation:
            amount = Decimal("NaN")
        if not amount.is_finite() or not 0 <= amount <= 1_000_000:
            self.problem(name, "An amount of money is needed, such as 0.05.")
            return None
        return amount
