from __future__ import annotations

from dataclasses import replace

import pytest

from routing import live_models
from routing.live_models import NoSuchChoice, Reading
from routing.policy_documents import PolicyDocument
from routing.types import (
    NOMINAL,
    Conditions,
    Identity,
    PolicyTarget,
    PolicyVersionView,
    PolicyView,
    RouteCondition,
    RoutingDefaults,
)
from tests.routing.views import model, provider, snapshot

NOW = 1_000.0
KZ = provider("kz", priority=1)
LLAMA, QWEN = model("llama3", of=KZ), model("qwen", of=KZ, capabilities=("chat", "tools"))
EYES = model("clip-vision-chat", of=KZ, capabilities=("chat",))
SEES = model("plain", of=KZ, capabilities=("chat", "vision"))
VECTORS = model("e5", of=KZ, model_type="embedding", capabilities=("embedding",))


def policy(name, held, *models, fallbacks=()):
    targets, following = (
        tuple(PolicyTarget(each, order=n) for n, each in enumerate(row)) for row in (models, fallbacks)
    )
    return PolicyView(name, "alias", PolicyVersionView(1, PolicyDocument(), targets, following))


def with_policies(held, **policies):
    return replace(held, policies=policies)


def test_without_policies_the_first_two_models_are_default_and_fallback():
    shown = live_models.listing(snapshot(LLAMA, QWEN), NOMINAL, {}, now=NOW)
    assert (shown.default, shown.fallback) == (LLAMA, QWEN)
    assert len(shown.models) == 2


def test_the_policies_default_and_fallback_say_which_serve():
    held = snapshot(LLAMA, QWEN, SEES)
    held = with_policies(held, default=policy("default", held, QWEN), fallback=policy("fallback", held, SEES))
    shown = live_models.listing(held, NOMINAL, {}, now=NOW)
    assert (shown.default, shown.fallback) == (QWEN, SEES)


def test_the_default_s_own_fallback_is_told_where_no_policy_has_that_name():
    held = snapshot(LLAMA, QWEN, SEES)
    held = with_policies(held, default=policy("default", held, QWEN, fallbacks=[LLAMA]))
    assert live_models.standing(held, now=NOW) == (QWEN, LLAMA)


def test_an_empty_registry_has_neither():
    shown = live_models.listing(snapshot(), NOMINAL, {}, now=NOW)
    assert (shown.models, shown.default, shown.fallback, shown.stale, shown.read_at) == ((), None, None, False, None)


def test_models_that_the_key_may_not_use_are_not_shown():
    identity = Identity(1, "gw-1", "tests", frozenset({"generate"}), ("qwen",))
    shown = live_models.listing(snapshot(LLAMA, QWEN), NOMINAL, {}, identity, now=NOW)
    assert [live.model for live in shown.models] == [QWEN]
    assert shown.default == QWEN


def test_a_model_whose_breaker_is_open_is_failing_and_one_that_was_taken_out_is_not_shown():
    held = snapshot(LLAMA, replace(QWEN, auto_disabled="five failures in a row"))
    conditions = Conditions({"kz/llama3": RouteCondition(breaker="open")})
    (live,) = live_models.listing(held, conditions, {}, now=NOW).models
    assert (live.model, live.status) == (LLAMA, live_models.FAILING)


def test_a_list_that_could_not_be_read_again_is_stale_and_says_when_it_was_read():
    held = replace(snapshot(LLAMA), providers={"kz": KZ})
    shown = live_models.listing(held, NOMINAL, {"kz": Reading(900.0, "HTTP 503"), "gone": Reading(1.0)}, now=NOW)
    assert (shown.stale, shown.read_at) == (True, 900.0)
    assert shown.models[0].reading == Reading(900.0, "HTTP 503")


def test_a_choice_by_name_is_that_model():
    choice = live_models.by_name("qwen", snapshot(LLAMA, QWEN), now=NOW)
    assert (choice.name, choice.model, choice.warning) == ("qwen", QWEN, "")
    assert live_models.by_name("kz/qwen", snapshot(LLAMA, QWEN), now=NOW).name == "kz/qwen"
    assert live_models.by_name("e5", snapshot(LLAMA, VECTORS), now=NOW).model == VECTORS


def test_an_alias_is_kept_as_it_was_chosen_with_a_warning():
    held = snapshot(LLAMA, QWEN)
    held = with_policies(held, **{"gpt-5": policy("gpt-5", held, QWEN)})
    choice = live_models.by_name("gpt-5", held, now=NOW)
    assert (choice.name, choice.model) == ("gpt-5", QWEN)
    assert "qwen" in choice.warning


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(NoSuchChoice, match="qwen"):
        live_models.by_name("qwenn", snapshot(LLAMA, QWEN), now=NOW)


def test_an_unknown_name_is_mapped_with_a_warning_where_the_gateway_is_told_to():
    held = replace(snapshot(LLAMA), defaults=RoutingDefaults(unknown_model="default"))
    choice = live_models.by_name("typo", held, now=NOW)
    assert (choice.name, choice.model) == ("kz/llama3", LLAMA)
    assert "typo" in choice.warning


def test_a_name_that_the_key_may_not_use_is_unknown_to_it():
    identity = Identity(1, "gw-1", "tests", frozenset({"generate"}), ("llama3",))
    with pytest.raises(NoSuchChoice):
        live_models.by_name("qwen", snapshot(LLAMA, QWEN), identity, now=NOW)


@pytest.mark.parametrize(
    ("capability", "chosen"),
    [("chat", LLAMA), ("completion", LLAMA), ("embedding", VECTORS), ("vision", SEES), ("function_calling", QWEN)],
)
def test_a_choice_by_capability_goes_by_what_is_declared(capability, chosen):
    held = snapshot(LLAMA, EYES, QWEN, SEES, VECTORS)
    assert live_models.by_capability(capability, held, now=NOW).model == chosen


def test_the_default_is_chosen_where_it_can_do_it_and_another_where_it_cannot():
    held = snapshot(LLAMA, QWEN, SEES)
    held = with_policies(held, default=policy("default", held, QWEN))
    assert live_models.by_capability("chat", held, now=NOW).model == QWEN
    assert live_models.by_capability("vision", held, now=NOW).model == SEES


def test_a_capability_that_nobody_declares_is_refused():
    with pytest.raises(NoSuchChoice, match="telepathy"):
        live_models.by_capability("telepathy", snapshot(LLAMA), now=NOW)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://user:secret@h:1/v1?key=secret#x", "http://h:1/v1"),
        ("https://h/v1", "https://h/v1"),
        ("http://[half", ""),
    ],
)
def test_an_endpoint_is_shown_without_what_could_be_a_secret(url, shown):
    assert live_models.public_url(url) == shown


def test_the_endpoint_is_the_deployment_s_or_the_provider_s():
    assert live_models.endpoint_of(replace(LLAMA, parameters={"base_urls": ["http://h:9/v1"]})) == "http://h:9/v1"
    remote = replace(KZ, connection={"base_url": "http://h/api"})
    assert live_models.endpoint_of(replace(LLAMA, provider=remote)) == "http://h/api"
    assert live_models.endpoint_of(LLAMA) == ""
