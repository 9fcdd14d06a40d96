from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.utils import timezone

from inference import usage_rows
from inference.contents import LONGEST_TEXT, Contents, Kept
from inference.errors import UpstreamRejected
from inference.models import TraceContent
from tests.inference import registry
from tests.inference.door import Door, chat_body
from tests.inference.registry import CLIENT_KEY
from tests.inference.scripted import DONE, FINISH, far, streaming, whole

CHAT = "/v1/chat/completions"
SECRET = "upstream-canary-1234567890"


def saying(text: str) -> bytes:
    return json.dumps({"choices": [{"index": 0, "message": {"role": "assistant", "content": text}}]}).encode()


async def ask(contents: Contents, times: int = 1, *, stream: bool = False, text: str = "What is it?") -> list[Kept]:
    """What was kept of requests that say so."""
    kept: list[Kept] = []
    contents._write = kept.extend
    async with Door() as door:
        door.app._recorder.contents = contents
        for _ in range(times):
            await door.call(CHAT, chat_body(text, model="m", stream=stream))
    return kept


@pytest.fixture
def serve_one(serve: Any) -> Any:
    def put(behave: Any, *, opted_in: bool = True, keys: Any = (), **more: Any) -> None:
        _, view = far("only", behave, keys=keys)
        key = registry.key_view()
        key = replace(key, identity=replace(key.identity, captures_content=opted_in))
        serve(registry.model(view, "m"), keys=[key], **more)

    return put


def contents(sampling: float = 1.0) -> Contents:
    return Contents(lambda kept: None, sampling)


async def test_of_a_key_that_opted_in_question_and_answer_are_kept(serve_one: Any) -> None:
    serve_one(whole(saying("That.")))
    [kept] = await ask(contents())
    assert (kept.request, kept.answer, kept.cut) == ("user: What is it?", "That.", False)


async def test_a_stream_is_kept_as_the_text_that_it_says(serve_one: Any) -> None:
    event = b'data: {"choices":[{"index":0,"delta":{"content":"Th"}}]}\n\n'
    serve_one(streaming(event, event, FINISH, DONE))
    [kept] = await ask(contents(), stream=True)
    assert kept.answer == "ThTh"


async def test_of_anybody_else_nothing_is_kept(serve_one: Any) -> None:
    serve_one(whole(saying("That.")), opted_in=False)
    assert await ask(contents()) == []


async def test_a_policy_opts_in_for_what_it_decides(serve: Any) -> None:
    _, view = far("only", whole(saying("That.")))
    documents = {"m": {"targets": ["only/x"], "captures_content": True}, "quiet": {"targets": ["only/x"]}}
    serve(registry.model(view, "x"), documents=documents)
    [kept] = await ask(contents())
    assert kept.answer == "That."
    serve(registry.model(view, "x"), documents={"m": documents["quiet"]})
    assert await ask(contents()) == []


@pytest.mark.parametrize(("sampling", "least", "most"), [(0.0, 0, 0), (0.5, 5, 55), (1.0, 60, 60)])
async def test_the_share_that_is_sampled_is_kept(serve_one: Any, sampling: float, least: int, most: int) -> None:
    serve_one(whole(saying("That.")))
    assert least <= len(await ask(contents(sampling), 60)) <= most


async def test_no_live_secret_and_nothing_like_one_is_kept(serve_one: Any) -> None:
    serve_one(whole(saying(f"It is {SECRET}.\nAnd authorization: Bearer abcdef")), keys=[SECRET])
    [kept] = await ask(contents(), text=f"my keys are {SECRET}, {CLIENT_KEY} and https://me:word@host/")
    together = kept.request + kept.answer
    for secret in (SECRET, CLIENT_KEY, "abcdef", "me:word"):
        assert secret not in together
    assert kept.answer.startswith("It is ••••.\nAnd ")


async def test_what_is_too_long_is_cut_and_says_so(serve_one: Any) -> None:
    serve_one(whole(saying("x" * (LONGEST_TEXT + 1))))
    [kept] = await ask(contents())
    assert (len(kept.answer), kept.cut) == (LONGEST_TEXT, True)


async def test_a_refused_request_has_a_question_and_no_answer(serve_one: Any) -> None:
    async def behave(call: Any) -> Any:
        raise UpstreamRejected("no", status=400)

    serve_one(behave)
    [kept] = await ask(contents())
    assert (kept.request, kept.answer) == ("user: What is it?", "")


async def test_a_database_that_is_away_costs_the_content_and_nothing_else(serve_one: Any) -> None:
    serve_one(whole(saying("That.")))
    keeping = contents()

    def away(kept: Any) -> None:
        raise OperationalError("away")

    async with Door() as door:
        keeping._write = away
        door.app._recorder.contents = keeping
        answer = await door.call(CHAT, chat_body(model="m"))
    assert (answer.status, len(door.rows), keeping.dropped) == (200, 1, 1)


@pytest.mark.django_db
def test_it_is_encrypted_at_rest_and_written_once() -> None:
    kept = Kept("req_1", timezone.now(), "a plan", "an answer", False)
    usage_rows.write_contents([kept])
    usage_rows.write_contents([kept])
    with connection.cursor() as cursor:
        cursor.execute("SELECT request, answer FROM inference_tracecontent")
        [stored] = cursor.fetchall()
    assert "plan" not in stored[0]
    assert "answer" not in stored[1]
    row = TraceContent.objects.get()
    assert (row.request.reveal(), row.answer.reveal()) == ("a plan", "an answer")
