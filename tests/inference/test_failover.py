"""The way through the candidates of a policy: who is asked, how often, and what is told when nobody answers."""

from __future__ import annotations

import asyncio
import itertools
from decimal import Decimal

import orjson
import pytest

from inference import errors
from inference.backends.base import Reply, UpstreamCall
from providers.breaker_settings import BreakerSettings
from routing import health, snapshot
from routing.types import Prices, RoutingDefaults
from tests.fakes.upstream import FakeUpstream
from tests.inference import registry, scripted
from tests.inference.door import Answer, Door, chat_body
from tests.inference.scripted import DONE, EVENT, FINISH, far, in_turn, never, raising, streaming, whole

FAILED = errors.UpstreamFailed("500")


@pytest.fixture
async def quick(serve):
    async with Door() as opened:
        yield opened


def chain(serve, *behaviours, document=None, defaults=registry.QUICK, **more):
    """Providers a, b, … behind the policy `p` in that order; each has a model of its own."""
    names = "abcdefg"[: len(behaviours)]
    fars = [far(name, behave, **more) for name, behave in zip(names, behaviours, strict=True)]
    models = [registry.model(view, f"m-{name}") for name, (_, view) in zip(names, fars, strict=True)]
    said = {"targets": [{"model": "m-a"}], "fallbacks": [f"m-{name}" for name in names[1:]], **(document or {})}
    serve(*models, documents={"p": said}, defaults=defaults)
    return [one for one, _ in fars]


# Failing over ------------------------------------------------------------------------------------------------------


async def test_a_fallback_answers_and_the_answer_says_so(serve, quick) -> None:
    a, b = chain(serve, raising(FAILED), whole())
    answer = await quick.chat(model="p")
    assert (answer.status, answer.headers["x-gateway-route"]) == (200, "b/m-b")
    assert (answer.headers["x-gateway-fallback"], answer.headers["x-gateway-policy"]) == ("1", "p@1")
    assert (len(a.calls), len(b.calls)) == (1, 1)


@pytest.mark.parametrize("status", [400, 403, 404, 409, 422])
async def test_a_rejection_is_nobody_else_s(serve, quick, status) -> None:
    _, b = chain(
        serve, raising(errors.UpstreamRejected("no", body=b'{"error":{"message":"no"}}', status=status)), whole()
    )
    answer = await quick.chat(model="p")
    assert (answer.status, b.calls, answer.headers["x-should-retry"]) == (status, [], "false")


async def test_a_chain_of_policies_that_name_one_another_ends(serve, quick) -> None:
    (a, a_view), (b, b_view) = far("a", raising(FAILED)), far("b", raising(FAILED))
    serve(
        registry.model(a_view, "m-a"),
        registry.model(b_view, "m-b"),
        documents={
            "A": {"targets": [{"model": "m-a"}], "fallbacks": ["B"]},
            "B": {"targets": [{"model": "m-b"}], "fallbacks": ["A"]},
        },
        defaults=RoutingDefaults(retries=0),
    )
    answer = await quick.chat(model="A")
    assert (answer.status, len(a.calls), len(b.calls)) == (502, 1, 1)


async def test_when_all_fail_the_error_counts_the_tries_and_asks_for_no_more(serve, quick) -> None:
    chain(serve, raising(errors.UpstreamUnreachable("no")), raising(errors.UpstreamTimeout("late")))
    answer = await quick.chat(model="p")
    assert (answer.status, answer.headers["x-should-retry"]) == (504, "false")
    assert answer.error["attempts"] == [
        {"status": 502, "code": "upstream_unreachable"},
        {"status": 504, "code": "upstream_timeout"},
    ]
    assert answer.error["code"] == "upstream_timeout"


async def test_an_upstream_s_own_error_tells_the_tries_too(serve, quick) -> None:
    body = b'{"error":{"message":"slow down","type":"t","param":null,"code":"rpm"}}'
    limited = errors.UpstreamRateLimited("slow down", body=body, code="rpm", retry_after=9)
    chain(serve, raising(limited), raising(FAILED), defaults=RoutingDefaults(retries=0))
    answer = await quick.chat(model="p")
    assert (answer.status, answer.error["code"], answer.headers["retry-after"]) == (429, "rpm", "9")
    assert [one["code"] for one in answer.error["attempts"]] == ["rpm", "upstream_error"]


async def test_without_fallback_only_the_first_is_asked(serve, quick) -> None:
    _, b = chain(serve, raising(FAILED), whole(), defaults=RoutingDefaults(fallback_enabled=False, retries=0))
    assert (await quick.chat(model="p")).status == 502
    assert b.calls == []


async def test_the_first_provider_dies_under_load_and_no_request_that_has_not_begun_fails(serve, quick) -> None:
    with FakeUpstream(models=["m"]) as first, FakeUpstream(models=["m"]) as second:
        serve(
            registry.model(registry.remote(first.base_url, "first", priority=1), "m"),
            registry.model(registry.remote(second.base_url, "second", priority=2), "m"),
        )
        begun, gone = asyncio.Event(), asyncio.Event()

        async def client(number: int) -> list[Answer]:
            answers: list[Answer] = []
            over = 0
            while over < 3:
                over += gone.is_set()
                answers.append(await quick.chat(model="m", stream=bool(number % 2)))
                if len(answers) == 3:
                    begun.set()
            return answers

        clients = [asyncio.create_task(client(number)) for number in range(16)]
        await begun.wait()
        await asyncio.to_thread(first.stop)
        gone.set()
        answers = list(itertools.chain(*await asyncio.gather(*clients)))
    assert {answer.status for answer in answers} == {200}
    routes = {answer.headers["x-gateway-route"] for answer in answers}
    assert routes == {"first/m", "second/m"}
    for answer in answers:
        streamed = answer.headers["content-type"].startswith("text/event-stream")
        if streamed and not answer.body.endswith(DONE):
            # It had begun: the client is told, and is not left with half an answer that looks whole.
            assert (answer.headers["x-gateway-route"], "error" in answer.events[-1]) == ("first/m", True)


# Retries and time --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("retries", "calls"), [(0, 1), (1, 2), (3, 4)])
async def test_the_last_candidate_is_retried_as_often_as_configured(serve, quick, retries, calls) -> None:
    defaults = RoutingDefaults(retries=retries, retry_delay_seconds=0.001)
    a, b = chain(serve, raising(FAILED), raising(FAILED), defaults=defaults)
    assert (await quick.chat(model="p")).status == 502
    assert (len(a.calls), len(b.calls)) == (1, calls)


async def test_a_candidate_whose_breaker_opened_is_not_retried(serve, quick) -> None:
    defaults = RoutingDefaults(retries=3, retry_delay_seconds=0.001)
    [a] = chain(serve, raising(FAILED), breaker=BreakerSettings(failure_threshold=2), defaults=defaults)
    await quick.chat(model="p")
    assert len(a.calls) == 2


async def test_a_policy_s_own_retries_are_for_every_candidate(serve, quick) -> None:
    document = {"retries": {"attempts": 2, "delay_seconds": 0.001}}
    a, b = chain(serve, raising(FAILED), raising(FAILED), document=document, defaults=RoutingDefaults(retries=0))
    await quick.chat(model="p")
    assert (len(a.calls), len(b.calls)) == (3, 3)


async def test_a_request_that_was_rejected_is_not_retried(serve, quick) -> None:
    refused = errors.UpstreamRejected("no", body=b'{"error":{"message":"no"}}', status=400)
    [a] = chain(serve, raising(refused), defaults=RoutingDefaults(retries=3, retry_delay_seconds=0.001))
    await quick.chat(model="p")
    assert len(a.calls) == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_an_attempt_that_takes_too_long_is_given_up_for_the_next(serve, quick, stream) -> None:
    good = streaming(EVENT, FINISH, DONE) if stream else whole()
    a, _ = chain(serve, never, good, document={"timeouts": {"attempt_seconds": 0.02}})
    answer = await quick.chat(model="p", stream=stream)
    assert (answer.status, answer.headers["x-gateway-route"]) == (200, "b/m-b")
    assert a.cancelled.is_set()


async def test_a_stream_that_has_begun_may_take_longer_than_an_attempt(serve, quick) -> None:
    more = asyncio.Event()
    asyncio.get_running_loop().call_later(0.06, more.set)
    chain(serve, streaming(EVENT, more, FINISH, DONE), document={"timeouts": {"attempt_seconds": 0.03}})
    assert (await quick.chat(model="p", stream=True)).body == EVENT + FINISH + DONE


async def test_all_attempts_together_have_their_time(serve, quick) -> None:
    document = {"timeouts": {"attempt_seconds": 5, "total_seconds": 0.03}}
    a, b = chain(serve, never, whole(), document=document)
    answer = await quick.chat(model="p")
    assert (answer.status, answer.error["code"], b.calls) == (504, "upstream_timeout", [])
    assert a.cancelled.is_set()


async def test_time_that_runs_out_between_two_tries_speaks_against_nobody(serve, quick) -> None:
    document = {"retries": {"attempts": 1, "delay_seconds": 5}, "timeouts": {"total_seconds": 0.03}}
    [a] = chain(serve, raising(FAILED), document=document)
    assert (await quick.chat(model="p")).error["code"] == "upstream_timeout"
    assert (len(a.calls), health.current().conditions().of("a/m-a").recent_failures) == (1, 1)


# Health ------------------------------------------------------------------------------------------------------------


async def test_a_breaker_opens_and_then_spares_the_provider(serve, quick) -> None:
    settings = BreakerSettings(failure_threshold=3, open_seconds=60)
    a, _ = chain(serve, raising(FAILED), whole(), breaker=settings)
    for _ in range(8):
        answer = await quick.chat(model="p")
        assert (answer.status, answer.headers["x-gateway-fallback"]) == (200, "1")
    assert len(a.calls) == 3


async def test_when_every_breaker_is_open_the_caller_is_told_when_to_come_back(serve, quick) -> None:
    settings = BreakerSettings(failure_threshold=1, open_seconds=30)
    a, b = chain(serve, raising(FAILED), raising(FAILED), breaker=settings, defaults=RoutingDefaults(retries=0))
    await quick.chat(model="p")
    answer = await quick.chat(model="p")
    assert (answer.status, answer.error["code"]) == (503, "no_healthy_target")
    assert 1 <= int(answer.headers["retry-after"]) <= 30
    assert (len(a.calls), len(b.calls)) == (1, 1)


class NoPermit(health.Health):
    async def permit(self, model) -> bool:
        return False


async def test_a_half_open_breaker_that_grants_nothing_is_passed_over(serve, quick, monkeypatch) -> None:
    settings = BreakerSettings(failure_threshold=1, open_seconds=0.01)
    a, _ = chain(serve, raising(FAILED), whole(), breaker=settings)
    await quick.chat(model="p")
    await asyncio.sleep(0.02)
    monkeypatch.setattr(health.Health, "permit", NoPermit.permit)
    answer = await quick.chat(model="p")
    assert (answer.status, answer.headers["x-gateway-fallback"], len(a.calls)) == (200, "1", 1)
    await quick.app.shutdown()
    log = orjson.loads(quick.rows[-1].attempts_log)
    assert [(one["provider_id"], one["reason"]) for one in log] == [("a", "breaker_half_open"), ("b", "fallback")]


async def test_a_half_open_place_is_given_back_when_no_key_is_left(serve, quick) -> None:
    settings = BreakerSettings(failure_threshold=1, open_seconds=0)
    keys = ["sk-one-for-this-test", "sk-two-for-this-test"]
    chain(serve, whole(), breaker=settings, keys=keys, defaults=RoutingDefaults(retries=0))
    [model] = snapshot.current().models
    health.current().failed(model, "upstream_timeout")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(health.Health, "key_is_exhausted", lambda *_: True)
        assert (await quick.chat(model="p")).error["code"] == "no_healthy_target"
    assert (await quick.chat(model="p")).status == 200


async def test_a_key_without_money_is_left_for_the_provider_s_next(serve, quick) -> None:
    async def only_the_second(call: UpstreamCall) -> Reply:
        if call.key.key_id == 1:
            raise errors.UpstreamRateLimited("no money", body=b"{}", code="insufficient_quota")
        return Reply(body=scripted.WHOLE)

    [a] = chain(serve, only_the_second, keys=["sk-one-without-money", "sk-two-with-money"])
    for _ in range(20):
        assert (await quick.chat(model="p")).status == 200
    assert sum(call.key.key_id == 1 for call in a.calls) <= 1


async def test_what_is_under_way_is_counted_until_it_is_over(serve, quick) -> None:
    more = asyncio.Event()
    chain(serve, streaming(EVENT, more, FINISH, DONE))
    client, task = quick.open("/v1/chat/completions", chat_body(model="p", stream=True))
    await client.until_said()
    assert health.current().conditions().in_flight["a/m-a"] == 1
    more.set()
    await task
    assert not health.current().conditions().in_flight["a/m-a"]


async def test_a_stream_that_breaks_off_speaks_against_its_provider(serve, quick) -> None:
    settings = BreakerSettings(failure_threshold=1, open_seconds=60)
    chain(serve, streaming(EVENT, errors.UpstreamBroken("cut")), whole(), breaker=settings)
    await quick.chat(model="p", stream=True)
    assert health.current().conditions().of("a/m-a").breaker == "open"


# What a request demands --------------------------------------------------------------------------------------------


async def test_a_limit_of_cost_that_nothing_meets_calls_nobody(serve, quick) -> None:
    a, b = chain(serve, whole(), whole())
    answer = await quick.chat(model="p", max_cost=0.000001)
    assert (answer.status, answer.error["code"]) == (400, "max_cost_exceeded")
    assert (a.calls, b.calls) == ([], [])
    assert (await quick.chat(model="p", max_cost=1)).status == 200


async def test_many_answers_and_tools_cost_more(serve, quick) -> None:
    [a] = chain(serve, whole())
    limit = {"max_cost": "0.001", "max_tokens": 100}
    tool = {"type": "function", "function": {"name": "f", "description": "words " * 1000}}
    for dear in ({"n": 5}, {"tools": [tool]}):
        answer = await quick.chat(model="p", **limit, **dear)
        assert answer.error["code"] == "max_cost_exceeded", dear
    assert (await quick.chat(model="p", **limit)).status == 200
    assert len(a.calls) == 1


async def test_the_lower_limit_of_cost_rules(serve, quick) -> None:
    [a] = chain(serve, whole(), defaults=RoutingDefaults(max_cost=Decimal("0.000001")))
    assert (await quick.chat(model="p", max_cost=5)).error["code"] == "max_cost_exceeded"
    assert a.calls == []


async def test_a_longer_prompt_costs_more_and_may_not_fit(serve, quick) -> None:
    [a] = chain(serve, whole())
    limit = {"max_cost": "0.001", "max_tokens": 10}
    assert (await quick.chat("short", model="p", **limit)).status == 200
    assert (await quick.chat("long " * 2000, model="p", **limit)).error["code"] == "max_cost_exceeded"
    assert len(a.calls) == 1


async def test_local_only_sends_nothing_away_when_the_local_ones_are_down(serve, quick) -> None:
    settings = {"defaults": RoutingDefaults(retries=0)}
    (a, a_view), (b, b_view), (c, c_view) = (
        far("a", raising(FAILED), local=True),
        far("b", raising(FAILED), local=True),
        far("c", whole()),
    )
    serve(
        *[registry.model(view, f"m-{view.provider_id}") for view in (a_view, b_view, c_view)],
        documents={
            "private": {
                "targets": [{"model": "m-a"}],
                "fallbacks": ["m-b", "m-c"],
                "requirements": {"local_only": True},
            }
        },
        **settings,
    )
    answer = await quick.chat(model="private")
    assert (answer.status, answer.error["code"]) == (502, "upstream_error")
    assert (len(a.calls), len(b.calls), c.calls) == (1, 1, [])


async def test_a_header_keeps_a_request_local(serve, quick) -> None:
    [a] = chain(serve, whole())
    body = chat_body(model="p")
    answer = await quick.call("/v1/chat/completions", body, headers={"x-gateway-local-only": "1"})
    assert (answer.status, answer.error["code"], a.calls) == (403, "not_local", [])


async def test_a_preferred_model_is_used_when_it_can_and_got_around_when_not(serve, quick) -> None:
    _, b = chain(serve, whole(), whole())
    assert (await quick.chat(model="p", preferred_model="m-b")).headers["x-gateway-route"] == "b/m-b"
    b.behave = raising(FAILED)
    assert (await quick.chat(model="p", preferred_model="m-b")).headers["x-gateway-route"] == "a/m-a"
    unknown = await quick.chat(model="p", preferred_model="nöwhere\r\nx-evil: 1")
    assert unknown.headers["x-gateway-route"] == "a/m-a"
    assert "does not exist" in unknown.headers["x-gateway-notice"]
    assert "\n" not in unknown.headers["x-gateway-notice"]


async def test_a_preferred_model_that_cannot_see_gives_way(serve, quick) -> None:
    (blind, blind_view), (_, seeing_view) = far("a", whole()), far("b", whole())
    serve(
        registry.model(blind_view, "text"),
        registry.model(seeing_view, "eyes", capabilities=frozenset({"chat", "vision"})),
    )
    answer = await quick.chat(model="eyes", preferred_model="text", require_vision=True)
    assert answer.headers["x-gateway-route"] == "b/eyes"
    assert blind.calls == []


async def test_a_picture_needs_a_model_that_sees_also_without_the_flag(serve, quick) -> None:
    (blind, blind_view), (seeing, seeing_view) = far("a", whole()), far("b", whole())
    serve(
        registry.model(blind_view, "text"),
        registry.model(seeing_view, "eyes", capabilities=frozenset({"chat", "vision"})),
    )
    content = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": "https://x/cat.png"}},
    ]
    body = {"messages": [{"role": "user", "content": content}]}
    answer = await quick.call("/v1/chat/completions", body)
    assert answer.headers["x-gateway-route"] == "b/eyes"
    [call] = seeing.calls
    assert orjson.loads(bytes(call.fields["messages"])) == body["messages"]
    refused = await quick.call("/v1/chat/completions", {**body, "model": "text"})
    assert (refused.status, refused.error["code"], blind.calls) == (400, "unsupported_capability", [])


async def test_a_long_prompt_never_goes_to_a_small_model(serve, quick) -> None:
    (small, small_view), (_, large_view) = far("a", whole()), far("b", whole(), priority=200)
    serve(
        registry.model(small_view, "m", context_window=8_000), registry.model(large_view, "m", context_window=100_000)
    )
    assert (await quick.chat("hi", model="m")).headers["x-gateway-route"] == "a/m"
    assert (await quick.chat("words and " * 4_000, model="m")).headers["x-gateway-route"] == "b/m"
    assert (await quick.chat("hi", model="m")).headers["x-gateway-route"] == "a/m"
    assert len(small.calls) == 2


async def test_without_a_model_the_gateway_chooses(serve, quick) -> None:
    chain(serve, whole())
    answer = await quick.call("/v1/chat/completions", {"messages": [{"role": "user", "content": "hi"}]})
    assert (answer.status, answer.headers["x-gateway-route"]) == (200, "a/m-a")


# Embeddings --------------------------------------------------------------------------------------------------------


async def test_embeddings_fall_back_to_the_same_model_only(serve, quick) -> None:
    (_, a_view), (b, b_view), (_, c_view) = far("a", raising(FAILED)), far("b", whole()), far("c", whole())
    serve(
        registry.model(a_view, "embed-1", dimension=8),
        registry.model(b_view, "embed-2", dimension=8),
        registry.model(c_view, "embed-1", dimension=8),
        documents={
            "e": {"targets": [{"model": "embed-1", "provider": "a"}], "fallbacks": ["embed-2", "c/embed-1"]},
            "mixed": {
                "targets": [{"model": "embed-1", "provider": "a"}],
                "fallbacks": ["embed-2"],
                "mixed_embeddings": True,
            },
        },
    )
    answer = await quick.call("/v1/embeddings", {"model": "e", "input": "hi"})
    assert (answer.status, answer.headers["x-gateway-route"], b.calls) == (200, "c/embed-1", [])
    mixed = await quick.call("/v1/embeddings", {"model": "mixed", "input": "hi"})
    assert (mixed.status, mixed.headers["x-gateway-route"]) == (200, "b/embed-2")


async def test_embeddings_never_fall_back_to_another_dimension(serve, quick) -> None:
    (_, a_view), (b, b_view) = far("a", raising(FAILED)), far("b", whole())
    serve(
        registry.model(a_view, "embed-1", dimension=8),
        registry.model(b_view, "embed-2", dimension=16),
        documents={"e": {"targets": [{"model": "embed-1"}], "fallbacks": ["embed-2"], "mixed_embeddings": True}},
        defaults=RoutingDefaults(retries=0),
    )
    answer = await quick.call("/v1/embeddings", {"model": "e", "input": "hi"})
    assert (answer.status, b.calls) == (502, [])


# What is told and kept ---------------------------------------------------------------------------------------------


async def test_a_reply_tells_its_cost_and_on_demand_its_way(serve, quick) -> None:
    chain(serve, raising(FAILED), whole())
    answer = await quick.chat(model="p", x_gateway={"explain": True})
    assert Decimal(answer.headers["x-gateway-cost-usd"]) == Decimal("0.000019")
    told = answer.json.pop("x_gateway")
    assert {name: told[name] for name in ("route", "policy", "attempts", "fallback", "cost")} == {
        "route": "b/m-b",
        "policy": "p@1",
        "attempts": 2,
        "fallback": True,
        "cost": 0.000019,
    }
    assert "m-a" in told["reason"]
    assert answer.headers["content-length"] == str(len(answer.body))
    assert b"x_gateway" not in (await quick.chat(model="p")).body


async def test_a_cost_in_another_currency_is_not_called_dollars(serve, quick) -> None:
    _, view = far("a", whole())
    serve(registry.model(view, "m", prices=Prices(Decimal(1), Decimal(2), currency="EUR")))
    answer = await quick.chat(model="m", x_gateway=True)
    assert "x-gateway-cost-usd" not in answer.headers
    assert (answer.json["x_gateway"]["cost"], answer.json["x_gateway"]["currency"]) == (0.000019, "EUR")


async def test_a_row_tells_the_policy_the_request_and_every_try(serve, quick) -> None:
    chain(serve, in_turn(raising(FAILED), whole()), whole())
    await quick.chat(model="p", max_tokens=9)
    await quick.chat(model="p", max_tokens=9)
    await quick.app.shutdown()
    failed, smooth = quick.rows
    assert (failed.policy, failed.policy_version, smooth.policy) == ("p", 1, "p")
    assert failed.decision
    asked = orjson.loads(failed.asked)
    assert (asked["max_output_tokens"], asked["prompt_bytes"]) == (9, len('[{"role":"user","content":"Hello there"}]'))
    first, second = orjson.loads(failed.attempts_log)
    assert (first["provider_id"], first["status"], first["code"], first["reason"]) == (
        "a",
        502,
        "upstream_error",
        "target",
    )
    assert (second["provider_id"], second["reason"], second["input_tokens"]) == ("b", "fallback", 5)
    assert Decimal(second["cost"]) == Decimal("0.000019")
    assert smooth.attempts_log == ""


async def test_a_refused_request_keeps_why(serve, quick) -> None:
    chain(serve, whole())
    await quick.chat(model="p", max_cost="0.0000001")
    await quick.app.shutdown()
    [row] = quick.rows
    assert (row.status, row.error_code, row.policy, row.attempts) == (400, "max_cost_exceeded", "p", 0)
    assert orjson.loads(row.asked)["max_cost"] == "1E-7"
    assert row.decision


async def test_policies_are_listed_for_those_who_may_use_them(serve, quick) -> None:
    _, view = far("a", whole())
    serve(
        registry.model(view, "m-a"),
        documents={"p": {"targets": [{"model": "m-a"}]}, "q": {"targets": [{"model": "m-a"}]}},
        keys=[registry.key_view(allowed_models=("p",))],
    )
    listed = (await quick.get("/v1/models")).json["data"]
    assert [(one["id"], one["owned_by"]) for one in listed] == [("p", "policy")]
    assert (await quick.get("/v1/models/p")).json["id"] == "p"
    assert (await quick.get("/v1/models/q")).status == 404
    assert (await quick.chat(model="p")).status == 200
    assert (await quick.chat(model="q")).status == 404
