"""Asking why without asking for an answer: a request as the dry run takes it, what would be decided, and what was decided once.

Shared by the API, the command and the page. Nobody is called and nothing is changed: the registry, the state of the routes and
the rows of past requests are only read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from time import time
from typing import Any

import orjson

from inference import allowance_notices, asking
from inference import loop as bridge
from inference.errors import InvalidRequest
from inference.models import DecisionRecord, Trace
from inference.refusing import refusal
from inference.wire.openai import CHAT, COMPLETIONS, EMBEDDINGS, EVERY, Operation, ParsedRequest, parse
from routing import asked, explain, health, snapshot
from routing.decide import decide
from routing.filters import permits, permits_name
from routing.types import Conditions, Identity, RequestFacts, RouteDecision, Snapshot
from routing.what_if import unknown, what_would_change

ASSUMED_TOKENS = {"chat": 1000, "completions": 1000, "embeddings": 250}
"""Of a prompt that is not given, for the estimate of cost."""

READS_REGISTRY = "registry:read"
"""The scope of those who are told of every model, and may ask in the name of another client key."""

_OWN = ("operation", "strategy", "capabilities", "max_cost_tier", "local_only", "data_tags")
"""Members that a request does not have, or has in its headers."""
_LONGEST_NAME = 512
_PLACEHOLDERS: Mapping[str, Any] = {
    "messages": [{"role": "user", "content": "-"}],
    "prompt": "-",
    "input": "-",
    "documents": ["-"],
    "query": "-",
    "image": "-",
    "file": "-",
}


@dataclass(frozen=True, slots=True)
class Question:
    """`wanted` is the model about which is asked what would have to change for it to be chosen."""

    facts: RequestFacts
    wanted: str = ""
    assumes_prompt: bool = False


# --- What is asked ----------------------------------------------------------------------------------------------------------


def read(body: Mapping[str, Any], identity: Identity | None, sent: Mapping[bytes, bytes] | None = None) -> Question:
    """The question that a body asks, with the headers of `inference.asking` as `sent`.

    The body is a request as `/v1` takes it, or holds one as `request`; without messages, prompt or input it tells of a request
    in general. Raises `InvalidRequest`, naming the member at fault.
    """
    told = dict(body)
    wanted, node, client_key = (_word(told, name) for name in ("wanted", "node", "client_key"))
    context_size = _whole(told, "context_size")
    own = {name: told.pop(name) for name in _OWN if name in told}
    inner = told.pop("request", None)
    if inner is not None and not isinstance(inner, Mapping):
        raise InvalidRequest("'request' must be an object, as it would be sent to /v1.", param="request")
    request = {**(inner or {}), **told}
    operation = _operation(own.pop("operation", None), request)
    has_prompt = operation.subject in request
    for name in (operation.subject, *operation.also):
        request.setdefault(name, _PLACEHOLDERS[name])
    parsed = _parsed(operation, request)
    asking.fold_headers(parsed, sent or {})
    if node:
        parsed.node = node.removeprefix("node/")
        parsed.model = f"node/{parsed.node}"
    identity = _whose(client_key, identity)
    asking.settle_model_now(parsed, identity)
    facts = _with_own(asking.facts_of(parsed, identity), own)
    if context_size is not None:
        facts = replace(facts, prompt_bytes=0, input_tokens=context_size)
    elif not has_prompt:
        facts = replace(facts, prompt_bytes=0, input_tokens=ASSUMED_TOKENS.get(operation.name, 250))
    return Question(facts, wanted, assumes_prompt=not has_prompt and context_size is None)


def _parsed(operation: Operation, request: Mapping[str, Any]) -> ParsedRequest:
    try:
        body = orjson.dumps(request)
    except TypeError as error:
        raise InvalidRequest(f"The request is not valid JSON: {error}.") from None
    return parse(operation, body)


def _operation(named: Any, request: Mapping[str, Any]) -> Operation:
    if named is not None:
        found = EVERY.get(named) if isinstance(named, str) else None
        if found is None:
            raise InvalidRequest(f"'operation' must be one of: {', '.join(EVERY)}.", param="operation")
        return found
    for operation in (CHAT, COMPLETIONS, EMBEDDINGS):
        if operation.subject in request:
            return operation
    return EMBEDDINGS if request.get("task") == "embedding" else CHAT


def _with_own(facts: RequestFacts, own: Mapping[str, Any]) -> RequestFacts:
    try:
        wishes = asked.facts(own)
    except asked.BadRequest as error:
        raise InvalidRequest(f"'{error.field}': {error.sentence}", param=error.field) from None
    return replace(
        facts,
        strategy=wishes.strategy or facts.strategy,
        capabilities=facts.capabilities | wishes.capabilities,
        max_cost_tier=wishes.max_cost_tier or facts.max_cost_tier,
        local_only=facts.local_only or wishes.local_only,
        data_tags=facts.data_tags | wishes.data_tags,
    )


def _whose(client_key: str, identity: Identity | None) -> Identity | None:
    """Whoever reads the registry may ask what another key would get."""
    if not client_key or (identity is not None and client_key == identity.prefix):
        return identity
    if identity is not None and not identity.may(READS_REGISTRY):
        raise InvalidRequest(f"Asking for another client key needs the scope {READS_REGISTRY}.", param="client_key")
    view = snapshot.refresh().client_keys.get(client_key)
    if view is None:
        raise InvalidRequest(f"There is no client key with the prefix '{client_key[:64]}'.", param="client_key")
    return view.identity


def _word(told: dict[str, Any], name: str) -> str:
    value = told.pop(name, None)
    if value is not None and not isinstance(value, str):
        raise InvalidRequest(f"Invalid type for '{name}': expected a string.", param=name)
    if value and len(value) > _LONGEST_NAME:
        raise InvalidRequest(f"'{name}' is longer than {_LONGEST_NAME} characters.", param=name)
    return (value or "").strip()


def _whole(told: dict[str, Any], name: str) -> int | None:
    value = told.pop(name, None)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 1_000_000_000):
        raise InvalidRequest(f"'{name}' must be a whole number of tokens.", param=name)
    return value


# --- What would be decided now ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Explanation:
    """`document` as `routing.explain` words it; `refusal` is what the request would be refused with, when nobody may serve it."""

    document: dict[str, Any]
    refusal: Any = None


def conditions() -> Conditions:
    """What this process acts on when it serves requests, else what all processes know."""
    return health.current().conditions() if bridge.is_serving() else health.read()


def explained(
    question: Question, *, held: Snapshot | None = None, most: int | None = None, everything: bool = True
) -> Explanation:
    """All about the decision that the request would meet at this moment; without `everything`, of a pool of very many models
    only what the data plane itself looks at."""
    held, seen, now = held or snapshot.refresh(), conditions(), time()
    facts = question.facts
    decision = decide(facts, held, seen, now=now, everything=everything)
    if question.assumes_prompt and (windows := _too_small(decision, held)):
        # What is only assumed keeps nobody from serving.
        facts = replace(facts, input_tokens=max(0, min(windows) - 1))
        decision = decide(facts, held, seen, now=now, everything=everything)
    told = explain.document(facts, decision, held, seen, now=now, most=most)
    if question.assumes_prompt:
        told["notices"].append(f"no prompt was given: {facts.input_tokens:,} tokens are assumed for it")
    told["notices"] += allowance_notices.of(facts, decision, held)
    if len(told["candidates"]) > 1 and "share" in told["candidates"][0]["parts"]:
        told["notices"].append(
            "the first one is drawn by chance for each request: the shares tell how often it is which"
        )
    if question.wanted:
        known = decision if everything else None
        told["what_would_change"] = what_would_change(facts, held, seen, question.wanted, now=now, decision=known)
    return Explanation(told, None if decision.candidates else refusal(facts, decision, now))


def _too_small(decision: RouteDecision, held: Snapshot) -> list[int]:
    """The contexts that the prompt did not fit."""
    too_small = {dropped.route for dropped in decision.dropped if dropped.reason == "prompt_too_long"}
    return [model.context_window or 0 for model in held.models if model.route in too_small]


def for_caller(explanation: Explanation, question: Question, identity: Identity) -> dict[str, Any]:
    """The document, without what the caller's key must not know of."""
    told = explanation.document
    if identity.may(READS_REGISTRY):
        return told
    held = snapshot.current()
    told = explain.for_caller(told, identity, held)
    if question.wanted and not _may_know(question.wanted, told, identity, held):
        told["what_would_change"] = unknown(question.wanted)
    return told


def _may_know(wanted: str, told: Mapping[str, Any], identity: Identity, held: Snapshot) -> bool:
    model = next(iter(held.by_name.get(wanted, ())), None)
    if model is None:
        return permits_name(identity, wanted)
    return permits(identity, model) or any(
        one["route"] == model.route for one in (*told["candidates"], *told["dropped"])
    )


# --- What was decided once --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Past:
    """A request that was served or refused. `document` is None when its explanation was deleted or never written; `question`
    asks the same again today, and is None when that cannot be told any more, for the reason in `problem`."""

    usage: Trace
    document: dict[str, Any] | None
    attempts: list[dict[str, Any]]
    question: Question | None
    problem: str = ""


def past(request_id: str) -> Past | None:
    """The request of that id, with why it was served as it was."""
    usage = Trace.objects.filter(request_id=request_id).first()
    return None if usage is None else past_of(usage)


def past_of(usage: Trace) -> Past:
    stored = DecisionRecord.objects.filter(digest=usage.decision).first() if usage.decision else None
    question, problem = _asked_again(usage)
    return Past(
        usage,
        None if stored is None else {**json.loads(stored.body), "request": _request_of(usage)},
        json.loads(usage.attempts_log) if usage.attempts_log else [],
        question,
        problem,
    )


def _request_of(usage: Trace) -> dict[str, Any]:
    """The document of what was asked, as `routing.asked` words it, out of the row's columns."""
    told: dict[str, Any] = json.loads(usage.asked) if usage.asked else {}
    told |= {"model": usage.requested_model, "operation": usage.operation}
    if usage.stream:
        told["stream"] = True
    if usage.session_id:
        told["session_id"] = usage.session_id
    if usage.client_key_prefix:
        told[asked.CLIENT_KEY] = usage.client_key_prefix
    return told


def _asked_again(usage: Trace) -> tuple[Question | None, str]:
    told = _request_of(usage)
    view = snapshot.refresh().client_keys.get(usage.client_key_prefix)
    if usage.client_key_prefix and view is None:
        return None, f"the client key {usage.client_key_prefix} does not exist any more"
    try:
        return Question(asked.facts(told, None if view is None else view.identity)), ""
    except asked.BadRequest as error:
        return None, str(error)
