"""The product from outside: what a person does in the first hour, and what an operator fears, on one running gateway."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest
import redis

from tests import services
from tests.fakes.upstream import Answer, FakeUpstream, failure
from tests.gateway_project.test_quickstart import Gateway, until

UPSTREAM_KEY = "sk-journey-canary-upstream-0123456789"
CANARIES = {
    "upstream key": UPSTREAM_KEY,
    "second key": "sk-journey-canary-second-0123456789",
    "sensitive parameter": "journey-canary-parameter-0123456789",
    "header in connection_params": "journey-canary-header-0123456789",
    "token in connection_params": "journey-canary-token-0123456789",
}

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("journey")]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    data_dir = tmp_path_factory.mktemp("j") / "d"
    arguments = ["--port", str(services.free_port()), "--no-engine-build"]
    with Gateway(data_dir, arguments, {"GATEWAY_LOG_LEVEL": "DEBUG"}) as running:
        yield running.until_it_serves()


@pytest.fixture(scope="module")
def upstream() -> Iterator[FakeUpstream]:
    with FakeUpstream(api_key=UPSTREAM_KEY) as upstream:
        yield upstream


@pytest.fixture(scope="module")
def rest(gateway: Gateway) -> Iterator[httpx.Client]:
    written = gateway.written()
    headers = {"Authorization": f"Bearer {written['registry_key']}"}
    with httpx.Client(base_url=written["base_url"], headers=headers, timeout=120) as client:
        yield client


@pytest.fixture(scope="module")
def client(gateway: Gateway) -> Iterator[openai.OpenAI]:
    written = gateway.written()
    with openai.OpenAI(base_url=written["base_url"] + "/v1", api_key=written["client_key"], max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def remote(rest: httpx.Client, upstream: FakeUpstream) -> str:
    """A provider in the shape of the backoffice's own create call, with a secret in every place that takes one."""
    reply = rest.post(
        "/providers",
        json={
            "provider_id": "remote",
            "provider_type": "openai",
            "display_name": "Remote",
            "connection_params": {
                "api_base": upstream.base_url,
                "token": CANARIES["token in connection_params"],
                "headers": {"X-Api-Key": CANARIES["header in connection_params"], "X-Plain": "plain"},
            },
            "models": [{"model_id": "gpt-4-turbo-preview", "context_window": 128000, "max_tokens": 4096}],
            "connection_parameters": [
                {"param_name": "region_secret", "param_value": CANARIES["sensitive parameter"], "is_sensitive": True}
            ],
            "api_key": {"key_value": UPSTREAM_KEY, "is_encrypted": True},
        },
    )
    assert reply.status_code in {200, 201}, reply.text
    second = {"provider_id": "remote", "key_value": CANARIES["second key"], "environment": "production"}
    assert rest.post("/providers/remote/api-keys", json=second).is_success
    return "gpt-4-turbo-preview"


def ask(client: openai.OpenAI, model: str, **more: object) -> str:
    messages = [{"role": "user", "content": "What is a provider?"}]
    return client.chat.completions.create(model=model, messages=messages, **more).choices[0].message.content or ""  # type: ignore[call-overload]


def test_the_local_model_streams_to_the_official_client(client):
    question = [{"role": "user", "content": "What is this gateway?"}]
    stream = client.chat.completions.create(model="demo", messages=question, stream=True)
    pieces = [chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices]
    assert "gateway" in "".join(pieces)
    assert len(pieces) > 5


def test_a_provider_added_over_rest_serves_the_next_request(client, remote, upstream):
    assert ask(client, remote) == "echo: What is a provider?"
    assert upstream.requests[-1].headers["authorization"] == f"Bearer {UPSTREAM_KEY}"
    assert upstream.requests[-1].headers["x-plain"] == "plain"


def test_a_key_of_another_environment_is_never_chosen(client, remote, upstream):
    for _ in range(10):
        ask(client, remote)
    assert {request.headers.get("authorization") for request in upstream.requests} == {f"Bearer {UPSTREAM_KEY}"}


def test_a_change_is_live_at_the_next_request(client, remote, rest):
    assert rest.put("/providers/remote", json={"enabled": False}).is_success
    with pytest.raises(openai.NotFoundError, match="does not exist"):
        ask(client, remote)
    assert rest.put("/providers/remote", json={"enabled": True}).is_success
    assert ask(client, remote)


def test_an_edit_cuts_no_request_in_flight(client, remote, rest, upstream):
    upstream.reply_with(event_delay_seconds=0.2)
    question = [{"role": "user", "content": "one two three four five six"}]
    stream = client.chat.completions.create(model=remote, messages=question, stream=True)
    pieces = [next(iter(stream))]
    assert rest.put("/providers/remote", json={"description": "edited while it streamed"}).is_success
    pieces += list(stream)
    assert (
        "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices)
        == "echo: " + question[0]["content"]
    )


def test_the_connection_test_speaks_to_the_upstream(rest, remote):
    verdict = rest.post(f"/providers/{'remote'}/test").json()
    assert verdict["success"] is True
    assert verdict["model_tested"] == remote


def test_a_background_job_runs_in_a_worker(gateway, remote):
    written = gateway.written()
    headers = {"Authorization": f"Bearer {written['client_key']}"}
    with httpx.Client(base_url=written["base_url"], headers=headers, timeout=60) as jobs:
        made = jobs.post("/api/v1/jobs", json={"prompt_content": "Say this.", "config": {"model_identifier": remote}})
        assert made.status_code == 202, made.text
        place = made.headers["Location"]
        until(lambda: jobs.get(place).json()["state"] in {"succeeded", "failed"})
        assert jobs.get(place).json()["result"]["generated_content"] == "echo: Say this."


def test_a_worker_killed_in_a_local_stream_is_an_error_event_and_the_next_request_succeeds(gateway, client):
    question = [{"role": "user", "content": "What is this gateway?"}]

    def cut_short() -> str | None:
        """What the client is told; nothing when the stream was over before the kill."""
        workers = [pid for pid, command in gateway.tree().items() if "worker" in command and "celery" in command]
        assert workers
        try:
            stream = client.completions.create(
                model="demo",
                prompt="A provider is a",
                stream=True,
                max_tokens=1500,
                temperature=1,
                logit_bias={"0": -100, "2": -100},
            )
            next(iter(stream))
            for pid in workers:
                os.kill(pid, signal.SIGKILL)
            for _ in stream:
                pass
        except openai.APIError as error:
            return error.code
        return None

    def answers() -> bool:
        try:
            return bool(client.chat.completions.create(model="demo", messages=question).choices[0].message.content)
        except openai.APIStatusError:
            return False

    told = None
    for _ in range(5):  # a few seconds, and there is nothing to cut
        told = told or cut_short()
        until(answers)
    assert told == "worker_lost"


def test_a_web_process_killed_under_load_comes_back_with_nothing_half_written(gateway, client, remote, rest):
    stop = threading.Event()

    def load() -> None:
        while not stop.is_set():
            try:
                ask(client, remote)
            except openai.OpenAIError:
                time.sleep(0.05)

    callers = [threading.Thread(target=load) for _ in range(4)]
    for caller in callers:
        caller.start()
    try:
        web = min(pid for pid, command in gateway.tree().items() if "gateway_project.server" in command)
        time.sleep(0.5)
        os.kill(web, signal.SIGKILL)
        until(lambda: web not in gateway.tree())
        gateway.until_it_serves()
    finally:
        stop.set()
        for caller in callers:
            caller.join()
    assert ask(client, remote)
    with contextlib.closing(sqlite3.connect(f"file:{gateway.data_dir}/db.sqlite3?mode=ro", uri=True)) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        halves = "SELECT count(*) FROM inference_trace WHERE status = 200 AND output_tokens = 0 AND operation = 'chat'"
        assert database.execute(halves).fetchone() == (0,)


def test_an_upstream_that_repeats_our_key_in_its_errors_does_not_give_it_away(client, remote, rest, upstream):
    echoed = {"error": {"message": f"bad key {UPSTREAM_KEY}", "type": "x", "param": None, "code": "bad"}}
    for answer in (
        Answer(status=400, json=echoed, headers={"x-debug-key": UPSTREAM_KEY, "set-cookie": f"k={UPSTREAM_KEY}"}),
        Answer(status=401, json=echoed),
        Answer(status=500, json=echoed),
        failure(429, f"slow down {UPSTREAM_KEY}"),
        Answer(status=404, body=f"<html>{UPSTREAM_KEY}</html>", content_type="text/html"),
        Answer(events=[{"choices": [{"index": 0, "delta": {"content": "a"}}]}, echoed]),
    ):
        upstream.clear()
        upstream.reply_with(answer, times=None)
        with pytest.raises(openai.APIError) as caught:
            list(
                client.chat.completions.create(model=remote, messages=[{"role": "user", "content": "hi"}], stream=True)
            )
        shown = f"{caught.value} {caught.value.body} {getattr(getattr(caught.value, 'response', None), 'headers', '')}"
        assert UPSTREAM_KEY not in shown
        assert UPSTREAM_KEY not in rest.post("/providers/remote/test").text
    upstream.clear()


def test_no_secret_stands_anywhere_it_should_not(gateway, rest, remote, upstream):
    """Last on purpose: everything above has left its traces by now."""
    written = gateway.written()
    places = in_files(gateway.data_dir)
    places |= admin_pages(written["admin_login_link"], written["admin_url"])
    places |= in_redis(gateway.data_dir / "redis.sock")
    for address in (
        "/providers",
        "/providers/remote",
        "/providers/remote/api-keys",
        "/providers/remote/connection-params",
        "/api/v1/providers",
        "/metrics",
        "/api/v1/health",
        "/readyz",
    ):
        places[f"GET {address}"] = rest.get(address).content
    secrets = CANARIES | {name: written[name] for name in ("client_key", "registry_key")}
    found = [
        f"{name} in {place}"
        for place, content in places.items()
        for name, secret in secrets.items()
        if secret.encode() in content
    ]
    assert found == []
    assert sum(place.startswith("page ") for place in places) > 10


def in_files(data_dir: Path) -> dict[str, bytes]:
    """But those where secrets belong. Sockets cannot be read, and a running gateway also takes files away."""
    own = {"quickstart.json", "encryption.keys", "client_key.peppers", "django.secret"}
    places: dict[str, bytes] = {}
    for folder, _, names in os.walk(data_dir):
        for path in (Path(folder, name) for name in names if name not in own):
            with contextlib.suppress(FileNotFoundError):
                if path.is_file():
                    places[f"file {path.relative_to(data_dir)}"] = path.read_bytes()
    return places


def admin_pages(link: str, index: str) -> dict[str, bytes]:
    """Every page that the admin's own links lead to, two steps deep."""
    pages: dict[str, bytes] = {}
    with httpx.Client(follow_redirects=True, timeout=120) as browser:
        browser.get(link)
        queue = [index]
        origin = index.removesuffix("/admin/")
        while queue and len(pages) < 60:
            address = queue.pop(0)
            if f"page {address}" in pages:
                continue
            reply = browser.get(address)
            pages[f"page {address}"] = reply.content
            for target in re.findall(r'href="(/admin/[^"#?]*)"', reply.text):
                if "logout" not in target and "/password" not in target:
                    queue.append(origin + target)
    return pages


def in_redis(socket: Path) -> dict[str, bytes]:
    """Every value, read by its type: a DUMP would be compressed, and hide what we look for."""
    store = redis.Redis(unix_socket_path=str(socket))
    read = {
        b"none": lambda key: None,  # its time was over meanwhile
        b"string": store.get,
        b"list": lambda key: store.lrange(key, 0, -1),
        b"hash": store.hgetall,
        b"set": store.smembers,
        b"zset": lambda key: store.zrange(key, 0, -1),
        b"stream": store.xrange,
    }
    with store:
        return {f"redis {key!r}": repr(read[store.type(key)](key)).encode() for key in store.scan_iter()}
