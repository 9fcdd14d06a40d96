from dataclasses import replace

import pytest

from providers.secrets import Secret
from routing import filters
from routing.policy_documents import Requirements
from routing.types import NOMINAL, Asked, UpstreamKey
from tests.routing.views import facts, model, provider

NOW = 1_000.0


def asked(some_facts, requirements=None, conditions=NOMINAL, **rest):
    return Asked(some_facts, requirements or Requirements(), conditions, NOW, **rest)


def reason(a_model, some_facts, *rest, **more):
    question = asked(some_facts, *rest, **more)
    dropped = filters.refusal(a_model, question) or filters.out_for_now(a_model, question)
    return dropped.reason if dropped else None


def test_a_model_that_meets_every_rule_stays():
    assert reason(model(), facts()) is None


def test_a_pin_drops_every_other_provider():
    assert reason(model(), facts(provider_id="azure")) == "provider_pinned"
    assert reason(model(), facts(provider_id="openai")) is None


@pytest.mark.parametrize(
    ("allowed", "expected"),
    [
        (None, None),
        ((), "model_not_allowed"),
        (("gpt-4o",), None),
        (("gpt-*",), None),
        (("openai/*",), None),
        (("openai/gpt-4o",), None),
        (("azure/*",), "model_not_allowed"),
        (("GPT-4O",), "model_not_allowed"),
        (("claude-*", "gpt-4?"), None),
    ],
)
def test_a_key_reaches_the_models_that_its_patterns_name(allowed, expected):
    assert reason(model(), facts(allowed=allowed)) == expected


@pytest.mark.parametrize(
    ("model_type", "capabilities", "operation", "expected"),
    [
        ("chat", {"chat"}, "chat", None),
        ("chat", {"chat"}, "completions", None),
        ("chat", {"chat"}, "embeddings", "unsupported_operation"),
        ("embedding", {"embedding"}, "embeddings", None),
        ("embedding", set(), "embeddings", None),
        ("embedding", {"embedding"}, "chat", "unsupported_operation"),
        ("chat", {"chat", "embedding"}, "embeddings", None),
        ("of-tomorrow", set(), "chat", None),
    ],
)
def test_a_model_serves_what_its_type_or_capabilities_say(model_type, capabilities, operation, expected):
    assert reason(model(model_type=model_type, capabilities=capabilities), facts(operation=operation)) == expected


@pytest.mark.parametrize(
    ("expiries", "expected"),
    [((), None), ((None,), None), ((NOW + 1,), None), ((NOW,), "no_usable_key"), ((NOW - 1, NOW + 1), None)],
)
def test_a_provider_whose_keys_expired_since_the_snapshot_is_dropped(expiries, expected):
    keys = [UpstreamKey(number, Secret("sk"), expires_at=at) for number, at in enumerate(expiries)]
    assert reason(model(of=provider(keys=keys)), facts()) == expected


def test_a_provider_that_lacks_a_key_is_dropped():
    assert reason(model(of=replace(provider(), lacks_key=True)), facts()) == "no_usable_key"


def test_a_refusal_names_the_route_and_says_why():
    dropped = filters.refusal(model(), asked(facts(provider_id="azure")))
    assert dropped.route == "openai/gpt-4o"
    assert "'azure'" in dropped.detail
