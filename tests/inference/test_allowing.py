"""Limits and budgets as a caller meets them: refusals, headers, failover, and what is counted however a request ends."""

from __future__ import annotations

import asyncio
import random

import orjson
import pytest

from inference import allowing, answering, client, errors
from inference.wire import media, problems
from inference.wire.openai import CHAT, MODERATIONS, TRANSCRIPTIONS, parse
from inference.wire.pictures import PictureLimits
from routing import ledger_word, metering, metering_store
from routing.allowances import CALLS, DAY, MINUTE, REQUESTS, TOKENS, UNDER_WAY, AllowanceIndex
from routing.metering import Needs
from tests.inference import registry
from tests.inference.door import Door, chat_body
from tests.inference.scripted import DONE, EVENT, FINISH, USAGE, WHOLE, far, raising, streaming, whole
from tests.routing.test_metering import Process, allowance, budget, patient, until  # noqa: F401

FAILED = errors.UpstreamFailed("500")
A_CALL = 19_000
"""Nano-USD: five tokens in and seven out, at one and two dollars a million."""


@pytest.fixture(autouse=True)
def _a_ledger_without_entries():
    before = ledger_word._read
    ledger_word.read_with(lambda asked: [0] * len(asked))
    yield
    ledger_word.read_with(before)


@pytest.fixture
async def quick(serve):
    async with Door() as opened:
        yield opened


def limited(serve, *behaviours, callers=(), targets=None, **more):
    """Providers a, b, … one after the other; `callers` count for the key, `targets` by provider."""
    names = "abcdefg"[: len(behaviours)]
    fars = [far(name, behave) for name, behave in zip(names, behaviours, strict=True)]
    models = [registry.model(view, f"m-{name}", **more) for name, (_, view) in zip(names, fars, strict=True)]
    index = AllowanceIndex(keys={7: tuple(callers)}, providers=targets or {})
    said = {"targets": [{"model": "m-a"}], "fallbacks": [f"m-{name}" for name in names[1:]]}
    serve(*models, documents={"p": said}, allowances=index)
    return [one for one, _ in fars]


def purse(one):
    return metering.current().purses[one.key]


async def test_the_request_beyond_a_limit_is_told_when_to_come_back(serve, quick) -> None:
    (upstream,) = limited(serve, whole(), callers=[allowance(REQUESTS, MINUTE, 1)])
    assert (await quick.chat(model="p")).status == 200
    refused = await quick.chat(model="p")
    assert (refused.status, refused.error["code"], refused.error["type"]) == (
        429,
        "rate_limit_exceeded",
        "rate_limit_error",
    )
    assert 0 < int(refused.headers["retry-after-ms"]) <= 60_000
    assert 0 < int(refused.headers["retry-after"]) <= 60
    assert refused.headers["x-ratelimit-remaining-requests"] == "0"
    assert "x-should-retry" not in refused.headers
    assert len(upstream.calls) == 1


async def test_an_answer_from_the_cache_counts_as_a_request_and_takes_no_money(serve, quick, redis_url) -> None:
    requests, money = allowance(REQUESTS, MINUTE, 2), budget(50_000_000)
    answer = whole(WHOLE.replace(b"[]", b'[{"index":0,"message":{"content":"a"},"finish_reason":"stop"}]'))
    only, view = far("a", answer)
    document = {"targets": ["m-a"], "cache": {"ttl_seconds": 60}}
    index = AllowanceIndex(keys={7: (requests, money)})
    serve(registry.model(view, "m-a"), documents={"p": document}, allowances=index)
    statuses = []
    for _ in range(3):
        statuses.append((await quick.chat(model="p", max_tokens=7)).status)
        await quick.app._plane.kept_replies.settled()
    assert statuses == [200, 200, 429]
    assert len(only.calls) == 1
    assert (purse(requests).spent, purse(money).spent, purse(money).reserved) == (2, A_CALL, 0)


async def test_replies_tell_what_is_left_of_the_tightest_limits(serve, quick) -> None:
    limited(
        serve,
        whole(),
        callers=[allowance(REQUESTS, MINUTE, 10), allowance(REQUESTS, DAY, 1000), allowance(TOKENS, DAY, 100_000)],
    )
    headers = (await quick.chat(model="p")).headers
    assert headers["x-ratelimit-limit-requests"] == "10"
    assert headers["x-ratelimit-remaining-requests"] == "9"
    assert headers["x-ratelimit-reset-requests"] in {"1m0s", *(f"{seconds}s" for seconds in range(1, 60))}
    assert headers["x-ratelimit-limit-tokens"] == "100000"
    assert 99_000 < int(headers["x-ratelimit-remaining-tokens"]) < 100_000


async def test_a_budget_that_is_used_up_names_its_code_and_asks_for_no_retry(serve, quick) -> None:
    (upstream,) = limited(serve, whole(), callers=[budget(A_CALL, DAY, strict=False)], max_tokens=1)
    assert (await quick.chat("x", model="p")).status == 200
    refused = await quick.chat("x" * 9000, model="p")
    assert (refused.status, refused.error["code"], refused.error["param"]) == (
        429,
        "insufficient_quota",
        "DAILY_BUDGET_EXCEEDED",
    )
    assert refused.headers["x-should-retry"] == "false"
    assert len(upstream.calls) == 1


async def test_what_a_request_really_used_is_counted(serve, quick) -> None:
    money, tokens = budget(10**9), allowance(TOKENS, DAY, 10**6)
    limited(serve, whole(), callers=[money, tokens])
    await quick.chat(model="p", max_tokens=100)
    assert (purse(money).spent, purse(money).reserved) == (A_CALL, 0)
    assert (purse(tokens).spent, purse(tokens).reserved) == (12, 0)
    assert quick.rows == [] or quick.rows[0].cost is not None


async def test_a_request_that_failed_everywhere_costs_nothing(serve, quick) -> None:
    money, calls = budget(10**9), allowance(CALLS, UNDER_WAY, 5)
    limited(serve, raising(FAILED), raising(FAILED), callers=[money, calls])
    assert (await quick.chat(model="p")).status == 502
    assert (purse(money).spent, purse(money).reserved, purse(calls).reserved) == (0, 0, 0)
    assert metering.current().open_grants == 0


async def test_over_several_providers_a_request_counts_once_and_money_follows_who_answered(serve, quick) -> None:
    requests, money = allowance(REQUESTS, DAY, 10), budget(10**9)
    a, b = (allowance(TOKENS, DAY, 10**6, subject="provider", key=f"limit:tpd:{name}") for name in "ab")
    limited(serve, raising(FAILED), whole(), callers=[requests, money], targets={"a": (a,), "b": (b,)})
    assert (await quick.chat(model="p")).headers["x-gateway-route"] == "b/m-b"
    assert purse(requests).spent == 1
    assert (purse(money).spent, purse(money).reserved) == (A_CALL, 0)
    assert (purse(a).spent, purse(b).spent) == (0, 12)


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("/v1/messages/count_tokens", {"messages": [{"role": "user", "content": "Hello"}]}),
        ("/v1/responses/input_tokens", {"input": "Hello"}),
    ],
)
async def test_counting_tokens_takes_a_turn_and_neither_tokens_nor_money(serve, quick, path, asked) -> None:
    turns, calls = allowance(REQUESTS, MINUTE, 2), allowance(CALLS, UNDER_WAY, 1)
    spent = [allowance(TOKENS, DAY, 1), budget(1, refuse_unpriced=True)]
    limited(serve, whole(), callers=[turns, calls, *spent])
    answers = [await quick.call(path, {"model": "m-a", **asked}) for _ in range(3)]
    assert [answer.status for answer in answers] == [200, 200, 429]
    assert answers[1].headers["x-ratelimit-remaining-requests"] == "0"
    assert answers[2].error["type"] == "rate_limit_error"
    assert int(answers[2].headers["retry-after"]) > 0
    assert (purse(turns).spent, purse(calls).reserved, metering.current().open_grants) == (2, 0, 0)
    assert list(quick.metrics.requests.values()) == [2, 1]


async def test_a_provider_whose_limit_is_reached_is_passed_over(serve, quick) -> None:
    one = allowance(REQUESTS, MINUTE, 1, subject="provider")
    a, b = limited(serve, whole(), whole(), targets={"a": (one,)})
    routes = [(await quick.chat(model="p")).headers["x-gateway-route"] for _ in range(3)]
    assert routes == ["a/m-a", "b/m-b", "b/m-b"]
    assert (len(a.calls), len(b.calls)) == (1, 2)


async def test_when_all_providers_are_at_their_limits_the_caller_may_come_back(serve, quick) -> None:
    one = allowance(REQUESTS, MINUTE, 1, subject="provider")
    limited(serve, whole(), targets={"a": (one,)})
    await quick.chat(model="p")
    refused = await quick.chat(model="p")
    assert (refused.status, refused.error["code"]) == (429, "rate_limit_exceeded")
    assert 1 <= int(refused.headers["retry-after"]) <= 60


async def test_a_provider_whose_budget_is_used_up_is_passed_over(serve, quick) -> None:
    one = budget(1, subject="provider")
    a, _ = limited(serve, whole(), whole(), targets={"a": (one,)})
    assert (await quick.chat(model="p")).headers["x-gateway-route"] == "b/m-b"
    assert a.calls == []


async def test_when_the_budgets_of_all_providers_are_used_up_the_caller_is_told_their_period(serve, quick) -> None:
    limited(serve, whole(), targets={"a": (budget(1, subject="provider"),)})
    refused = await quick.chat(model="p")
    assert (refused.status, refused.error["param"]) == (429, "MONTHLY_BUDGET_EXCEEDED")


async def test_a_model_without_a_price_is_refused_where_the_budget_says_so(serve, quick) -> None:
    unknown = registry.Prices(None, None)
    limited(serve, whole(), callers=[budget(10**9, refuse_unpriced=True)], prices=unknown)
    refused = await quick.chat(model="p")
    assert (refused.status, refused.error["code"]) == (400, "price_unknown")


async def test_a_stream_that_its_client_left_gives_back_what_it_did_not_use(serve, quick) -> None:
    money, calls = budget(10**9), allowance(CALLS, UNDER_WAY, 5)
    limited(serve, streaming(EVENT, asyncio.Event()), callers=[money, calls])
    caller, task = quick.open("/v1/chat/completions", chat_body(model="p", stream=True))
    while not caller.answer.pieces:
        await caller.until_said()
    assert purse(calls).reserved == 1
    caller.leave()
    await asyncio.wait_for(task, 60)
    assert (purse(calls).reserved, purse(money).reserved) == (0, 0)
    assert purse(money).spent > 0


async def test_a_stream_counts_what_its_last_event_tells(serve, quick) -> None:
    tokens = allowance(TOKENS, DAY, 10**6)
    limited(serve, streaming(EVENT, FINISH, USAGE, DONE), callers=[tokens])
    await quick.chat(model="p", stream=True)
    assert (purse(tokens).spent, purse(tokens).reserved) == (13, 0)


async def test_a_soft_budget_serves_on_and_tells_the_caller(serve, quick) -> None:
    soft = budget(1, hard=False)
    limited(serve, whole(), callers=[soft])
    await quick.chat(model="p")
    await until(lambda: purse(soft).over)
    answer = await quick.chat(model="p")
    assert (answer.status, answer.headers["x-gateway-notice"]) == (200, "budget of the test is used up")


async def test_while_redis_is_away_limits_stay_open_and_a_closed_budget_refuses(serve, quick, monkeypatch) -> None:
    metering.replace(metering.Meter("redis://127.0.0.1:1/0"))
    limited(serve, whole(), callers=[allowance(REQUESTS, MINUTE, 100)])
    assert (await quick.chat(model="p")).status == 200
    limited(serve, whole(), callers=[budget(10**9)])
    refused = await quick.chat(model="p")
    assert (refused.status, refused.error["code"]) == (503, "budget_store_unavailable")
    assert refused.headers["retry-after"] == "1"


async def test_nothing_configured_asks_nobody_and_leaves_no_grant(serve, quick) -> None:
    limited(serve, whole())
    metering.replace(metering.Meter("redis://127.0.0.1:1/0"))
    answer = await quick.chat(model="p")
    assert answer.status == 200
    assert not any(name.startswith("x-ratelimit") for name in answer.headers)
    assert metering.current()._sharing is None


async def test_two_hundred_streams_leave_nothing_open_and_stay_within_a_strict_budget(serve, quick, redis_url) -> None:
    """A third is left by its client and a tenth fails over, while another process draws on the same budget."""
    chance = random.Random(5)
    money, calls = budget(150 * 60_000), allowance(CALLS, UNDER_WAY, 150)

    async def first(call):
        if chance.random() < 0.1:
            raise FAILED
        if b"leave" in bytes(call.fields["messages"]):
            return await streaming(EVENT, asyncio.Event())(call)
        return await streaming(EVENT, FINISH, USAGE, DONE)(call)

    limited(serve, first, streaming(EVENT, FINISH, USAGE, DONE), callers=[money, calls], max_tokens=20)
    other = Process(redis_url, money)
    elsewhere = asyncio.gather(*(other.let_through(Needs(60, 0, 60, 0)) for _ in range(30)))
    serving = [
        quick.open("/v1/chat/completions", chat_body("stay" if place % 3 else "leave", model="p", stream=True))
        for place in range(200)
    ]
    for caller, _ in serving[::3]:
        caller.leave()
    await asyncio.wait_for(asyncio.gather(*(task for _, task in serving)), 60)
    taken_elsewhere = sum(grant is not None for grant in await elsewhere) * 60_000
    spent = purse(money).spent
    assert spent + taken_elsewhere <= money.amount
    assert (purse(money).reserved, purse(calls).reserved, metering.current().open_grants) == (0, 0, 0)
    assert sum(caller.answer.status == 200 for caller, _ in serving) > 50
    metering.current()._shared().wake()
    await until(lambda: metering_store.read(redis_url, [money])[money.key][:2] == (spent, taken_elsewhere))
    await other.meter.stop()


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.012, "12ms"), (1.2, "2s"), (360, "6m0s"), (7261, "2h1m1s"), (0, "0ms")]
)
def test_spans_read_as_openai_s_clients_expect(seconds, text) -> None:
    assert allowing._duration(seconds) == text


async def test_a_request_from_inside_the_process_counts_like_one_from_outside(serve, quick) -> None:
    tokens = allowance(TOKENS, DAY, 1000)
    limited(serve, whole(), callers=[tokens])
    identity = registry.key_view().identity
    await client.complete_async(chat_body(model="p"), identity=identity)
    assert (purse(tokens).spent, purse(tokens).reserved) == (12, 0)
    assert metering.current().open_grants == 0


async def test_the_source_systems_clients_read_their_own_codes(serve, quick) -> None:
    limited(serve, whole(), callers=[budget(1, DAY)])
    with pytest.raises(errors.BudgetExhausted) as refused:
        await client.complete_async(chat_body(model="p"), identity=registry.key_view().identity)
    told = problems.document(refused.value, "r")
    assert (told["code"], told["error_details"]["code"]) == ("insufficient_quota", "DAILY_BUDGET_EXCEEDED")
    assert (told["error_details"]["retryable"], "errors" in told) == (False, False)


async def test_a_job_settles_where_it_ran(serve, quick, monkeypatch) -> None:
    tokens, calls = allowance(TOKENS, DAY, 1000), allowance(CALLS, UNDER_WAY, 1)
    limited(serve, streaming(EVENT, FINISH, USAGE, DONE), callers=[tokens, calls])
    monkeypatch.setattr(answering, "_plane", quick.app._plane)
    body = orjson.dumps(chat_body(model="p", stream=True))

    async def hear(events):
        assert purse(calls).reserved == 1

    question = answering.Question(parse(CHAT, body), registry.key_view().identity, "job_1")
    await question.streamed(hear)
    assert (purse(tokens).spent, purse(tokens).reserved, purse(calls).reserved) == (13, 0, 0)


def test_a_recording_holds_what_its_prompt_needs_and_not_its_bytes() -> None:
    kind = b"multipart/form-data; boundary=X"
    head = b'--X\r\ncontent-disposition: form-data; name="prompt"\r\n\r\nNames\r\n--X\r\n'
    body = head + b'content-disposition: form-data; name="file"; filename="a"\r\n\r\n' + bytes(2**20) + b"\r\n--X--\r\n"
    model = registry.model(registry.provider(), max_tokens=100)
    request = media.parsed(TRANSCRIPTIONS, body, kind, 200, PictureLimits())
    assert allowing.needs_of(request, model) == Needs(1, 100, 5, 100)
    moderated = orjson.dumps({"input": [{"image_url": {"url": "data:image/png;base64," + "A" * 2**20}}]})
    looked_at = media.parsed(MODERATIONS, moderated, b"", 200, PictureLimits())
    assert allowing.needs_of(looked_at, model).most_input_tokens < 100
