"""What some vendors do otherwise than OpenAI, on the stands of the conformance suite: Gemini, Azure and Kamiwaza.

Recorded from what the vendors document and what their users report: https://ai.google.dev/gemini-api/docs/openai,
https://learn.microsoft.com/azure/ai-services/openai/reference, https://learn.microsoft.com/azure/ai-services/openai/concepts/content-filter.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import orjson
import pytest

from inference import errors
from inference.backends.base import UpstreamCall
from inference.backends.kamiwaza import Kamiwaza
from inference.backends.openai_compatible import OpenAICompatible
from inference.wire import anthropic_events, sse
from inference.wire.native import MESSAGES, Native
from providers import kamiwaza, provider_types
from providers.secrets import Secret
from routing.types import UpstreamKey
from tests.fakes.kamiwaza import FakeKamiwaza
from tests.fakes.upstream import Answer, FakeUpstream
from tests.inference import registry
from tests.inference.backends.test_conformance import KEY, STANDS, TYPES, Stand, backend_of, events, text_of, whole


def stand_of(name: str, path: str | None = None) -> Stand:
    """The stand of a type, its base URL at `path` of the upstream where one is told."""
    kind = provider_types.find(name)
    assert kind is not None
    stand = STANDS[kind.backend](kind)
    if path is not None:
        assert stand.upstream is not None
        at(stand, stand.upstream.origin + path)
    return stand


def at(stand: Stand, base_url: str) -> None:
    view = replace(stand.provider, connection={**stand.provider.connection, "base_url": base_url})
    stand.provider = view
    stand.chat, stand.embedding = replace(stand.chat, provider=view), replace(stand.embedding, provider=view)


@pytest.mark.parametrize("kind", TYPES, ids=lambda kind: kind.name)
async def test_a_type_serves_what_it_says_it_can_pass_on_and_refuses_the_rest(kind: provider_types.ProviderType):
    stand = STANDS[kind.backend](kind)
    with stand.closing:
        call = stand.call("rerank", query="q", documents=["a document"])
        async with backend_of(stand) as backend:
            if "rerank" in kind.operations:
                assert b'"results"' in ((await backend.send(call)).body or b"")
            else:
                with pytest.raises(errors.UnsupportedCapability):
                    await backend.send(call)


@pytest.mark.parametrize("name", ["gemini", "azure_openai", "kamiwaza"])
async def test_two_providers_of_a_type_show_each_their_own_key_at_their_own_address(name: str):
    kind = provider_types.find(name)
    assert kind is not None
    one, other = STANDS[kind.backend](kind), STANDS[kind.backend](kind)
    with one.closing, other.closing:
        assert one.upstream is not None
        assert other.upstream is not None
        other.upstream.api_key, other.key = "sk-the-other", UpstreamKey(2, Secret("sk-the-other"))
        assert text_of(await whole(one))
        assert text_of(await whole(other))
        for stand, key in ((one, KEY), (other, "sk-the-other")):
            assert stand.upstream is not None
            [request] = stand.upstream.requests
            assert key in (
                request.headers.get("api-key"),
                request.headers.get("authorization", "").removeprefix("Bearer "),
            )


# Gemini ------------------------------------------------------------------------------------------------------------


SIGNED = {
    "id": "call-1",
    "type": "function",
    "function": {"name": "look_up", "arguments": '{"place":"Köln"}'},
    "extra_content": {"google": {"thought_signature": "EjQKMgEMOdbHJChL+/="}},
}
"""Without an `index`, and with what has to come back with the next turn."""
THOUGHT = {"prompt_tokens": 20, "completion_tokens": 12, "total_tokens": 100}
"""The sum holds what was thought; the answer's tokens do not."""


def gemini_chunk(delta: dict[str, Any], **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": {"role": "assistant", **delta}, **more}
    return {
        "id": "x",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "models/g",
        "choices": [choice],
        "usage": THOUGHT,
    }


def google_error(status: int, word: str, *details: dict[str, Any]) -> Answer:
    error = {"code": status, "message": f"{word} was said.", "status": word, "details": list(details)}
    return Answer(status=status, json=[{"error": error}])


async def test_gemini_is_asked_below_its_own_path_with_a_bearer_token():
    with (stand := stand_of("gemini", "/v1beta/openai/")).closing:
        await whole(stand)
        assert stand.upstream is not None
        assert stand.upstream.requests[0].path == "/v1beta/openai/chat/completions"
        assert stand.upstream.requests[0].headers["authorization"] == f"Bearer {KEY}"


async def test_gemini_s_tool_calls_come_through_with_their_signatures_and_go_back_with_them():
    with (stand := stand_of("gemini")).closing:
        assert stand.upstream is not None
        sent = [gemini_chunk({"tool_calls": [SIGNED]}), gemini_chunk({}, finish_reason="stop")]
        stand.upstream.script(Answer(events=[*sent, "[DONE]"]))
        assert await events(stand) == sent
        said = [{"role": "user", "content": "Where?"}, {"role": "assistant", "tool_calls": [SIGNED]}]
        await whole(stand, messages=said)
        assert stand.upstream.requests[-1].json["messages"] == said


async def test_gemini_s_thoughts_are_counted_as_what_they_are_billed_as():
    with (stand := stand_of("gemini")).closing:
        assert stand.upstream is not None
        stand.upstream.script(
            Answer(events=[gemini_chunk({"content": "42"}), gemini_chunk({}, finish_reason="stop"), "[DONE]"])
        )
        async with backend_of(stand) as backend:
            reply = await backend.send(stand.call(stream=True))
            assert reply.chunks is not None
            async for _ in reply.chunks:
                pass
        assert reply.usage is not None
        assert (reply.usage.input_tokens, reply.usage.output_tokens) == (20, 80)


async def test_gemini_s_stream_without_a_finish_reason_is_whole_when_it_says_so_and_cut_when_not():
    with (stand := stand_of("gemini")).closing:
        assert stand.upstream is not None
        stand.upstream.script(
            Answer(events=[gemini_chunk({"content": "42"}), "[DONE]"]), Answer(events=[gemini_chunk({"content": "4"})])
        )
        assert len(await events(stand)) == 1
        with pytest.raises(errors.UpstreamBroken):
            await events(stand)


@pytest.mark.parametrize(
    ("answer", "expected", "wait"),
    [
        (google_error(400, "INVALID_ARGUMENT", {"reason": "API_KEY_INVALID"}), errors.UpstreamRefusedOurKey, None),
        (google_error(400, "INVALID_ARGUMENT"), errors.UpstreamRejected, None),
        (google_error(429, "RESOURCE_EXHAUSTED", {"retryDelay": "34.5s"}), errors.UpstreamRateLimited, 34.5),
        (google_error(503, "UNAVAILABLE"), errors.UpstreamFailed, None),
    ],
    ids=["bad key", "bad request", "quota", "overloaded"],
)
async def test_gemini_s_refusals_are_understood_within_their_list(
    answer: Answer, expected: type[errors.GatewayError], wait: float | None
):
    with (stand := stand_of("gemini")).closing:
        assert stand.upstream is not None
        stand.upstream.script(answer)
        with pytest.raises(expected) as caught:
            await whole(stand)
    assert type(caught.value) is expected
    assert caught.value.retry_after == wait
    if isinstance(caught.value, errors.UpstreamRejected):
        told = orjson.loads(caught.value.body)["error"]
        assert "was said." in told["message"]
        assert set(told) == {"message", "type", "param", "code"}


# Azure -------------------------------------------------------------------------------------------------------------


SAFE = {"hate": {"filtered": False, "severity": "safe"}}


@pytest.mark.parametrize(
    ("base", "operation", "path", "query", "model"),
    [
        ("", "chat", "/openai/deployments/gpt-test/chat/completions", {"api-version": "2024-10-21"}, None),
        ("", "images", "/openai/deployments/gpt-test/images/generations", {"api-version": "2024-10-21"}, None),
        ("/openai/v1/", "chat", "/openai/v1/chat/completions", {}, "gpt-test"),
        ("/openai/v1", "images", "/openai/v1/images/generations", {}, "gpt-test"),
    ],
)
async def test_azure_is_asked_by_deployment_and_by_its_newer_api_without_a_version(
    base: str, operation: str, path: str, query: dict[str, str], model: str | None
):
    with (stand := stand_of("azure_openai", base)).closing:
        await whole(stand, operation, **({"prompt": "a cat"} if operation == "images" else {}))
        assert stand.upstream is not None
        [request] = stand.upstream.requests
    assert (request.path, request.query) == (path, query)
    assert request.headers["api-key"] == KEY
    assert "authorization" not in request.headers
    assert model is None or request.json["model"] == model


async def test_azure_s_notes_of_its_filters_come_through_and_the_usage_that_we_asked_for_does_not():
    head = {"id": "", "object": "", "created": 0, "model": ""}
    prompt = {**head, "choices": [], "prompt_filter_results": [{"prompt_index": 0, "content_filter_results": SAFE}]}
    text = {
        **head,
        "choices": [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": None, "content_filter_results": SAFE}],
    }
    stop = {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    late = {
        **head,
        "choices": [{"index": 0, "finish_reason": None, "content_filter_results": SAFE, "content_filter_offsets": {}}],
    }
    usage = {**head, "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}}
    with (stand := stand_of("azure_openai")).closing:
        assert stand.upstream is not None
        stand.upstream.script(Answer(events=[prompt, text, stop, late, usage, "[DONE]"]))
        async with backend_of(stand) as backend:
            reply = await backend.send(stand.call(stream=True))
            assert reply.chunks is not None
            stream = b"".join([piece async for piece in reply.chunks])
    told = [orjson.loads(line[6:]) for line in stream.split(b"\n") if line.startswith(b"data: {")]
    assert told == [prompt, text, stop, late]
    assert reply.usage is not None
    assert reply.usage.counts[:2] == (3, 1)


async def test_azure_s_refusal_by_a_filter_is_the_caller_s_to_read():
    inner = {"code": "ResponsibleAIPolicyViolation", "content_filter_result": SAFE}
    error = {
        "message": "The response was filtered.",
        "type": None,
        "param": "prompt",
        "code": "content_filter",
        "status": 400,
        "innererror": inner,
    }
    with (stand := stand_of("azure_openai")).closing:
        assert stand.upstream is not None
        stand.upstream.script(Answer(status=400, json={"error": error}))
        with pytest.raises(errors.UpstreamRejected) as caught:
            await whole(stand)
    assert (caught.value.code, caught.value.retryable) == ("content_filter", False)
    assert orjson.loads(caught.value.body) == {"error": error}


# Kamiwaza ----------------------------------------------------------------------------------------------------------


def kamiwaza_call(view: Any, deployed: kamiwaza.Deployed, key: UpstreamKey | None, *, stream: bool) -> UpstreamCall:
    parameters = {"base_urls": list(deployed.base_urls), "upstream_model_id": kamiwaza.MODEL_IN_CALLS}
    fields = {"model": deployed.name, "messages": [{"role": "user", "content": "Hello there"}]}
    raw = {name: msgspec.Raw(orjson.dumps(value)) for name, value in fields.items()}
    return UpstreamCall("chat", registry.model(view, deployed.name, parameters=parameters), raw, stream, "req-1", key)


@pytest.mark.parametrize("rule", ["lb_port", "now by port", "now by path"])
@pytest.mark.parametrize("signs_in", [False, True], ids=["token", "user"])
async def test_kamiwaza_s_active_deployments_answer_where_the_platform_says(rule: str, signs_in: bool):
    user = ("ada", "pa55word-canary") if signs_in else None
    with FakeKamiwaza(token=KEY, user=user, paths=rule != "lb_port") as platform:
        for name in ("llama 3", "qwen", "qwen"):
            deployment = platform.deploy(name)
            if rule == "now by path":
                deployment.listed["access_path"] = f"/runtime/models/{deployment.listed['id']}"
        platform.deploy("starting", status="INITIALIZING")
        platform.deploy(None, status="FAILED")
        told = {"url_style": "kamiwaza", "base_url": platform.endpoint, "allow_private": True, "scheme": "http"}
        if user is not None:
            told |= {"username": user[0], "password": user[1]}
        keys = () if signs_in else (KEY,)
        view = registry.provider("kz", backend="inference.backends.kamiwaza.Kamiwaza", connection=told, keys=keys)
        key = None if signs_in else view.keys[0]
        listed = [deployment.listed for deployment in platform.deployments]
        found = kamiwaza.models(kamiwaza.deployments(listed, told))
        active = {one.name: one for one in found if one.active}
        assert {name: len(one.base_urls) for name, one in active.items()} == {"llama 3": 1, "qwen": 2}
        backend = Kamiwaza(view)
        try:
            if not signs_in:
                assert await backend.list_models() == listed
            for one in active.values():
                whole_reply = await backend.send(kamiwaza_call(view, one, key, stream=False))
                streamed = await backend.send(kamiwaza_call(view, one, key, stream=True))
                assert text_of(orjson.loads(whole_reply.body or b"")) == "echo: Hello there"
                assert streamed.chunks is not None
                assert b"[DONE]" in b"".join([piece async for piece in streamed.chunks])
        finally:
            await backend.aclose()


@pytest.mark.parametrize(
    ("kind", "capabilities", "name"),
    [
        ("openai", {"chat"}, "max_completion_tokens"),
        ("azure_openai", {"chat"}, "max_tokens"),
        ("azure_openai", {"chat", "reasoning"}, "max_completion_tokens"),
        ("mistral", {"chat", "reasoning"}, "max_tokens"),
    ],
)
async def test_limits_of_other_protocols_are_told_openai_s_models_by_the_name_that_all_of_them_know(
    kind: str, capabilities: set[str], name: str
):
    with FakeUpstream() as upstream:
        view = replace(registry.remote(upstream.base_url), provider_type=kind)
        made = OpenAICompatible(view)
        fields = {"messages": msgspec.Raw(b'[{"role":"user","content":"hi"}]'), "max_tokens": msgspec.Raw(b"9")}
        fields["user"] = msgspec.Raw(b'"user_%b_account__session_1"' % (b"0" * 64))
        model = registry.model(view, "m", capabilities=frozenset(capabilities))
        await made.send(UpstreamCall("chat", model, fields, False, "req_1", native=Native(MESSAGES, {})))
        await made.aclose()
    told = upstream.requests[0].json
    assert {one: told[one] for one in told if one.startswith("max_")} == {name: 9}
    assert len(told["user"]) == 64


def test_gemini_s_calls_stay_apart_in_other_protocols():
    """Several at once, without an `index`, and ended by `stop`."""
    calls = [{**SIGNED, "id": name, "function": {"name": name, "arguments": "{}"}} for name in ("one", "two")]
    chunks = [*(gemini_chunk({"tool_calls": [call]}) for call in calls), gemini_chunk({}, finish_reason="stop")]
    told = anthropic_events.Events("req-1")
    said = b"".join(told.feed(sse.event(chunk)) for chunk in chunks) + told.end()
    assert [said.count(name) for name in (b'"name":"one"', b'"name":"two"', b'"stop_reason":"tool_use"')] == [1, 1, 1]
