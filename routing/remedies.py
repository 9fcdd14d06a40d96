"""For every rule that keeps a model out: what would have to change, in a sentence and as a change that can be tried. Pure.

Nothing here changes the registry. A `World` is what a decision is made from; a remedy makes another world of it, in which the
rule no longer holds, so that whoever proposes a remedy can decide again and see whether it helps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass, replace
from decimal import ROUND_CEILING, Decimal
from glob import escape
from typing import Any

from providers.capabilities import OPERATION_NEEDS
from providers.cost_tiers import rank
from providers.secrets import Secret
from routing import estimates
from routing.types import (
    Asked,
    Conditions,
    Dropped,
    ModelView,
    PolicyTarget,
    PolicyVersionView,
    PolicyView,
    Prices,
    ProviderView,
    RequestFacts,
    Snapshot,
    UpstreamKey,
)

REQUEST, MODEL, PROVIDER, POLICY = "request", "model", "provider", "policy"
CLIENT_KEY, HEALTH, GATEWAY = "client key", "health", "gateway"


@dataclass(frozen=True, slots=True)
class World:
    """What a decision is made from; `policy` is the name of the one that decides, empty when there is none."""

    facts: RequestFacts
    snapshot: Snapshot
    conditions: Conditions
    policy: str = ""

    def ask(self, **changes: Any) -> World:
        return replace(self, facts=replace(self.facts, **changes))

    def defaults(self, **changes: Any) -> World:
        return replace(self, snapshot=replace(self.snapshot, defaults=replace(self.snapshot.defaults, **changes)))

    def condition(self, route: str, **changes: Any) -> World:
        changed = replace(self.conditions.of(route), **changes)
        return replace(self, conditions=replace(self.conditions, routes={**self.conditions.routes, route: changed}))

    def model(self, route: str, **changes: Any) -> World:
        return self._models({one.route: replace(one, **changes) for one in self.snapshot.models if one.route == route})

    def provider(self, provider_id: str, **changes: Any) -> World:
        changed = replace(self.snapshot.providers.get(provider_id) or _provider(self.snapshot, provider_id), **changes)
        world = replace(
            self, snapshot=replace(self.snapshot, providers={**self.snapshot.providers, provider_id: changed})
        )
        return world._models(
            {
                one.route: replace(one, provider=changed)
                for one in self.snapshot.models
                if one.provider.provider_id == provider_id
            }
        )

    def version(self, change: Callable[[PolicyVersionView], PolicyVersionView]) -> World:
        """The deciding policy with both its versions changed."""
        return self._policy(
            lambda view: replace(
                view,
                active=change(view.active),
                candidate=None if view.candidate is None else change(view.candidate),
            )
        )

    def requirement(self, **changes: Any) -> World:
        return self.version(
            lambda version: replace(
                version,
                document=replace(version.document, requirements=replace(version.document.requirements, **changes)),
            )
        )

    def override(self, model: ModelView) -> World:
        def overridden(view: PolicyView) -> PolicyView:
            if view.override is None:
                return view
            return replace(view, override=replace(view.override, target=model.route, targets=(PolicyTarget(model),)))

        return self._policy(overridden)

    def only(self, routes: Set[str]) -> World:
        """Without any other model."""
        snapshot = self.snapshot

        def left(targets: tuple[PolicyTarget, ...]) -> tuple[PolicyTarget, ...]:
            return tuple(target for target in targets if target.model.route in routes)

        by_name = dict(snapshot.by_name)
        for name in {self.facts.model, self.facts.preferred_model or ""} & by_name.keys():
            by_name[name] = tuple(model for model in by_name[name] if model.route in routes)
        policies = {name: self._concerned(name, view, left) for name, view in snapshot.policies.items()}
        models = tuple(model for model in snapshot.models if model.route in routes)
        return replace(self, snapshot=replace(snapshot, models=models, by_name=by_name, policies=policies))

    def _concerned(
        self, name: str, view: PolicyView, change: Callable[[tuple[PolicyTarget, ...]], tuple[PolicyTarget, ...]]
    ) -> PolicyView:
        concerned = {self.policy, self.facts.model, self.facts.preferred_model}
        return _with_targets(view, change) if name in concerned or view.name in concerned else view

    def _policy(self, change: Callable[[PolicyView], PolicyView]) -> World:
        policies = {
            name: change(view) if view.name == self.policy else view for name, view in self.snapshot.policies.items()
        }
        return replace(self, snapshot=replace(self.snapshot, policies=policies))

    def _models(self, changed: Mapping[str, ModelView]) -> World:
        snapshot = self.snapshot
        names = {name for model in changed.values() for name in (model.model_id, model.route)}
        by_name = dict(snapshot.by_name)
        for name in names & by_name.keys():
            by_name[name] = tuple(changed.get(model.route, model) for model in by_name[name])

        def swapped(targets: tuple[PolicyTarget, ...]) -> tuple[PolicyTarget, ...]:
            return tuple(
                replace(target, model=changed[target.model.route]) if target.model.route in changed else target
                for target in targets
            )

        policies = {name: self._concerned(name, view, swapped) for name, view in snapshot.policies.items()}
        models = tuple(changed.get(model.route, model) for model in snapshot.models)
        return replace(self, snapshot=replace(snapshot, models=models, by_name=by_name, policies=policies))


def _provider(snapshot: Snapshot, provider_id: str) -> ProviderView:
    return next(model.provider for model in snapshot.models if model.provider.provider_id == provider_id)


def _with_targets(
    view: PolicyView, change: Callable[[tuple[PolicyTarget, ...]], tuple[PolicyTarget, ...]]
) -> PolicyView:
    def version(one: PolicyVersionView) -> PolicyVersionView:
        chains = {name: change(chain) for name, chain in one.chains.items()}
        return replace(one, targets=change(one.targets), fallbacks=change(one.fallbacks), chains=chains)

    return replace(
        view,
        active=version(view.active),
        candidate=None if view.candidate is None else version(view.candidate),
        override=None if view.override is None else replace(view.override, targets=change(view.override.targets)),
    )


@dataclass(frozen=True, slots=True)
class Remedy:
    """`where` says what would be changed: the request, the model, its provider, the policy, the client key or the gateway; or
    `health`, which passes. Without `apply`, it cannot be tried."""

    sentence: str
    where: str
    apply: Callable[[World], World] | None = None


def remedy(dropped: Dropped, model: ModelView, asked: Asked, world: World) -> Remedy | None:
    """What would do away with the reason; None for the reason of a rule that this module does not know."""
    propose = REMEDIES.get(dropped.reason)
    return None if propose is None else propose(model, asked, world)


# --- Lasting ----------------------------------------------------------------------------------------------------------------


def _unpin(model: ModelView, asked: Asked, world: World) -> Remedy:
    provider_id = model.provider.provider_id
    return Remedy(
        f"Ask for the provider {provider_id!r}, or leave provider_id out.",
        REQUEST,
        lambda world: world.ask(provider_id=provider_id),
    )


def _allow(model: ModelView, asked: Asked, world: World) -> Remedy:
    identity = asked.facts.identity
    name = identity.prefix if identity is not None else ""

    def allowed(world: World) -> World:
        key = world.facts.identity
        if key is None:
            return world
        return world.ask(identity=replace(key, allowed_models=(*(key.allowed_models or ()), escape(model.route))))

    return Remedy(f"Add {model.route!r} to the models that the client key {name} is allowed.", CLIENT_KEY, allowed)


def _allow_policy(model: ModelView, asked: Asked, world: World) -> Remedy:
    identity = asked.facts.identity
    name = identity.prefix if identity is not None else ""
    policy = asked.barred_policy

    def allowed(world: World) -> World:
        key = world.facts.identity
        if key is None or key.allowed_policies is None:
            return world
        patterns = (*key.allowed_policies, escape(policy)) if policy else None
        return world.ask(identity=replace(key, allowed_policies=patterns))

    if policy:
        return Remedy(f"Add {policy!r} to the policies that the client key {name} is allowed.", CLIENT_KEY, allowed)
    return Remedy(f"Allow the client key {name} the policies that lead to {model.route!r}.", CLIENT_KEY, allowed)


def _allow_provider(model: ModelView, asked: Asked, world: World) -> Remedy:
    identity = asked.facts.identity
    name, provider_id = identity.prefix if identity is not None else "", model.provider.provider_id

    def allowed(world: World) -> World:
        key = world.facts.identity
        if key is None or key.allowed_providers is None:
            return world
        return world.ask(identity=replace(key, allowed_providers=(*key.allowed_providers, escape(provider_id))))

    return Remedy(f"Add {provider_id!r} to the providers that the client key {name} is allowed.", CLIENT_KEY, allowed)


def _switch_type_on(model: ModelView, asked: Asked, world: World) -> Remedy:
    kind = model.provider.provider_type
    return Remedy(
        f"Switch providers of type {kind} on again in the gateway's environment.",
        GATEWAY,
        lambda world: world.defaults(barred_types=world.snapshot.defaults.barred_types - {kind}),
    )


def _serve_operation(model: ModelView, asked: Asked, world: World) -> Remedy | None:
    operation = asked.facts.operation
    needed = OPERATION_NEEDS.get(operation, operation)
    offered = model.provider.operations
    if offered is not None and operation not in offered:
        return None
    return Remedy(
        f"Declare the capability {needed} at the model, if its provider really serves {operation}.",
        MODEL,
        _declaring(model, {needed}),
    )


def _make_local(model: ModelView, asked: Asked, world: World) -> Remedy:
    who = "without local_only" if asked.facts.local_only else f"for less of the policy {world.policy}: its local_only"
    return Remedy(
        f"Say that the provider {model.provider.provider_id} is local, if it is; or ask {who}.",
        PROVIDER,
        lambda world: world.provider(model.provider.provider_id, local=True),
    )


def _allow_data(model: ModelView, asked: Asked, world: World) -> Remedy:
    provider = model.provider
    missing = asked.requirements.data_tags - provider.data_tags
    return Remedy(
        f"Allow the provider {provider.provider_id} data tagged {_listed(missing)}.",
        PROVIDER,
        lambda world: world.provider(provider.provider_id, data_tags=provider.data_tags | missing),
    )


def _declare_capability(model: ModelView, asked: Asked, world: World) -> Remedy:
    missing = asked.requirements.capabilities - model.capabilities
    word = "capability" if len(missing) == 1 else "capabilities"
    return Remedy(
        f"Declare the {word} {_listed(missing)} at the model, or {_demand_less(missing <= asked.facts.capabilities, world)}.",
        MODEL,
        _declaring(model, missing),
    )


def _declare_vision(model: ModelView, asked: Asked, world: World) -> Remedy:
    asks = asked.facts.require_vision or asked.facts.images > 0
    return Remedy(
        f"Declare the capability vision at the model, or {_demand_less(asks, world, 'pictures')}.",
        MODEL,
        _declaring(model, {"vision"}),
    )


def _declare_reasoning(model: ModelView, asked: Asked, world: World) -> Remedy:
    return Remedy(
        f"Declare the capability reasoning at the model, or {_demand_less(False, world)}.",
        MODEL,
        _declaring(model, {"reasoning"}),
    )


def _declare_task(model: ModelView, asked: Asked, world: World) -> Remedy:
    task = asked.requirements.task
    return Remedy(
        f"Add the task {task} to the model.", MODEL, lambda world: world.model(model.route, tasks=model.tasks | {task})
    )


def _cheaper_tier(model: ModelView, asked: Asked, world: World) -> Remedy:
    most = asked.requirements.max_cost_tier

    def raised(world: World) -> World:
        if world.facts.max_cost_tier and rank(world.facts.max_cost_tier) < rank(model.cost_tier):
            world = world.ask(max_cost_tier=model.cost_tier)
        return world.requirement(max_cost_tier=_higher(_policy_tier(world), model.cost_tier))

    return Remedy(
        f"Allow the tier {model.cost_tier} ({_limited_by(asked.facts.max_cost_tier == most, world)} allows {most}).",
        REQUEST if asked.facts.max_cost_tier == most else POLICY,
        raised,
    )


def _smaller_window_demanded(model: ModelView, asked: Asked, world: World) -> Remedy:
    window = model.context_window or 0
    return Remedy(
        f"Lower min_context_window of the policy {world.policy} to {window}, or correct the model's context of {window}.",
        POLICY,
        lambda world: world.requirement(min_context_window=window),
    )


def _shorter_prompt(model: ModelView, asked: Asked, world: World) -> Remedy:
    window, condition = model.context_window or 0, asked.conditions.of(model.route)
    tokens = estimates.input_tokens(asked.facts, condition)

    def shortened(world: World) -> World:
        facts = world.facts
        if facts.input_tokens is not None:
            return world.ask(input_tokens=window - 1)
        images = min(facts.images, (window - 1) // estimates.TOKENS_PER_IMAGE)
        left = window - 1 - images * estimates.TOKENS_PER_IMAGE
        ratio = condition.tokens_per_byte or estimates.TOKENS_PER_BYTE
        return world.ask(images=images, prompt_bytes=min(facts.prompt_bytes, int(left / ratio)), prompt_tokens=None)

    return Remedy(f"Shorten the prompt of about {tokens:,} tokens to below {window:,}.", REQUEST, shortened)


def _more_money(model: ModelView, asked: Asked, world: World) -> Remedy:
    cost = estimates.cost(asked.facts, model, asked.conditions.of(model.route)) or Decimal(0)
    enough = _rounded_up(cost)
    policy = _policy_limit(world)
    limits = [
        ("the request", asked.facts.max_cost),
        (f"the policy {world.policy}", policy),
        ("the gateway", world.snapshot.defaults.max_cost),
    ]
    low = [f"{whose} allows {limit:f}" for whose, limit in limits if limit is not None and limit < cost]
    where = REQUEST if low and low[0].startswith("the request") else POLICY if policy is not None else GATEWAY
    return Remedy(f"Raise max_cost to {enough:f} USD ({'; '.join(low)}).", where, _raising_limits(enough))


def _enter_prices(model: ModelView, asked: Asked, world: World) -> Remedy:
    return Remedy(
        "Enter the model's prices, so that its cost can be held against the limit.",
        MODEL,
        lambda world: world.model(model.route, prices=Prices(Decimal(0), Decimal(0), source="own")),
    )


# --- Passing ----------------------------------------------------------------------------------------------------------------


def _usable_key(model: ModelView, asked: Asked, world: World) -> Remedy:
    provider_id = model.provider.provider_id
    return Remedy(
        f"Store a key for the provider {provider_id} that is valid in the environment {world.snapshot.environment!r}, "
        "or set the variable or file that a stored one refers to. The doctor names keys that cannot be read.",
        PROVIDER,
        lambda world: world.provider(provider_id, lacks_key=False, keys=(UpstreamKey(0, Secret("")),)),
    )


def _enable(model: ModelView, asked: Asked, world: World) -> Remedy:
    return Remedy(
        "Switch the model on again, or wait until a probe finds it well.",
        HEALTH,
        lambda world: world.model(model.route, auto_disabled=""),
    )


def _another_key(model: ModelView, asked: Asked, world: World) -> Remedy:
    back_at = asked.conditions.of(model.route).keys_back_at
    return Remedy(
        f"Store another key for the provider {model.provider.provider_id}{_or_wait(back_at, asked.now)}.",
        HEALTH,
        lambda world: world.condition(model.route, keys_back_at=None),
    )


def _reset_breaker(model: ModelView, asked: Asked, world: World) -> Remedy:
    retry_at = asked.conditions.of(model.route).retry_at
    return Remedy(
        f"Reset the breaker{_or_wait(retry_at, asked.now)}.",
        HEALTH,
        lambda world: world.condition(model.route, breaker="closed", retry_at=None),
    )


# --- Of the order -----------------------------------------------------------------------------------------------------------


def _ask_by_name(model: ModelView, asked: Asked, world: World) -> Remedy:
    alone = " and prefer no other" if asked.facts.preferred_model else ""
    return Remedy(
        f"Ask for {model.route!r} by name{alone}: vectors of different models cannot be compared.",
        REQUEST,
        lambda world: world.ask(model=model.route, provider_id=None, preferred_model=None),
    )


REMEDIES: Mapping[str, Callable[[ModelView, Asked, World], Remedy | None]] = {
    "provider_pinned": _unpin,
    "policy_not_allowed": _allow_policy,
    "provider_not_allowed": _allow_provider,
    "model_not_allowed": _allow,
    "provider_type_off": _switch_type_on,
    "unsupported_operation": _serve_operation,
    "not_local": _make_local,
    "data_not_allowed": _allow_data,
    "missing_capability": _declare_capability,
    "missing_vision": _declare_vision,
    "missing_reasoning": _declare_reasoning,
    "other_task": _declare_task,
    "cost_tier": _cheaper_tier,
    "context_window": _smaller_window_demanded,
    "prompt_too_long": _shorter_prompt,
    "price_unknown": _enter_prices,
    "max_cost": _more_money,
    "no_usable_key": _usable_key,
    "auto_disabled": _enable,
    "keys_exhausted": _another_key,
    "breaker_open": _reset_breaker,
    "other_embedding": _ask_by_name,
}


# --- Parts of sentences and changes -----------------------------------------------------------------------------------------


def _declaring(model: ModelView, capabilities: Iterable[str]) -> Callable[[World], World]:
    return lambda world: world.model(model.route, capabilities=_of(world, model).capabilities | frozenset(capabilities))


def _of(world: World, model: ModelView) -> ModelView:
    """The model as an earlier remedy left it."""
    return next((one for one in world.snapshot.models if one.route == model.route), model)


def _demand_less(by_request: bool, world: World, what: str = "it") -> str:
    if by_request or not world.policy:
        return f"ask without {what}"
    return f"take it out of what the policy {world.policy} demands"


def _limited_by(by_request: bool, world: World) -> str:
    return "the request" if by_request or not world.policy else f"the policy {world.policy}"


def _or_wait(until: float | None, now: float) -> str:
    return "" if until is None or until <= now else f", or wait {_span(until - now)}"


def _span(seconds: float) -> str:
    """Rounded up: who waits so long has waited long enough."""
    whole = -int(-seconds // 1)
    return f"{whole} s" if whole < 120 else f"{-(-whole // 60)} min"


def _policy_version(world: World) -> PolicyVersionView | None:
    view = world.snapshot.policies.get(world.policy)
    return None if view is None else view.active


def _policy_limit(world: World) -> Decimal | None:
    version = _policy_version(world)
    return None if version is None else version.document.max_cost


def _policy_tier(world: World) -> str:
    version = _policy_version(world)
    return "" if version is None else version.document.requirements.max_cost_tier


def _higher(tier: str, other: str) -> str:
    """No limit stays none."""
    return max(tier, other, key=rank) if tier else ""


def _raising_limits(enough: Decimal) -> Callable[[World], World]:
    def at_least(limit: Decimal | None) -> Decimal | None:
        return None if limit is None else max(limit, enough)

    def raised(world: World) -> World:
        world = world.ask(max_cost=at_least(world.facts.max_cost))
        world = world.defaults(max_cost=at_least(world.snapshot.defaults.max_cost))
        return world.version(
            lambda version: replace(
                version, document=replace(version.document, max_cost=at_least(version.document.max_cost))
            )
        )

    return raised


def _rounded_up(amount: Decimal) -> Decimal:
    """To three significant digits, never below."""
    if not amount:
        return amount
    step = Decimal(1).scaleb(amount.adjusted() - 2)
    return amount.quantize(step, rounding=ROUND_CEILING).normalize()


def _listed(words: Iterable[str]) -> str:
    return ", ".join(sorted(words))
