"""Who lives, as processes tell of themselves in a real Redis, and what may be asked of a worker."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import redis
from django.core.management import call_command
from django.core.management.base import CommandError
from django.test import Client
from django.urls import reverse

from inference import process_beats, process_list, worker_actions
from inference.process_beats import PROCESSES, Beats
from inference.worker_actions import NoSuchWorker
from providers.models import AuditEntry
from tests.callers import caller
from tests.inference.workers import Worker, eventually

pytestmark = pytest.mark.django_db

PAGE, ASK = reverse("admin:workers"), reverse("admin:workers-ask")
MODEL = {"id": "m1", "name": "local/demo", "path": "/m.gguf", "engine": "llama_cpp", "memory_bytes": 96 * 2**20,
         "context_size": 2048, "cache_tokens": 4096, "gpu_layers": -1, "users": 0, "load_seconds": 0.2,
         "last_used_at": 1.7e9, "notes": []}  # fmt: skip
IDLE = {"pool": "thread", "concurrency": 4, "serves": ["generation", "llama_cpp"], "takes": ["generation"], "done": 7,
        "tasks": [{"task": "inference.tasks.run_job", "seconds": 65.0, "job": ""}], "models": [MODEL]}  # fmt: skip


@pytest.fixture
def worker(redis_url: str) -> Iterator[Beats]:
    done: list[Any] = []

    def do(ask: dict[str, Any]) -> str:
        done.append(ask)
        if ask["model"] == "bad":
            raise RuntimeError
        return f"unloaded {ask['name']}"

    beats = Beats(redis_url, process_beats.WORKER, "w@test", lambda: IDLE, do)
    beats.beat()
    yield beats
    beats.stop()


def aged(redis_url: str, seconds: float) -> None:
    with redis.Redis.from_url(redis_url) as store:
        told = orjson.loads(store.hget(PROCESSES, "w@test") or b"{}")
        store.hset(PROCESSES, "w@test", orjson.dumps(told | {"at": told["at"] - seconds}))


def test_a_worker_is_alive_then_gone_then_forgotten(worker: Beats, redis_url: str) -> None:
    seen = process_list.look()
    assert [(one["name"], one["alive"]) for one in seen.workers] == [("w@test", True)]
    takes = {queue.name: (queue.takers, queue.paused) for queue in seen.queues}
    assert takes["generation"] == (("w@test",), ())
    assert takes["llama_cpp"] == ((), ("w@test",))
    aged(redis_url, 60)
    assert [one["alive"] for one in process_list.look().workers] == [False]
    aged(redis_url, 7200)
    assert process_list.look().workers == ()


def test_one_that_ends_in_peace_takes_its_word_back(worker: Beats) -> None:
    worker.stop()
    assert process_list.look().workers == ()


def test_models_of_child_processes_are_their_workers(worker: Beats, redis_url: str) -> None:

    child = Beats(redis_url, process_beats.POOL, "pool@x", lambda: {"models": [MODEL | {"id": "m2"}]})
    child._fixed["parent"] = os.getpid()
    child.beat()
    models = process_list.look().models
    assert [(model["id"], model["process"]) for model in models] == [("m1", "w@test"), ("m2", "pool@x")]
    child.stop()


def test_a_model_is_unloaded_by_whoever_holds_it_and_how_that_went_is_told(worker: Beats) -> None:
    assert worker_actions.unload("w@test", "m1") == "local/demo"
    assert AuditEntry.objects.get().action == "unload"
    worker.beat()
    assert [word["text"] for word in process_list.look().workers[0]["said"]] == ["unloaded local/demo"]
    with pytest.raises(NoSuchWorker):
        worker_actions.unload("w@test", "m9")


def test_queued_messages_are_counted(worker: Beats, redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as store:
        store.rpush("generation", b"1", b"2")
        try:
            assert next(one.waiting for one in process_list.look().queues if one.name == "generation") == 2
        finally:
            store.delete("generation")


def test_the_page_tells_and_its_actions_ask(worker: Beats, admin_client: Client) -> None:
    html = admin_client.get(PAGE).content.decode()
    for text in ("w@test", "local/demo", "run job", "96\u202fMB", "Drain this worker", "paused"):
        assert text in html, text
    assert admin_client.get(PAGE, headers={"X-Fragment": "1"}).templates[0].name == "admin/workers/live.html"
    told = {"do": "unload", "worker": "w@test", "model": "m1"}
    assert "was asked to unload" in admin_client.post(ASK, told, follow=True).content.decode()
    for wrong in ({"do": "unload", "worker": "x"}, {"do": "explode", "worker": "w@test"}):
        assert "alert" in admin_client.post(ASK, wrong, follow=True).content.decode()


def test_without_redis_the_page_says_so(admin_client: Client, settings: Any) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    assert "Nobody can be asked who lives" in admin_client.get(PAGE).content.decode()


def test_the_api_tells_readers_and_obeys_admins_alone(worker: Beats) -> None:
    told = caller("registry:read").get("/api/v1/workers").json()
    assert told["workers"][0]["models"][0]["name"] == "local/demo"
    address = "/api/v1/workers/w@test/unload"
    assert caller("registry:read").post(address, {"model": "m1"}).status_code == 403
    admin = caller("admin")
    assert admin.post(address, {"model": "m1"}).json() == {"asked_to_unload": "local/demo"}
    assert admin.post("/api/v1/workers/nobody/pause", {}).status_code == 404
    assert admin.post("/api/v1/workers/w@test/pause", {"queue": "x"}).status_code == 404


def test_the_command_tells_the_same(worker: Beats, capsys: pytest.CaptureFixture[str]) -> None:
    call_command("workers", "--json")
    assert json.loads(capsys.readouterr().out)["workers"][0]["name"] == "w@test"
    call_command("workers")
    assert "local/demo" in capsys.readouterr().out
    with pytest.raises(CommandError):
        call_command("workers", "--pause", "nobody")


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_a_real_worker_is_drained_and_takes_again(tmp_path: Path) -> None:
    real = Worker(tmp_path, tmp_path / "worker.log", queues="probes,housekeeping").start()

    def takes() -> list[str]:
        return [queue for one in process_list.look().workers if one["alive"] for queue in one["takes"]]

    try:
        assert eventually(lambda: takes() == ["housekeeping", "probes"])
        (name,) = [one["name"] for one in process_list.look().workers]
        assert worker_actions.pause(name, "probes") == ["probes"]
        assert eventually(lambda: takes() == ["housekeeping"])
        worker_actions.pause(name)
        assert eventually(lambda: takes() == [])
        assert worker_actions.resume(name) == ["housekeeping", "probes"]
        assert eventually(lambda: takes() == ["housekeeping", "probes"])
    finally:
        real.stop()
    assert eventually(lambda: process_list.look().workers == ())
