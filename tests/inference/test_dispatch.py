from __future__ import annotations

import pytest

from inference import errors
from inference.backends.base import Reply, UpstreamCall
from inference.dispatch import PassedOver, choose_key, most_telling
from inference.limits import Limits
from providers.secrets import Secret
from routing.health import Health
from routing.types import UpstreamKey
from tests.inference import registry, scripted
from tests.inference.door import Door, chat_body
from tests.inference.scripted import DONE, EVENT, FINISH, far, in_turn, raising, streaming, whole

REJECTION = b'{"error":{"message":"too long","type":"invalid_request_error","param":"messages","code":"ctx"}}'


@pytest.fixture
async def quick(serve):
    async with Door(Limits()) as opened:
        yield opened


def two(serve, first, second):
    a, a_view = far("a", first)
    b, b_view = far("b", second, priority=200)
    serve(registry.model(a_view, "m"), registry.model(b_view, "m"))
    return a, b


@pytest.mark.parametrize(
    "failure",
    [
        errors.UpstreamUnreachable("no"),
        errors.UpstreamTimeout("late"),
        errors.UpstreamBroken("garbage"),
        errors.UpstreamFailed("500"),
        errors.UpstreamRateLimited("slow down", body=b"{}"),
        errors.UpstreamRefusedOurKey("bad key"),
        errors.ModelUnavailable("no file"),
        errors.ConfigurationError("no url"),
    ],
    ids=lambda failure: type(failure).__name__,
)
@pytest.mark.parametrize("stream", [False, True])
async def test_the_next_candidate_answers_when_one_fails(serve, quick, failure, stream) -> None:
    good = streaming(EVENT, FINISH, DONE) if stream else whole()
    a, b = two(serve, raising(failure), good)
    answer = await quick.chat(model="m", stream=stream)
    assert answer.status == 200
    assert (len(a.calls), len(b.calls)) == (1, 1)
    assert answer.headers["x-gateway-route"] == "b/m"
    assert (answer.headers["x-gateway-attempts"], answer.headers["x-gateway-fallback"]) == ("2", "1")


async def test_a_stream_that_fails_before_its_first_byte_is_got_around(serve, quick) -> None:
    two(serve, streaming(errors.UpstreamBroken("cut")), streaming(EVENT, FINISH, DONE))
    answer = await quick.chat(model="m", stream=True)
    assert answer.body == EVENT + FINISH + DONE
    assert answer.headers["x-gateway-fallback"] == "1"


async def test_an_empty_stream_is_got_around(serve, quick) -> None:
    two(serve, streaming(), streaming(EVENT, FINISH, DONE))
    assert (await quick.chat(model="m", stream=True)).body == EVENT + FINISH + DONE


@pytest.mark.parametrize("before", [(), (b": busy\n\n", b": busy\n\n")], ids=["at once", "after comments"])
async def test_a_stream_that_begins_with_an_error_is_got_around(serve, quick, before) -> None:
    failed = streaming(*before, b': and\n\ndata: {"error":{"message":"overloaded"}}\n\n')
    two(serve, failed, streaming(EVENT, FINISH, DONE))
    assert (await quick.chat(model="m", stream=True)).body == EVENT + FINISH + DONE


async def test_after_the_first_byte_nobody_else_is_asked(serve, quick) -> None:
    _, b = two(serve, streaming(EVENT, errors.UpstreamBroken("cut")), streaming(EVENT, FINISH, DONE))
    answer = await quick.chat(model="m", stream=True)
    assert b.calls == []
    assert answer.events[-1]["error"]["code"] == "upstream_broken"
    assert list(quick.metrics.attempts.items()) == [(("a", "upstream_broken"), 1)]


async def test_text_instead_of_a_stream_is_got_around(serve, quick) -> None:
    two(serve, streaming(b"a login page\n\n"), streaming(EVENT, FINISH, DONE))
    assert (await quick.chat(model="m", stream=True)).body == EVENT + FINISH + DONE


async def test_an_account_without_money_is_not_asked_again(serve, quick) -> None:
    spent = errors.UpstreamRateLimited("no money", body=b"{}", code="insufficient_quota")
    only, view = far("only", raising(spent))
    serve(registry.model(view, "m"))
    answer = await quick.chat(model="m")
    assert (answer.status, len(only.calls), answer.headers["x-should-retry"]) == (429, 1, "false")


async def test_a_rejected_request_is_not_tried_elsewhere_and_reads_as_the_upstream_wrote_it(serve, quick) -> None:
    _, b = two(serve, raising(errors.UpstreamRejected("too long", body=REJECTION, status=400)), whole())
    answer = await quick.chat(model="m")
    assert (answer.status, answer.body) == (400, REJECTION)
    assert b.calls == []
    assert answer.headers["x-should-retry"] == "false"


async def test_our_own_key_in_an_upstream_s_error_is_taken_out(serve, quick) -> None:
    leak = REJECTION.replace(b"too long", b"bad key " + registry.UPSTREAM_KEY.encode())
    _, view = far("a", raising(errors.UpstreamRejected("x", body=leak, status=400)), keys=[registry.UPSTREAM_KEY])
    serve(registry.model(view, "m"))
    answer = await quick.chat(model="m")
    assert registry.UPSTREAM_KEY.encode() not in answer.body
    assert answer.error["code"] == "ctx"


async def test_the_only_candidate_is_asked_once_more_after_a_quick_failure(serve, quick) -> None:
    only, view = far("only", in_turn(raising(errors.UpstreamFailed("500")), whole()))
    serve(registry.model(view, "m"))
    answer = await quick.chat(model="m")
    assert (answer.status, len(only.calls), answer.headers["x-gateway-attempts"]) == (200, 2, "2")
    assert answer.headers["x-gateway-fallback"] == "0"


async def test_a_silent_provider_is_not_asked_again(serve, quick) -> None:
    only, view = far("only", raising(errors.UpstreamTimeout("late")))
    serve(registry.model(view, "m"))
    answer = await quick.chat(model="m")
    assert (answer.status, len(only.calls)) == (504, 1)


async def test_a_long_retry_after_is_passed_on(serve, quick) -> None:
    only, view = far("only", raising(errors.UpstreamRateLimited("wait", body=REJECTION, retry_after=17.5)))
    serve(registry.model(view, "m"))
    answer = await quick.chat(model="m")
    assert (answer.status, len(only.calls)) == (429, 1)
    assert (answer.headers["retry-after"], answer.headers["retry-after-ms"]) == ("18", "17500")


async def test_a_second_key_is_tried_when_the_first_is_refused(serve, quick) -> None:
    async def only_the_second(call: UpstreamCall) -> Reply:
        if call.key.key_id == 1:
            raise errors.UpstreamRefusedOurKey("revoked")
        return Reply(body=scripted.WHOLE)

    only, view = far("only", only_the_second, keys=["sk-one-revoked-key", "sk-two-working-key"])
    serve(registry.model(view, "m"))
    for _ in range(64):  # which key goes first is drawn
        assert (await quick.chat(model="m")).status == 200
    assert {call.key.key_id for call in only.calls} == {1, 2}


async def test_the_gateway_s_own_fields_do_not_reach_the_upstream_and_unknown_ones_do(serve, quick) -> None:
    only, view = far("only", whole())
    serve(registry.model(view, "m", capabilities=frozenset({"chat", "vision"})))
    body = chat_body(
        model="m",
        preferred_model="x",
        require_vision=True,
        max_cost=1,
        provider_id="only",
        session_id="s-1",
        x_gateway={"a": 1},
        gateway_anything=1,
        brand_new_field={"kept": [1, 2.50]},
    )
    await quick.call("/v1/chat/completions", body)
    [call] = only.calls
    assert set(call.fields) == {"model", "messages", "brand_new_field"}
    assert bytes(call.fields["brand_new_field"]) == b'{"kept":[1,2.5]}'
    assert call.session_id == "s-1"
    await quick.app.shutdown()
    assert quick.rows[0].session_id == "s-1"


async def test_a_provider_that_left_the_registry_is_closed_when_its_last_request_is_over(serve, quick) -> None:
    gone, view = far("gone", whole())
    serve(registry.model(view, "m"))
    await quick.chat(model="m")
    serve(registry.model(registry.provider(), "other"), revision=2)
    await quick.chat(model="other")
    await gone.closed.wait()


async def test_a_provider_type_that_does_not_load_is_got_around(serve, quick) -> None:
    broken = registry.provider("broken", backend="inference.backends.nowhere.Missing")
    _, view = far("good", whole(), priority=200)
    serve(registry.model(broken, "m"), registry.model(view, "m"))
    assert (await quick.chat(model="m")).headers["x-gateway-route"] == "good/m"


def test_the_failure_that_says_when_to_come_back_is_told() -> None:
    limited = errors.UpstreamRateLimited("wait", body=b"", retry_after=3)
    sooner = errors.UpstreamRateLimited("wait", body=b"", retry_after=1)
    assert most_telling([errors.UpstreamUnreachable("down"), limited, sooner]) is sooner


def test_an_expired_key_is_never_chosen() -> None:
    keys = [UpstreamKey(1, Secret("old"), expires_at=1.0), UpstreamKey(2, Secret("new"))]
    known = Health()
    assert {choose_key(keys, set(), known).key_id for _ in range(20)} == {2}
    with pytest.raises(PassedOver):
        choose_key(keys[:1], set(), known)
