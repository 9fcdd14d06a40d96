"""Ollama's paths through the data plane: the same admission, routing and books as a chat, in Ollama's words."""

from __future__ import annotations

import asyncio
import ipaddress
from typing import Any

import orjson
import pytest

from inference import errors, loaded_models
from inference.endpoints import ollama
from inference.limits import Limits
from providers.secrets import Secret
from tests.inference import registry
from tests.inference.door import Answer, Door
from tests.inference.scripted import DONE, EVENT, FINISH, far, streaming

HELLO = [{"role": "user", "content": "Hello there"}]
ASKED = {"model": "fake-chat", "messages": HELLO}


def lines(answer: Answer) -> list[dict[str, Any]]:
    assert answer.headers["content-type"] == "application/x-ndjson"
    return [orjson.loads(line) for line in answer.body.splitlines()]


async def test_a_chat_is_answered_in_lines_and_booked(door: Door) -> None:
    answer = await door.call("/api/chat", ASKED)
    told = lines(answer)
    assert answer.status == 200
    assert "".join(line["message"]["content"] for line in told)
    assert [line["done"] for line in told] == [False] * (len(told) - 1) + [True]
    await door.app.shutdown()
    [row] = door.rows
    assert (row.operation, row.status, row.output_tokens) == ("chat", 200, told[-1]["eval_count"])


async def test_a_prompt_without_a_template_is_booked_as_a_completion(door: Door) -> None:
    answer = await door.call("/api/generate", {"model": "fake-chat", "prompt": "a b", "raw": True, "stream": False})
    assert answer.json["response"]
    assert int(answer.headers["content-length"]) == len(answer.body)
    await door.app.shutdown()
    assert [row.operation for row in door.rows] == ["completions"]


async def test_texts_are_embedded(door: Door) -> None:
    answer = await door.call("/api/embed", {"model": "fake-embedding", "input": ["a", "b"], "stream": True})
    assert [len(vector) for vector in answer.json["embeddings"]] == [6, 6]
    old = await door.call("/api/embeddings", {"model": "fake-embedding", "prompt": "a"})
    assert old.json == {"embedding": answer.json["embeddings"][0]}


@pytest.mark.parametrize(("asked", "registered"), [("m:latest", "m"), ("m", "m:latest"), ("m:latest", "m:latest")])
async def test_a_name_without_a_tag_is_the_one_with_latest(serve, door: Door, asked: str, registered: str) -> None:
    serve(registry.model(registry.provider(), registered))
    answer = await door.call("/api/chat", {**ASKED, "model": asked, "stream": False})
    assert (answer.status, answer.json["model"]) == (200, asked)


async def test_a_stream_that_is_cut_ends_with_an_error_line(serve, door: Door) -> None:
    _, view = far("only", streaming(EVENT, errors.UpstreamBroken("The provider's answer was cut.")))
    serve(registry.model(view, "m"))
    told = lines(await door.call("/api/chat", {**ASKED, "model": "m"}))
    assert [line.get("done") for line in told] == [False, None]
    assert told[-1] == {"error": "The provider's answer was cut.", "code": "upstream_broken"}


@pytest.mark.parametrize("local", [True, False])
async def test_only_an_engine_of_ones_own_gets_what_a_vendor_would_refuse(serve, door: Door, local: bool) -> None:
    only, view = far("only", streaming(EVENT, FINISH, DONE), local=local)
    serve(registry.model(view, "m"))
    await door.call("/api/chat", {**ASKED, "model": "m", "options": {"top_k": 7}})
    assert only.calls[0].field("top_k") == (7 if local else None)


async def test_nothing_but_lines_keeps_a_slow_stream_alive(serve) -> None:
    async def slow(call: Any) -> Any:
        await asyncio.sleep(0.12)
        return await streaming(EVENT, FINISH, DONE)(call)

    _, view = far("slow", slow)
    serve(registry.model(view, "m"))
    async with Door(Limits(keep_alive_seconds=0.02, watch_after_seconds=0.01)) as door:
        told = lines(await door.call("/api/chat", {**ASKED, "model": "m"}))
    assert [line["done"] for line in told] == [False, True]


async def test_what_is_wrong_has_a_status_and_a_text(door: Door) -> None:
    refused = await door.call("/api/chat", ASKED, key="gw-000000000000-wrong")
    assert (refused.status, refused.json["code"]) == (401, "invalid_api_key")
    unknown = await door.call("/api/chat", {**ASKED, "model": "nobody-has-this"})
    assert unknown.status == 404
    assert "nobody-has-this" in unknown.error
    broken = await door.call("/api/generate", {"model": "fake-chat", "prompt": "x", "options": 3})
    assert (broken.status, broken.json["param"]) == (400, "options")
    other = await door.get("/api/chat")
    assert (other.status, other.headers["allow"]) == (405, "POST")
    assert isinstance(other.error, str)


async def test_loading_asks_nobody_and_is_in_no_books(door: Door) -> None:
    answer = await door.call("/api/generate", {"model": "fake-chat", "keep_alive": 0})
    assert (answer.json["done_reason"], answer.headers["content-type"]) == ("unload", "application/json")
    assert (await door.call("/api/generate", {"model": "nobody-has-this"})).status == 404
    assert (await door.call("/api/generate", {"model": "fake-chat"}, key=None)).status == 401
    await door.app.shutdown()
    assert [row.status for row in door.rows] == [404]


async def test_only_what_a_key_may_use_is_listed_and_shown(serve, door: Door) -> None:
    own = registry.provider("own")
    details = {"family": "llama", "parameter_size": "3.2B", "quantization_level": "Q4_K_M", "format": "gguf"}
    shown = registry.model(own, "llama3.2:3b", parameters={"details": details, "size": 5}, context_window=4096)
    file = registry.model(
        own, "Qwen2.5-0.5B", parameters={"model_path": "/m/Qwen2.5-0.5B-q8_0.gguf", "sha256": "a" * 64}
    )
    hidden = registry.model(own, "hidden")
    policies = {"fast": {"targets": [{"model": "llama3.2:3b"}]}}
    serve(shown, file, hidden, keys=[registry.key_view(allowed_models=("llama*", "Qwen*", "fast"))], documents=policies)
    listed = {one["name"]: one for one in (await door.get("/api/tags")).json["models"]}
    assert set(listed) == {"llama3.2:3b", "Qwen2.5-0.5B", "fast"}
    assert listed["llama3.2:3b"]["details"] | details == listed["llama3.2:3b"]["details"]
    assert (listed["llama3.2:3b"]["size"], listed["fast"]["details"]["parameter_size"]) == (5, "3.2B")
    found = listed["Qwen2.5-0.5B"]
    assert (found["digest"], found["details"]["format"]) == ("a" * 64, "gguf")
    assert (found["details"]["parameter_size"], found["details"]["quantization_level"]) == ("0.5B", "Q8_0")
    told = (await door.call("/api/show", {"model": "fast:latest"})).json
    assert (told["model_info"]["llama.context_length"], told["capabilities"]) == (4096, ["completion"])
    assert (await door.call("/api/show", {"model": "hidden"})).status == 404
    assert (await door.call("/api/show", {})).json["error"] == "model is required"


async def test_only_models_that_a_key_may_use_are_told_as_loaded(serve, door: Door, monkeypatch) -> None:
    own = registry.provider("own")
    file = registry.model(own, "demo", parameters={"model_path": "/m/demo-1b-q8_0.gguf", "sha256": "a" * 64})
    twin = registry.model(registry.provider("other", priority=1), "hidden")
    serve(file, twin, keys=[registry.key_view(allowed_models=("demo",))])
    told = {"memory_bytes": 5, "context_size": None, "gpu_layers": -1}
    names = ("own/demo", "other/hidden", "own/demo", "gone/demo")

    async def held() -> list[dict[str, Any]]:
        return [{**told, "name": name} for name in names]

    monkeypatch.setattr(loaded_models, "held", held)
    [one] = (await door.get("/api/ps")).json["models"]
    assert (one["name"], one["digest"], one["size_vram"], one["context_length"]) == ("demo", "a" * 64, 5, 0)
    assert one["details"]["quantization_level"] == "Q8_0"


async def test_while_redis_is_away_nothing_is_told_as_loaded(door: Door, settings: Any) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    assert (await door.get("/api/ps")).json == {"models": []}


async def test_the_version_needs_no_key_and_everything_else_does(door: Door) -> None:
    assert tuple(map(int, (await door.get("/api/version", key=None)).json["version"].split("."))) >= (0, 6, 4)
    for path in ("/api/tags", "/api/ps"):
        assert (await door.get(path, key=None)).status == 401
    assert (await door.call("/api/pull", {"model": "x"}, key=None)).status == 401
    pulled = await door.call("/api/pull", {"model": "x"})
    assert (pulled.status, "admin" in pulled.error) == (403, True)


async def test_clients_that_look_whether_anybody_is_there_find_somebody(door: Door) -> None:
    for method in ("GET", "HEAD"):
        answer = await door.call("/", method=method, key=None)
        assert (answer.status, answer.body) == (200, b"Ollama is running")


@pytest.mark.parametrize(
    ("method", "accept", "looks"),
    [("HEAD", None, True), ("GET", b"*/*", True), ("GET", b"text/html,*/*", False), ("POST", None, False)],
)
def test_browsers_look_for_the_gateways_own_page(method: str, accept: bytes | None, looks: bool) -> None:
    headers = [] if accept is None else [(b"accept", accept)]
    assert ollama.looks_for_ollama({"path": "/", "method": method, "headers": headers}) is looks


# Without a key -----------------------------------------------------------------------------------------------------


@pytest.fixture
async def open_door(serve):
    fake = registry.provider()
    networks = (ipaddress.ip_network("10.0.0.0/8"),)
    serve(registry.model(fake), keys=[registry.key_view(networks=networks)])
    async with Door(Limits(ollama_key=Secret(registry.CLIENT_KEY))) as opened:
        yield opened


NEAR, ELSEWHERE = ("10.0.0.5", 1234), ("192.0.2.1", 1234)


async def test_a_request_without_a_credential_is_served_in_the_name_of_the_key(open_door: Door) -> None:
    answer = await open_door.call("/api/chat", ASKED, key=None, client=NEAR)
    assert answer.status == 200
    assert (await open_door.get("/api/tags", key=None, client=NEAR)).json["models"]
    await open_door.app.shutdown()
    assert [row.client_key_id for row in open_door.rows] == [7]


async def test_the_keys_own_bounds_hold_for_it(open_door: Door) -> None:
    answer = await open_door.call("/api/chat", ASKED, key=None, client=ELSEWHERE)
    assert (answer.status, answer.json["code"]) == (401, "ip_not_authorized")
    assert (await open_door.get("/api/tags", key=None, client=ELSEWHERE)).status == 401


@pytest.mark.parametrize("headers", [{"authorization": "Basic eDp5"}, {"x-api-key": "gw-wrong"}, {"api-key": ""}])
async def test_a_credential_that_is_wrong_is_not_made_good(open_door: Door, headers: dict[str, str]) -> None:
    for path, body in (("/api/chat", ASKED), ("/api/show", {"model": "fake-chat"})):
        assert (await open_door.call(path, body, key=None, headers=headers, client=NEAR)).status == 401


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("https://evil.example", 401),
        ("null", 401),
        ("http://localhost:3000", 200),
        ("app://obsidian.md", 200),
        ("http://localhost.evil.example", 401),
    ],
)
async def test_a_strangers_page_is_not_served_in_its_name(open_door: Door, origin: str, status: int) -> None:
    answer = await open_door.call("/api/chat", ASKED, key=None, headers={"origin": origin}, client=NEAR)
    assert answer.status == status


async def test_no_other_path_is_served_without_a_key(open_door: Door) -> None:
    for path in ("/v1/chat/completions", "/v1/messages"):
        assert (await open_door.call(path, ASKED, key=None, client=NEAR)).status == 401
    assert (await open_door.get("/v1/models", key=None, client=NEAR)).status == 401
