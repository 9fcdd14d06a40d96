"""Promises 0-17, 0-18, 0-20, 2-02 and 3-39: docs/clients.md as it is printed, and aliases under the official client."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from inference import client as in_process
from routing import selections, snapshot
from routing.models import Policy
from tests.contract.gateway import Gateway
from tests.inference import workers

pytestmark = pytest.mark.django_db(transaction=True)

PAGE = Path(__file__).parents[2] / "docs" / "clients.md"
HELLO = [{"role": "user", "content": "one two three four"}]


def alias(name: str, model: str) -> None:
    Policy.objects.update_or_create(
        name=name, defaults={"kind": "alias", "document": {"targets": [{"model": model}]}, "enabled": True}
    )


@pytest.fixture
def gateway(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gateway]:
    workers.fresh_registry()
    selections._of_keys.clear()
    fake = workers.add_provider("local", "fake", priority=1)
    workers.add_model(fake, "llama3.1:8b")
    workers.add_model(fake, "seeing", capabilities=["chat", "vision"])
    other = workers.add_provider("other", "fake", priority=2, reply="from the other")
    workers.add_model(other, "qwen")
    for name, model in (("default", "llama3.1:8b"), ("heavy", "qwen"), ("light", "llama3.1:8b")):
        alias(name, model)
    for name in ("gpt-5", "gpt-4o", "gpt-4"):
        alias(name, "default")
    snapshot.refresh()
    with Gateway().serving() as serving:
        yield serving
    snapshot.replace(None)


@pytest.fixture
def key(gateway: Gateway) -> str:
    made = workers.client_key("generate")[1]
    snapshot.refresh()
    return made


def blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)


def test_the_examples_of_the_page_run(gateway: Gateway, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_URL", gateway.url)
    monkeypatch.setenv("GATEWAY_KEY", key)
    told: list[str] = []
    names: dict[str, Any] = {"print": lambda *words, **_: told.append(" ".join(map(str, words)))}
    with contextlib.ExitStack() as made:
        for block in blocks():
            exec(compile(block, str(PAGE), "exec"), names)
            made.callback(names["gateway"].close)
    assert told[0] == "Hello"
    assert told[-1] == "Hello"
    assert "llama3.1:8b" in told[-2]


@pytest.mark.parametrize("name", ["gpt-5", "gpt-4o", "gpt-4", "default"])
def test_an_alias_serves_an_unchanged_client_and_streams_the_same_text(gateway: Gateway, key: str, name: str) -> None:
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=key) as client:
        whole = client.chat.completions.create(model=name, messages=HELLO)
        chunks = list(client.chat.completions.create(model=name, messages=HELLO, stream=True))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert whole.choices[0].message.content == text == "one two three four"


async def test_the_same_for_the_asynchronous_client(gateway: Gateway, key: str) -> None:
    async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=key) as client:
        whole = await client.chat.completions.create(model="gpt-5", messages=HELLO)
        stream = await client.chat.completions.create(model="gpt-5", messages=HELLO, stream=True)
        pieces = [chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices]
    assert whole.choices[0].message.content == "".join(pieces) == "one two three four"


def test_another_default_in_the_database_counts_from_the_next_request_on(gateway: Gateway, key: str) -> None:
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=key) as client:

        def said() -> str | None:
            return client.chat.completions.create(model="gpt-5", messages=HELLO).choices[0].message.content

        assert said() == "one two three four"
        alias("default", "qwen")
        assert said() == "from the other"


def test_a_selection_holds_for_its_session_over_v1(gateway: Gateway, key: str) -> None:
    identity = next(view.identity for view in snapshot.current().client_keys.values())
    in_process.select_model("qwen", session_id="s1", identity=identity)
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=key) as client:

        def said(session: str) -> str | None:
            answer = client.chat.completions.create(model="", messages=HELLO, extra_headers={"x-session-id": session})
            return answer.choices[0].message.content

        assert said("s1") == "from the other"
        assert said("s2") == "one two three four"
