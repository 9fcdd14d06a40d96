"""The dry run and what was decided once: both are what the data plane decides, and change nothing."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference import asking, deciding, explaining
from inference.attempts import Trail
from inference.errors import InvalidRequest
from inference.models import DecisionRecord, Trace
from inference.reasons import asked_text, explained
from inference.wire.openai import CHAT, parse
from providers.capabilities import OPERATION_NEEDS
from routing import health, selections, snapshot, strategies
from routing.types import Conditions, Identity, Prices, RouteCondition, Snapshot
from tests.inference import registry, workers
from tests.routing.policy_snapshots import with_policies
from tests.routing.views import model, provider

CALLER = Identity(1, "gw-1", "tests", frozenset({"generate"}))


class Seen(health.Health):
    """What is known of the routes, said by a test."""

    def __init__(self, told: Conditions) -> None:
        super().__init__()
        self._told = told

    def conditions(self) -> Conditions:
        return self._told


@pytest.fixture(autouse=True)
def _this_process_serves(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(explaining.bridge, "is_serving", lambda: True)
    yield
    health.replace(None)
    snapshot.replace(None)


# --- The dry run is the live choice -------------------------------------------------------------------------------------------

_STEADY = [name for name in strategies.names() if name != "weighted"]
_MODELS = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "c"]),
        st.sampled_from(["m", "n", "o"]),
        st.integers(1, 3),
        st.sampled_from([(), ("vision",)]),
        st.sampled_from([None, 50, 100_000]),
        st.sampled_from([Prices(), Prices(Decimal(1), Decimal(2)), Prices(Decimal(5), Decimal(9))]),
        st.sampled_from(["closed", "open", "half_open"]),
        st.sampled_from([None, 0.2, 2.0]),
    ),
    unique_by=lambda row: row[:2],
    min_size=1,
    max_size=6,
)
_BODIES = st.fixed_dictionaries(
    {"messages": st.sampled_from([[{"role": "user", "content": text}] for text in ("hi", "word " * 300)])},
    optional={
        "model": st.sampled_from(["p", "m", "a/m", "node/p", "nobody"]),
        "preferred_model": st.sampled_from(["n", "b/o", "nobody"]),
        "require_vision": st.booleans(),
        "max_cost": st.sampled_from([0.0001, 1.0]),
        "max_tokens": st.sampled_from([1, 4000]),
        "provider_id": st.sampled_from(["a", "x"]),
        "session_id": st.sampled_from(["s", "t"]),
        "task": st.just("vision"),
        "gateway_strategy": st.sampled_from(_STEADY),
        "gateway_capabilities": st.just(["vision"]),
        "gateway_max_cost_tier": st.sampled_from(["LOW", "HIGH"]),
    },
)


@given(_MODELS, _BODIES, st.sampled_from(_STEADY), st.sampled_from([None, ("m",), ("p",)]))
def test_the_dry_run_is_the_live_choice(
    rows: list[Any], body: dict[str, Any], strategy: str, allowed: tuple[str, ...] | None
) -> None:
    held = with_policies(
        *(
            model(model_id, of=provider(of, rank), capabilities=can, context_window=window, prices=prices)
            for of, model_id, rank, can, window, prices, _, _ in rows
        ),
        policies={"p": {"targets": ["m", "n"], "strategy": strategy, "fallbacks": ["o"]}},
    )
    seen = Conditions(
        {
            f"{row[0]}/{row[1]}": RouteCondition(
                breaker=row[-2], retry_at=time.time() + 60, latency_seconds=row[-1], calls=5
            )
            for row in rows
        }
    )
    health.replace(Seen(seen))
    caller = replace(CALLER, allowed_models=allowed)
    live = deciding.rule(parse(CHAT, orjson.dumps(body)), caller, held)
    dry = explaining.explained(explaining.read(body, caller), held=held)

    assert [one["route"] for one in dry.document["candidates"]] == [one.model.route for one in live.candidates]
    assert (dry.refusal is None) == bool(live.candidates)
    assert dry.document["reason"] == live.decision.reason


def test_headers_count_as_they_do_on_requests() -> None:
    sent = {asking.NODE: b"writer", asking.LOCAL_ONLY: b"true", asking.DATA_TAGS: b"pii, health"}
    facts = explaining.read({}, CALLER, sent).facts
    assert (facts.model, facts.local_only, facts.data_tags) == ("node/writer", True, {"pii", "health"})


def test_what_was_selected_counts_as_it_does_on_requests() -> None:
    selections.select(CALLER.prefix, None, "mine")
    selections.select(CALLER.prefix, "s", "of-the-session")
    selections.select(CALLER.prefix, None, "for-vectors", embeddings=True)
    for body, model_id in (
        ({}, "mine"),
        ({"session_id": "s"}, "of-the-session"),
        ({"operation": "embeddings"}, "for-vectors"),
        ({"operation": "images"}, ""),
        ({"task": "vision", "session_id": "s"}, ""),
        ({"model": "another"}, "another"),
    ):
        assert explaining.read(body, CALLER).facts.model == model_id


@pytest.mark.parametrize(
    ("body", "param"), [({"max_cost_tier": "CHEAP"}, "max_cost_tier"), ({"wanted": "m" * 513}, "wanted")]
)
def test_what_is_wrong_is_named(body: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest, match=param) as raised:
        explaining.read(body, CALLER)
    assert raised.value.param == param


def test_without_a_prompt_one_is_assumed_and_said_so() -> None:
    held = registry.snapshot(registry.model(registry.provider()))
    told = explaining.explained(explaining.read({"model": "fake-chat"}, CALLER), held=held).document
    assert told["estimate"] == {"input_tokens": 1000, "output_tokens": 500, "cost_usd": 0.002}
    assert told["notices"] == ["no prompt was given: 1,000 tokens are assumed for it"]


def test_a_draw_is_said_to_be_one() -> None:
    held = with_policies(
        model("m", of=provider("a")),
        model("n", of=provider("b")),
        policies={"p": {"targets": ["m", "n"], "strategy": "weighted"}},
    )
    told = explaining.explained(explaining.read({"model": "p"}, CALLER), held=held).document
    assert "drawn by chance" in told["notices"][-1]


def test_what_is_assumed_is_too_long_for_nobody() -> None:
    held = registry.snapshot(registry.model(registry.provider(), context_window=512))
    told = explaining.explained(explaining.read({"model": "fake-chat"}, CALLER), held=held).document
    assert (len(told["candidates"]), told["estimate"]["input_tokens"]) == (1, 511)


# --- What was decided once ----------------------------------------------------------------------------------------------------


def recorded(request_id: str, body: dict[str, Any], held: Snapshot, identity: Identity) -> None:
    """As the recorder leaves it."""
    request = parse(CHAT, orjson.dumps(body))
    ruling = deciding.rule(request, identity, held)
    reason = explained(ruling)
    at = datetime.now(UTC)
    DecisionRecord.objects.create(digest=reason.digest, body=reason.body, at=at)
    trail = Trail(asked=(request.prompt_bytes, request.max_output_tokens))
    Trace.objects.create(
        request_id=request_id,
        at=at,
        operation="chat",
        requested_model=request.model,
        client_key_prefix=identity.prefix,
        status=200,
        decision=reason.digest,
        asked=asked_text(ruling, trail.asked),
    )


@pytest.mark.django_db
def test_a_past_request_tells_why_and_is_asked_again() -> None:
    workers.fresh_registry()
    workers.add_model(workers.add_provider("first", "fake"), "words")
    prefix, _ = workers.client_key("generate")
    now = snapshot.refresh()
    identity = now.client_keys[prefix].identity
    body = {
        "model": "words",
        "messages": [{"role": "user", "content": "private words"}],
        "max_tokens": 7,
        "max_cost": 1,
    }
    recorded("req_1", body, now, identity)

    found = explaining.past("req_1")
    assert found is not None
    assert found.document is not None
    assert [one["route"] for one in found.document["candidates"]] == ["first/words"]
    assert found.document["request"]["client_key"] == prefix
    assert found.question is not None
    assert (found.question.facts.max_output_tokens, found.question.facts.max_cost) == (7, Decimal(1))
    again = explaining.explained(found.question).document
    assert [one["route"] for one in again["candidates"]] == ["first/words"]
    assert "private words" not in json.dumps([found.document, again])


@pytest.mark.django_db
def test_a_request_whose_key_is_gone_still_tells_why() -> None:
    workers.fresh_registry()
    workers.add_model(workers.add_provider("first", "fake"), "words")
    recorded("req_1", {"model": "words", "messages": [{"role": "user", "content": "x"}]}, snapshot.refresh(), CALLER)
    found = explaining.past("req_1")
    assert found is not None
    assert found.document is not None
    assert found.question is None
    assert found.problem == "the client key gw-1 does not exist any more"


@pytest.mark.django_db
def test_a_request_that_nobody_knows_is_none() -> None:
    assert explaining.past("req_0") is None


def test_every_operation_can_be_asked_about(serve) -> None:
    serve(registry.model(registry.provider(), "draws", model_type="image", capabilities=frozenset()))
    for operation in OPERATION_NEEDS:
        facts = explaining.read({"model": "draws", "operation": operation}, None).facts
        assert facts.operation == operation
    assert explaining.read({"operation": "images", "prompt": "a cat"}, None).facts.prompt_bytes > 0
