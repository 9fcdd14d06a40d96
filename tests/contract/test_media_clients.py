"""OpenAI's client asks for pictures, sound and moderations through the gateway on a real socket; rerankings are asked for with httpx."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import httpx
import openai
import pytest

from routing import snapshot
from tests.contract.gateway import Gateway
from tests.fakes.media import PICTURE, SOUND, form_of
from tests.fakes.upstream import Answer, FakeUpstream
from tests.inference import registry

TYPES = {
    "omni-moderation-latest": "moderation",
    "bge-reranker": "rerank",
    "gpt-image-1": "image",
    "gpt-4o-mini-tts": "audio_speech",
    "gpt-4o-transcribe": "audio_transcription",
    "whisper-1": "audio_transcription",
}


@pytest.fixture(scope="module")
def upstream() -> Iterator[FakeUpstream]:
    with FakeUpstream(api_key=registry.UPSTREAM_KEY) as fake:
        yield fake


@pytest.fixture(scope="module")
def serving(upstream: FakeUpstream) -> Iterator[Gateway]:
    remote = registry.remote(upstream.base_url)
    models = [
        registry.model(
            remote, f"my-{name}", model_type=kind, parameters={"upstream_model_id": name}, capabilities=frozenset()
        )
        for name, kind in TYPES.items()
    ]
    with Gateway().serving() as gateway:
        gateway.served = registry.snapshot(*models)  # type: ignore[attr-defined]
        yield gateway


@pytest.fixture
def gateway(serving: Gateway, upstream: FakeUpstream) -> Iterator[Gateway]:
    snapshot.replace(serving.served)  # type: ignore[attr-defined]
    serving.rows.clear()
    upstream.clear()
    yield serving
    serving.wait_for_rows(len(upstream.requests))
    snapshot.replace(None)


@pytest.fixture
def client(gateway: Gateway) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=registry.CLIENT_KEY, timeout=60, max_retries=0) as made:
        yield made


def test_a_text_is_moderated(client: openai.OpenAI, upstream: FakeUpstream):
    told = client.moderations.create(model="my-omni-moderation-latest", input=["be kind", "kill them"])
    assert [result.flagged for result in told.results] == [False, True]
    assert upstream.requests[-1].json["model"] == "omni-moderation-latest"


def test_a_picture_is_drawn_and_its_tokens_are_booked(client: openai.OpenAI, gateway: Gateway):
    drawn = client.images.generate(model="my-gpt-image-1", prompt="a cat", n=2)
    assert [base64.b64decode(one.b64_json or "") for one in drawn.data or ()] == [PICTURE, PICTURE]
    [row] = gateway.wait_for_rows(1)
    assert (row.operation, row.input_tokens, row.output_tokens, row.estimated) == ("images", 12, 272, False)


def test_a_picture_is_streamed_as_it_takes_shape(client: openai.OpenAI, gateway: Gateway):
    with client.images.generate(model="my-gpt-image-1", prompt="a cat", stream=True, partial_images=1) as events:
        kinds = [event.type for event in events]
    assert kinds == ["image_generation.partial_image", "image_generation.completed"]
    [row] = gateway.wait_for_rows(1)
    assert (row.status, row.error_code, row.output_tokens, row.stream) == (200, "", 272, True)


def test_a_picture_is_edited_with_files_as_they_are(client: openai.OpenAI, upstream: FakeUpstream):
    edited = client.images.edit(
        model="my-gpt-image-1",
        prompt="a hat",
        image=[("a.png", PICTURE), ("b.png", PICTURE)],
        extra_body={"max_cost": "1"},
    )
    assert edited.data
    sent = form_of(upstream.requests[-1])
    assert sent == [
        ("model", None, b"gpt-image-1"),
        ("prompt", None, b"a hat"),
        ("image[]", "a.png", PICTURE),
        ("image[]", "b.png", PICTURE),
    ]


def test_speech_comes_as_it_is_made(client: openai.OpenAI, gateway: Gateway):
    speech = client.audio.speech.with_streaming_response
    with speech.create(model="my-gpt-4o-mini-tts", voice="alloy", input="Hello there, all of you") as reply:
        assert reply.headers["content-type"] == "audio/mpeg"
        assert b"".join(reply.iter_bytes()) == SOUND
    [row] = gateway.wait_for_rows(1)
    assert (row.operation, row.input_tokens, row.output_tokens, row.estimated) == ("speech", 6, 0, True)


def test_speech_in_events_tells_its_tokens(client: openai.OpenAI, gateway: Gateway):
    reply = client.audio.speech.create(model="my-gpt-4o-mini-tts", voice="alloy", input="Hello", stream_format="sse")
    assert b'"speech.audio.done"' in reply.content
    [row] = gateway.wait_for_rows(1)
    assert (row.input_tokens, row.output_tokens, row.stream) == (3, 40, True)


def test_a_sound_that_is_cut_never_reads_as_whole(client: openai.OpenAI, upstream: FakeUpstream, gateway: Gateway):
    upstream.script(Answer(events=[SOUND, SOUND], content_type="audio/mpeg", cut_after=1))
    with pytest.raises((openai.APIConnectionError, httpx.RemoteProtocolError)):
        _ = client.audio.speech.create(model="my-gpt-4o-mini-tts", voice="alloy", input="Hello").content
    [row] = gateway.wait_for_rows(1)
    assert row.error_code == "upstream_broken"


def test_a_recording_is_transcribed(client: openai.OpenAI, upstream: FakeUpstream, gateway: Gateway):
    heard = client.audio.transcriptions.create(
        model="my-gpt-4o-transcribe", file=("talk.mp3", SOUND * 40), prompt="names"
    )
    assert heard.text == f"{len(SOUND) * 40} bytes of talk.mp3"
    assert form_of(upstream.requests[-1])[-1] == ("file", "talk.mp3", SOUND * 40)
    [row] = gateway.wait_for_rows(1)
    assert (row.operation, row.input_tokens, row.output_tokens) == ("transcriptions", 14, 6)


def test_a_transcript_comes_as_text_and_in_events(client: openai.OpenAI):
    file = ("talk.mp3", SOUND)
    text = client.audio.transcriptions.create(model="my-gpt-4o-transcribe", file=file, response_format="text")
    assert text == f"{len(SOUND)} bytes of talk.mp3\n"
    with client.audio.transcriptions.create(model="my-gpt-4o-transcribe", file=file, stream=True) as events:
        last = list(events)[-1]
    assert last.type == "transcript.text.done"
    assert last.text == f"{len(SOUND)} bytes of talk.mp3"


def test_a_translation_that_is_billed_by_the_second_counts_no_told_tokens(gateway: Gateway):
    shown = {"authorization": f"Bearer {registry.CLIENT_KEY}"}
    form = {"data": {"model": "my-whisper-1"}, "files": {"file": ("talk.mp3", SOUND)}}
    reply = httpx.post(f"{gateway.url}/v1/audio/translations", headers=shown, timeout=60, **form)
    assert reply.json()["text"] == f"{len(SOUND)} bytes of talk.mp3"
    [row] = gateway.wait_for_rows(1)
    assert (row.operation, row.input_tokens, row.estimated) == ("translations", 0, True)
    assert row.output_tokens > 0


@pytest.mark.parametrize("path", ["/v1/rerank", "/v2/rerank", "/rerank"])
def test_documents_are_ranked(gateway: Gateway, upstream: FakeUpstream, path: str):
    asked = {
        "model": "my-bge-reranker",
        "query": "abc",
        "documents": ["xyz", "abcd"],
        "top_n": 1,
        "return_documents": True,
    }
    shown = {"authorization": f"Bearer {registry.CLIENT_KEY}"}
    reply = httpx.post(f"{gateway.url}{path}", json=asked, headers=shown, timeout=60)
    assert [(one["index"], one["document"]["text"]) for one in reply.json()["results"]] == [(1, "abcd")]
    assert upstream.requests[-1].json == {**asked, "model": "bge-reranker"}
    [row] = gateway.wait_for_rows(1)
    assert (row.operation, row.input_tokens, row.output_tokens, row.estimated) == ("rerank", 9, 0, False)


def test_no_upstream_gets_a_page_into_a_browser_under_the_gateways_name(
    gateway: Gateway, upstream: FakeUpstream
) -> None:
    shown = {"authorization": f"Bearer {registry.CLIENT_KEY}"}
    page = b"<svg xmlns='http://www.w3.org/2000/svg'><script>steal()</script></svg>"
    for kind, told in (
        ("image/svg+xml", "application/octet-stream"),
        ("application/xhtml+xml", "application/octet-stream"),
        ("text/javascript", "text/plain; charset=utf-8"),
        ("audio/mpeg", "audio/mpeg"),
    ):
        upstream.script(Answer(body=page, content_type=kind))
        asked = {"model": "my-gpt-4o-mini-tts", "input": "Hello", "voice": "alloy"}
        answer = httpx.post(f"{gateway.url}/v1/audio/speech", json=asked, headers=shown, timeout=60)
        assert (answer.status_code, answer.headers["content-type"], answer.content) == (200, told, page)
        assert answer.headers["x-content-type-options"] == "nosniff"
