"""Pictures, sound, moderations and rerankings through the data plane: the same admission, routing and books as a chat."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import orjson
import pytest

from inference import errors
from inference.backends.base import Reply, UpstreamCall
from inference.endpoints import media
from inference.limits import Limits
from providers.capabilities import TEXT_OPERATIONS
from routing.types import ModelView, Prices
from tests.inference import registry
from tests.inference.door import Door
from tests.inference.scripted import far

TYPE = {"content-type": "multipart/form-data; boundary=X-edge"}
SPEECH = {"model": "m", "input": "Say this aloud", "voice": "alloy"}


def form(sound: bytes = b"sound", **texts: str) -> bytes:
    parts = [
        f'--X-edge\r\ncontent-disposition: form-data; name="{n}"\r\n\r\n{v}\r\n'.encode() for n, v in texts.items()
    ]
    head = b'--X-edge\r\ncontent-disposition: form-data; name="file"; filename="a.mp3"\r\n\r\n'
    return b"".join(parts) + head + sound + b"\r\n--X-edge--\r\n"


def sounding(*pieces: bytes | BaseException, length: int | None = None) -> Any:
    async def behave(call: UpstreamCall) -> Reply:
        async def chunks() -> AsyncIterator[bytes]:
            for piece in pieces:
                if isinstance(piece, BaseException):
                    raise piece
                yield piece

        return Reply(chunks=chunks(), content_type=b"audio/mpeg", opaque=True, length=length)

    return behave


def telling(body: bytes, **more: Any) -> Any:
    async def behave(call: UpstreamCall) -> Reply:
        return Reply(body=body, **more)

    return behave


def failing(error: errors.GatewayError) -> Any:
    async def behave(call: UpstreamCall) -> Reply:
        raise error

    return behave


def model(view: Any, kind: str, name: str = "m", **more: Any) -> ModelView:
    return registry.model(view, name, model_type=kind, **{"capabilities": frozenset(), **more})


async def test_sound_passes_unread_with_its_type_and_length(serve, door: Door):
    sound = b'data: {"error": {}}\n\n' * 3  # whatever it holds is sound
    _, view = far("only", sounding(sound, sound, length=2 * len(sound)))
    serve(model(view, "audio_speech"))
    answer = await door.call("/v1/audio/speech", SPEECH)
    assert (answer.status, answer.body, answer.ended) == (200, 2 * sound, True)
    assert answer.headers["content-type"] == "audio/mpeg"
    assert answer.headers["content-length"] == str(len(answer.body))
    await door.app.shutdown()
    [row] = door.rows
    assert (row.operation, row.status, row.input_tokens, row.output_tokens) == ("speech", 200, 4, 0)


async def test_sound_that_breaks_off_is_never_ended(serve, door: Door):
    _, view = far("only", sounding(b"half", errors.UpstreamBroken("The provider's answer was cut.")))
    serve(model(view, "audio_speech"))
    answer = await door.call("/v1/audio/speech", SPEECH)
    assert (answer.body, answer.ended) == (b"half", False)
    await door.app.shutdown()
    assert door.rows[0].error_code == "upstream_broken"
    assert door.rows[0].input_tokens == 4


async def test_before_the_first_byte_another_provider_speaks(serve, door: Door):
    _, dead = far("dead", sounding(errors.UpstreamUnreachable("Nobody there.")), priority=1)
    _, well = far("well", sounding(b"sound"))
    serve(model(dead, "audio_speech"), model(well, "audio_speech"))
    answer = await door.call("/v1/audio/speech", SPEECH)
    assert (answer.body, answer.headers["x-gateway-route"]) == (b"sound", "well/m")


async def test_a_stream_of_events_that_is_cut_ends_with_an_error(serve, door: Door):
    async def behave(call: UpstreamCall) -> Reply:
        async def chunks() -> AsyncIterator[bytes]:
            yield b'data: {"type":"image_generation.partial_image","b64_json":"' + b"A" * 90_000 + b'"}\n\n'

        return Reply(chunks=chunks(), content_type=b"text/event-stream")

    _, view = far("only", behave)
    serve(model(view, "image"))
    answer = await door.call("/v1/images/generations", {"model": "m", "prompt": "a cat", "stream": True})
    assert answer.events[-1]["error"]["code"] == "upstream_broken"
    await door.app.shutdown()
    assert door.rows[0].output_tokens == 0, "a picture's letters are no tokens"


async def test_whoever_asks_for_a_stream_and_gets_a_whole_answer_is_told_that(serve, door: Door):
    _, view = far("only", telling(b'{"text":"hello"}'))
    serve(model(view, "audio_transcription"))
    answer = await door.call("/v1/audio/transcriptions", form(model="m", stream="true"), headers=TYPE)
    assert (answer.status, answer.json) == (200, {"text": "hello"})


async def test_a_form_says_to_the_gateway_what_a_body_says(serve, door: Door):
    first, view = far("first", telling(b"{}"), priority=1)
    second, other = far("second", telling(b'{"text":"x"}'))
    serve(model(view, "audio_transcription"), model(other, "audio_transcription"))
    sent = form(model="m", provider_id="second", session_id="s", x_gateway="true", language="de")
    answer = await door.call("/v1/audio/transcriptions", sent, headers=TYPE)
    assert answer.json["x_gateway"]["route"] == "second/m"
    assert not first.calls
    [call] = second.calls
    assert call.session_id == "s"
    assert call.form is not None
    assert set(call.form.texts()) - set(call.fields) == {"provider_id", "session_id", "x_gateway"}


@pytest.mark.parametrize(
    ("path", "body", "kind", "param"),
    [
        ("/v1/audio/transcriptions", form(model="m").replace(b'"file"', b'"sound"'), TYPE, "file"),
        ("/v1/images/edits", form(model="m", prompt="x"), TYPE, "image"),
        ("/v1/audio/transcriptions", b"{}", {"content-type": "application/json"}, None),
        ("/v1/audio/speech", form(model="m"), TYPE, None),
        ("/v1/rerank", b'{"model":"m","documents":["a"]}', {}, "query"),
    ],
)
async def test_what_is_missing_is_named(
    serve, door: Door, path: str, body: bytes, kind: dict[str, str], param: str | None
):
    serve(model(registry.provider(), "audio"))
    answer = await door.call(path, body, headers=kind)
    assert (answer.status, answer.error["param"]) == (400, param)


async def test_a_model_that_cannot_names_those_that_can_and_may_be_used(serve, door: Door):
    _, view = far("far", telling(b"{}"))
    serve(
        registry.model(view, "talks"),
        model(view, "image", "draws"),
        model(view, "image", "secret"),
        keys=[registry.key_view(allowed_models=("talks", "draws"))],
    )
    refused = await door.call("/v1/images/generations", {"model": "talks", "prompt": "a cat"})
    assert (refused.status, refused.error["code"]) == (400, "unsupported_capability")
    assert refused.error["message"].endswith("does not serve images. These serve images: draws.")
    unknown = await door.call("/v1/images/generations", {"model": "nobody", "prompt": "a cat"})
    assert (unknown.status, "draws" in unknown.error["message"]) == (404, True)


async def test_what_nobody_offers_says_who_could(serve, door: Door):
    serve(registry.model(registry.provider()))
    refused = await door.call("/v1/moderations", {"model": "fake-chat", "input": "x"})
    assert (refused.status, refused.error["code"]) == (501, "not_implemented")
    assert "openai, mistral" in refused.error["message"]
    assert refused.headers["x-should-retry"] == "false"


async def test_a_provider_whose_type_has_no_such_operation_is_not_asked(serve, door: Door):
    local, view = far("local", telling(b"{}"), operations=TEXT_OPERATIONS)
    serve(model(view, "rerank"))
    refused = await door.call("/v1/rerank", {"model": "m", "query": "q", "documents": ["d"]})
    assert refused.status == 501
    assert not local.calls


async def test_without_a_model_one_is_chosen_that_can(serve, door: Door):
    _, view = far("far", telling(b'{"results":[]}'))
    chat = registry.model(view, "talks")
    defaults = registry.RoutingDefaults(default_policy="default")
    policies = {"default": {"targets": [{"model": "talks"}]}}
    serve(chat, model(view, "moderation", "judge"), documents=policies, defaults=defaults)
    answer = await door.call("/v1/moderations", {"input": "x"})
    assert answer.headers["x-gateway-route"] == "far/judge"


@pytest.mark.parametrize(
    "path", ["/v1/assistants", "/v1/threads/t/runs", "/v1/fine_tuning/jobs", "/v1/realtime", "/v1/audio/nope"]
)
async def test_what_openai_has_and_we_have_not_is_said_by_name(door: Door, path: str):
    answer = await door.call(path, {})
    assert (answer.status, answer.error["code"]) == (501, "not_implemented")
    assert path in answer.error["message"]
    assert (await door.call("/v1/nonsense", {})).status == 404


async def test_an_unknown_price_costs_nothing_known_and_not_zero(serve, door: Door):
    _, view = far("far", telling(b'{"data":[{"url":"x"}]}'))
    serve(model(view, "image", prices=Prices(None, None)))
    assert (await door.call("/v1/images/generations", {"model": "m", "prompt": "a cat"})).status == 200
    await door.app.shutdown()
    assert door.rows[0].cost is None


async def test_a_number_without_end_is_the_upstreams_to_refuse(serve, door: Door):
    only, view = far("far", telling(b'{"text":"x"}'))
    serve(model(view, "audio_transcription"))
    answer = await door.call("/v1/audio/transcriptions", form(model="m", n="9" * 5000), headers=TYPE)
    assert (answer.status, len(only.calls)) == (200, 1)


async def test_a_large_recording_is_held_once_and_is_no_prompt(serve, door: Door):
    size = 24 * 1024 * 1024
    sound = bytes(size)
    sent: list[int] = []

    async def behave(call: UpstreamCall) -> Reply:
        assert call.form is not None
        sent.append(sum(map(len, call.form.with_values({"model": "m"}))))
        return Reply(body=b'{"text":"x"}')

    _, view = far("far", behave)
    # A context of few tokens and a limit of cost: megabytes must not be taken for a prompt.
    serve(model(view, "audio_transcription", context_window=500, prices=Prices(Decimal(5), Decimal(5))))
    whole = form(sound, model="m", max_cost="0.01")
    pieces = [whole[at : at + 65536] for at in range(0, len(whole), 65536)]
    del whole, sound
    tracemalloc.start()
    answer = await door.call("/v1/audio/transcriptions", headers=TYPE, pieces=pieces)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert answer.status == 200
    assert sent[0] > size
    assert peak < 1.5 * size
    await door.app.shutdown()
    assert door.rows[0].input_tokens == 0


async def test_a_body_over_the_limit_is_refused(serve):
    async with Door(Limits(body_bytes=1000)) as door:
        serve(model(registry.provider(), "audio"))
        answer = await door.call("/v1/audio/transcriptions", form(bytes(2000), model="m"), headers=TYPE)
    assert answer.status == 413


async def test_the_same_form_under_one_idempotency_key_is_the_same_request_under_any_boundary():
    one, other = form(model="m"), form(model="m").replace(b"X-edge", b"Y-else")
    kinds = [b"multipart/form-data; boundary=" + name for name in (b"X-edge", b"Y-else")]
    same = media.media.regardless_of_boundary
    assert same(one, kinds[0]) == same(other, kinds[1]) != same(form(b"other", model="m"), kinds[0])


async def test_a_client_that_leaves_ends_the_upstream_s_work(serve, door: Door):
    closed = asyncio.Event()

    async def behave(call: UpstreamCall) -> Reply:
        async def chunks() -> AsyncIterator[bytes]:
            try:
                yield b"some"
                await asyncio.Event().wait()
            finally:
                closed.set()

        return Reply(chunks=chunks(), content_type=b"audio/mpeg", opaque=True)

    _, view = far("far", behave)
    serve(model(view, "audio_speech"))
    client, task = door.open("/v1/audio/speech", SPEECH)
    await client.until_said()
    client.leave()
    await asyncio.wait_for(task, 60)
    assert closed.is_set()
    await door.app.shutdown()
    assert (door.rows[0].status, door.rows[0].error_code) == (499, "client_disconnected")


async def test_a_gateway_s_member_in_json_stays_here(serve, door: Door):
    known, view = far("far", telling(b'{"data":[]}'))
    serve(model(view, "image"))
    await door.call("/v1/images/generations", {"model": "m", "prompt": "x", "max_cost": 1, "background": "opaque"})
    assert orjson.loads(bytes(known.calls[0].fields["background"])) == "opaque"
    assert "max_cost" not in known.calls[0].fields


async def test_a_repeated_request_hears_the_same_sound_and_a_cut_one_is_asked_again(serve, door: Door, redis_url: str):
    behaviours = [sounding(b"half", errors.UpstreamBroken("cut")), sounding(b"the ", b"sound")]

    async def behave(call: UpstreamCall) -> Reply:
        reply: Reply = await behaviours.pop(0)(call)
        return reply

    only, view = far("only", behave)
    serve(model(view, "audio_speech"))
    told = []
    for _ in range(3):
        told.append(await door.call("/v1/audio/speech", SPEECH, headers={"idempotency-key": "say-once"}))
        assert door.app._plane is not None
        await door.app._plane.kept_replies.settled()
    assert [(answer.body, answer.ended) for answer in told] == [
        (b"half", False),
        (b"the sound", True),
        (b"the sound", True),
    ]
    assert told[2].headers["content-type"] == "audio/mpeg"
    assert len(only.calls) == 2


async def test_a_repeated_form_is_known_under_another_boundary(serve, door: Door, redis_url: str):
    only, view = far("only", telling(b'{"text":"x"}'))
    serve(model(view, "audio_transcription"))
    for edge in ("X-edge", "Y-else"):
        kind = {"content-type": f"multipart/form-data; boundary={edge}", "idempotency-key": "hear-once"}
        body = form(model="m").replace(b"X-edge", edge.encode())
        assert (await door.call("/v1/audio/transcriptions", body, headers=kind)).json == {"text": "x"}
        assert door.app._plane is not None
        await door.app._plane.kept_replies.settled()
    assert len(only.calls) == 1
