"""Why nobody may serve a request, as far as its caller may know: a decision without candidates as an error.

Whoever asks for what is not there, too dear, too long, forbidden or away is told which of these it is. A model that the client
key is not allowed looks like one that does not exist.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from inference.errors import (
    BudgetExhausted,
    ContextLengthExceeded,
    GatewayError,
    GatewayOverloaded,
    InvalidRequest,
    LimitReached,
    ModelNotFound,
    PermissionDenied,
    UnsupportedCapability,
)
from routing.filters import NOT_ALLOWED, PASSING_REASONS, permits_name
from routing.metering import BUDGET_EXHAUSTED, LIMIT_REACHED, STORE_AWAY, UNPRICED
from routing.types import Dropped, RequestFacts, RouteDecision

_SOONEST_SECONDS = 1.0

PASSING = PASSING_REASONS | {"breaker_half_open"}
"""What keeps a model from serving for now only: it would have served otherwise."""

Refuse = Callable[[RequestFacts, Sequence[Dropped]], GatewayError]


_LEDGER_RETRY_SECONDS = 5.0


def no_room_to_record() -> GatewayError:
    """What a request would use could be lost: the database does not take records, and nothing else has room for them."""
    return GatewayOverloaded(
        "The gateway cannot record what requests use at the moment; try again soon.",
        detail="the database is away, and the spool and the queue are full",
        code="ledger_unavailable",
        retry_after=_LEDGER_RETRY_SECONDS,
    )


def refusal(facts: RequestFacts, decision: RouteDecision, now: float) -> GatewayError:
    """The error for the caller; its `detail` names every model with the reason, for the operator."""
    known = [dropped for dropped in decision.dropped if _may_know(facts, dropped)]
    error = _outage(facts, known, now) or _lasting(facts, known) or _not_found(facts, decision)
    error.detail = "; ".join(f"{one.route}: {one.reason}" for one in decision.dropped[:50]) or decision.reason
    return error


def _may_know(facts: RequestFacts, dropped: Dropped) -> bool:
    if dropped.reason == "disabled":
        return permits_name(facts.identity, facts.model) or permits_name(facts.identity, dropped.route)
    return dropped.reason not in NOT_ALLOWED


def nobody_left(facts: RequestFacts, passed_over: Sequence[Dropped], now: float) -> GatewayError:
    """Every candidate turned out to be away when its turn came."""
    error = _outage(facts, passed_over, now) or _used_up(facts, passed_over, now)
    error.detail = "; ".join(f"{one.route}: {one.reason}" for one in passed_over)
    return error


def _outage(facts: RequestFacts, known: Sequence[Dropped], now: float) -> GatewayError | None:
    out = [dropped for dropped in known if dropped.reason in PASSING]
    if not out:
        return None
    if all(dropped.reason == "no_usable_key" for dropped in out):
        return GatewayOverloaded(
            f"No provider of {_wanted(facts)} has a key that can be used at the moment.",
            code="no_healthy_target",
            retryable=False,
        )
    back_at = min((dropped.back_at for dropped in out if dropped.back_at is not None), default=None)
    return GatewayOverloaded(
        f"Everything that could serve {_wanted(facts)} is out of service at the moment.",
        code="no_healthy_target",
        retry_after=None if back_at is None else max(_SOONEST_SECONDS, back_at - now),
    )


def _used_up(facts: RequestFacts, passed_over: Sequence[Dropped], now: float) -> GatewayError:
    """Limits and budgets of models and providers: the kindest of their reasons, since one that comes back is enough."""
    limited = [dropped for dropped in passed_over if dropped.reason in (LIMIT_REACHED, STORE_AWAY)]
    if limited:
        back_at = min((dropped.back_at for dropped in limited if dropped.back_at is not None), default=now)
        return LimitReached(
            f"The limits of everything that could serve {_wanted(facts)} are reached.",
            retry_after=max(_SOONEST_SECONDS, back_at - now),
        )
    if codes := {dropped.code for dropped in passed_over if dropped.reason == BUDGET_EXHAUSTED}:
        message = f"The budgets of everything that could serve {_wanted(facts)} are used up."
        return BudgetExhausted(message, param=(codes.pop() or None) if len(codes) == 1 else None)
    return BudgetExhausted(
        f"Nobody knows what {_wanted(facts)} costs, and the budget allows no such models.",
        param="model",
        code=UNPRICED,
        status=400,
    )


def _lasting(facts: RequestFacts, known: Sequence[Dropped]) -> GatewayError | None:
    """The reason of the model that came furthest: what came closest to serving says most about what to change."""
    for reasons, refuse in reversed(_BY_REASON):
        stopped = [dropped for dropped in known if dropped.reason in reasons]
        if stopped:
            return refuse(facts, stopped)
    return None


def _not_found(facts: RequestFacts, decision: RouteDecision) -> GatewayError:
    if not facts.model:
        return ModelNotFound("There is no model that you may use for this request.", param="model")
    message = f"{_wanted(facts, capital=True)} does not exist or you do not have access to it."
    if decision.nearest:
        message += f" Did you mean: {', '.join(decision.nearest)}?"
    return ModelNotFound(message, param="model")


def _disabled(facts: RequestFacts, stopped: Sequence[Dropped]) -> GatewayError:
    return ModelNotFound(
        f"{_wanted(facts, capital=True)} does not exist for clients at the moment: it is switched off.", param="model"
    )


def _pinned(facts: RequestFacts, stopped: Sequence[Dropped]) -> GatewayError:
    return ModelNotFound(
        f"The provider '{facts.provider_id}' does not offer {_wanted(facts)}.",
        param="provider_id",
    )


def _provider_type_off(facts: RequestFacts, stopped: Sequence[Dropped]) -> GatewayError:
    return GatewayOverloaded(
        f"The providers of {_wanted(facts)} are switched off.", code="no_healthy_target", retryable=False
    )


def _other_operation(facts: RequestFacts, stopped: Sequence[Dropped]) -> GatewayError:
    return UnsupportedCapability(f"{_wanted(facts, capital=True)} does not serve {facts.operation}.", param="model")


def _not_local(facts: RequestFacts, stopped: Sequence[Dropped]) -> GatewayError:
    return PermissionDenied(
        f"This request may only be served locally, and nothing local can serve {_wanted(facts)}.", code="not_local"
    )


def _data_not_allowed(facts: RequestFacts, stopped: Sequence[Dropped]) -> GatewayError:
    return PermissionDenied(
        f"No provider of {_wanted(facts)} may get this data: {stopped[0].detail}.", code="data_not_allowed"
    )


def _incapable(facts: RequestFacts, stopped: Sequence[Dropped]) -> GatewayError:
    """Names what is missing, of the model that is asked first; of a task, of the first that may be meant for it."""
    if facts.model or not facts.task:
        nobody, why = f"{_wanted(facts, capital=True)} cannot" if facts.model else "No model can", stopped[0].detail
        return UnsupportedCapability(f"{nobody} serve this request: {why}.", param=_blamed(facts))
    lacking = [one for one in stopped if one.reason != "other_task"]
    if not lacking:
        return UnsupportedCapability(f"No model is meant for {_wanted(facts)}.", param="task")
    sentence = f"No model for {_wanted(facts)} can serve this request: {lacking[0].detail}."
    return UnsupportedCapability(sentence, param=_blamed(facts))


def _too_long(facts: RequestFacts, stopped: Sequence[Dropped]) -> GatewayError:
    return ContextLengthExceeded(
        f"The prompt is too long for {_wanted(facts)}: {stopped[-1].detail}.", param=_SUBJECTS.get(facts.operation)
    )


def _too_dear(facts: RequestFacts, stopped: Sequence[Dropped]) -> GatewayError:
    dear = [one for one in stopped if one.reason != "price_unknown"] or stopped
    return InvalidRequest(
        f"Nothing can serve {_wanted(facts)} within the limit of cost: {dear[0].detail}.",
        param="max_cost" if facts.max_cost is not None else None,
        code="max_cost_exceeded",
    )


_SUBJECTS = {"chat": "messages", "completions": "prompt", "embeddings": "input"}

_BY_REASON: tuple[tuple[frozenset[str], Refuse], ...] = (
    (frozenset({"disabled"}), _disabled),
    (frozenset({"provider_pinned"}), _pinned),
    (frozenset({"provider_type_off"}), _provider_type_off),
    (frozenset({"unsupported_operation"}), _other_operation),
    (frozenset({"not_local"}), _not_local),
    (frozenset({"data_not_allowed"}), _data_not_allowed),
    (frozenset({"missing_capability", "missing_vision", "missing_reasoning", "other_task"}), _incapable),
    (frozenset({"cost_tier"}), _too_dear),
    (frozenset({"context_window"}), _incapable),
    (frozenset({"prompt_too_long"}), _too_long),
    (frozenset({"max_cost", "price_unknown"}), _too_dear),
)
"""In the order in which routing looks: who is stopped later came closer."""


def _wanted(facts: RequestFacts, *, capital: bool = False) -> str:
    """What was asked for, in words."""
    if not facts.model:
        words = f"the task '{facts.task}'" if facts.task else "this request"
    else:
        words = f"the model '{facts.model}'"
    return words[0].upper() + words[1:] if capital else words


def _blamed(facts: RequestFacts) -> str:
    return "require_vision" if facts.require_vision and not facts.model else "model"
