"""The worker's side: a child that dies is an error and a restart, and never more."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from inference.engine import protocol, supervised
from inference.engine.requests import EmbedRequest, GenerateRequest, generate_requests
from inference.engine.supervised import EngineChoice, SupervisedEngine
from inference.errors import BodyTooLarge, GatewayError, GatewayOverloaded, ModelUnavailable, OutOfMemory, WorkerLost
from tests.inference.engine.conftest import ask
from tests.inference.workers import eventually

Open = Callable[..., SupervisedEngine]
WHO = "Who are you?"


def endless() -> list[GenerateRequest]:
    """Of an engine with one place it takes minutes: one answer alone is over within a second."""
    return generate_requests("completions", {"prompt": ["a"] * 128, "temperature": 0}, {})


def state(pid: int) -> str:
    """As the kernel names it: `Z` of one that has ended and `T` of a stopped one."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "Z"


def gone(pid: int) -> bool:
    """Whether the process has ended, within a generous time."""
    return eventually(lambda: state(pid) == "Z")


def stop(pid: int) -> None:
    os.kill(pid, signal.SIGSTOP)
    assert eventually(lambda: state(pid) == "T"), "until then its threads go on"


def test_a_killed_child_is_a_typed_error_and_the_next_call_works(
    gguf_choice: EngineChoice, open_engine: Open, random_file: Path
) -> None:
    engine = open_engine(gguf_choice, random_file, context_size=2048, max_sequences=1)
    stream = engine.generate(endless())
    next(stream)
    first = engine.process_id
    assert first is not None
    os.kill(first, signal.SIGKILL)
    with pytest.raises(WorkerLost) as caught:
        collect = list(stream)
        assert not collect
    assert "SIGKILL" in caught.value.detail
    assert ask(engine, "a", operation="completions", max_tokens=3).done is not None
    assert engine.process_id != first


def test_everybody_in_flight_learns_of_a_crash(gguf_choice: EngineChoice, open_engine: Open, random_file: Path) -> None:
    engine = open_engine(gguf_choice, random_file, context_size=2048, max_sequences=1)
    engine.start()
    child = engine._child
    assert child is not None

    def outcome(client: int) -> type:
        try:
            list(engine.generate(endless()[:64], client=client))
        except GatewayError as error:
            return type(error)
        return type(None)

    with ThreadPoolExecutor(6) as pool:
        outcomes = pool.map(outcome, range(1, 7))
        assert eventually(lambda: len(set(child._inboxes.values())) == 6), "all are in flight"
        os.kill(child.process.pid, signal.SIGSEGV)
        assert set(outcomes) == {WorkerLost}


def test_a_killed_idle_child_is_replaced_silently(gguf_choice: EngineChoice, open_engine: Open) -> None:
    engine = open_engine(gguf_choice)
    ask(engine, WHO, max_tokens=1)
    killed = engine.process_id or 0
    os.kill(killed, signal.SIGKILL)
    while engine.process_id == killed:
        time.sleep(0.01)
    assert ask(engine, WHO, max_tokens=2).text == "I am"


def test_twenty_first_calls_load_the_model_once(gguf_choice: EngineChoice, open_engine: Open) -> None:
    engine = open_engine(gguf_choice)
    with ThreadPoolExecutor(20) as pool:
        processes = set(pool.map(lambda _: (ask(engine, WHO, max_tokens=2).text, engine.process_id), range(20)))
    assert len(processes) == 1


def test_callers_of_one_failed_load_share_its_error(
    gguf_choice: EngineChoice, open_engine: Open, tmp_path: Path
) -> None:
    engine = open_engine(gguf_choice, tmp_path / "none.gguf")

    def fail(_: int) -> str:
        with pytest.raises(ModelUnavailable) as caught:
            engine.start()
        return caught.value.detail

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(fail, range(8)))) == 1
    assert engine._attempts < 8


def test_a_file_that_appears_later_is_loaded(
    batched: EngineChoice, open_engine: Open, tmp_path: Path, random_file: Path
) -> None:
    path = tmp_path / "late.gguf"
    engine = open_engine(batched, path)
    with pytest.raises(ModelUnavailable):
        engine.start()
    path.write_bytes(random_file.read_bytes())
    assert engine.start().dimension == 64


def test_closing_ends_the_child_at_once(gguf_choice: EngineChoice, open_engine: Open, random_file: Path) -> None:
    engine = open_engine(gguf_choice, random_file, context_size=2048)
    next(engine.generate(endless()))
    pid = engine.process_id or 0
    engine.close()
    assert gone(pid)
    with pytest.raises(ModelUnavailable):
        engine.start()


def test_a_closed_engine_serves_nobody_before_its_child_is_buried_either(
    batched: EngineChoice, open_engine: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = open_engine(batched)
    engine.start()
    monkeypatch.setattr(supervised._Child, "_bury", lambda *_: None)
    engine.close()
    assert (engine.ready, engine.process_id) == (None, None)
    with pytest.raises(ModelUnavailable):
        engine.start()


def test_a_child_sees_no_secret(batched: EngineChoice, open_engine: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-worker")
    monkeypatch.setenv("GATEWAY_ENCRYPTION_KEYS", "also-not-yours")
    engine = open_engine(batched)
    engine.start()
    environment = Path(f"/proc/{engine.process_id}/environ").read_bytes()
    assert b"sk-of-the-worker" not in environment
    assert b"GATEWAY_" not in environment


def test_a_child_can_write_no_file_and_dump_no_core(batched: EngineChoice, open_engine: Open) -> None:
    engine = open_engine(batched)
    engine.start()
    limits = Path(f"/proc/{engine.process_id}/limits").read_text()
    rows = {line[:26].strip(): line[26:].split()[0] for line in limits.splitlines()[1:]}
    assert (rows["Max file size"], rows["Max core file size"]) == ("0", "0")


def test_a_child_does_not_outlive_its_worker(batched: EngineChoice) -> None:
    program = (
        "import time\n"
        "from inference.engine.spec import ModelSpec\n"
        "from inference.engine.supervised import EngineChoice, SupervisedEngine\n"
        "engine = SupervisedEngine(ModelSpec.from_parameters({'model_path': 'builtin:demo'}), EngineChoice())\n"
        "engine.start()\n"
        "print(engine.process_id, flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        child = int(worker.stdout.readline())
        worker.kill()
    assert gone(child)


def test_a_limit_on_memory_is_a_typed_error(batched: EngineChoice, random_file: Path) -> None:
    from inference.engine.spec import ModelSpec

    spec = ModelSpec.from_parameters(
        {"model_path": str(random_file), "context_size": 2048, "cache_tokens": 4_000_000, "threads": 1}
    )
    engine = SupervisedEngine(spec, batched, memory_limit=600 * 1024 * 1024)
    with pytest.raises(OutOfMemory) as caught:
        engine.start()
    engine.close()
    assert "context_size" in caught.value.detail


def test_too_many_requests_at_once_are_turned_away(
    batched: EngineChoice, open_engine: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervised, "MOST_IN_FLIGHT", 2)
    engine = open_engine(batched)
    requests = generate_requests("completions", {"prompt": ["a", "b", "c"]}, {})
    with pytest.raises(GatewayOverloaded) as caught:
        list(engine.generate(requests))
    assert caught.value.retry_after
    assert not engine.busy


def test_what_is_too_large_for_one_frame_is_refused_and_the_child_stays(
    batched: EngineChoice, open_engine: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = open_engine(batched)
    engine.start()
    child = engine.process_id
    monkeypatch.setattr(protocol, "LARGEST_FRAME", 20_000)
    with pytest.raises(BodyTooLarge):
        list(engine.generate(generate_requests("completions", {"prompt": "a " * 800, "n": 16, "max_tokens": 1}, {})))
    assert ask(engine, WHO).done is not None
    assert engine.process_id == child


def test_a_crash_while_loading_is_tried_again_without_the_extra_buffers(
    batched: EngineChoice, open_engine: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []
    real = supervised._Child

    def crashing(spec, choice, memory_limit):  # type: ignore[no-untyped-def]
        tried.append(choice.safe)
        if not choice.safe:
            raise WorkerLost("crashed")
        return real(spec, choice, memory_limit)

    monkeypatch.setattr(supervised, "_Child", crashing)
    engine = open_engine(batched)
    assert engine.start().engine == "llama_cpp"
    assert (tried, engine.choice.safe) == ([False, True], True)


def test_a_child_that_cannot_be_understood_is_replaced(
    batched: EngineChoice, open_engine: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = open_engine(batched)
    engine.start()
    monkeypatch.setattr(protocol, "LARGEST_FRAME", 200)
    with pytest.raises(WorkerLost, match="stopped") as caught:
        engine.embed(EmbedRequest(inputs=["a"]))
    monkeypatch.undo()
    assert "could not be read" in caught.value.detail
    assert ask(engine, WHO, max_tokens=2).text == "I am"


def test_a_child_that_hangs_is_replaced(
    gguf_choice: EngineChoice, open_engine: Open, random_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = open_engine(gguf_choice, random_file, context_size=2048)
    stream = engine.generate(endless())
    next(stream)
    stuck = engine.process_id or 0
    stop(stuck)
    monkeypatch.setattr(supervised, "_HUNG_SECONDS", -1.0)
    stream.close()
    monkeypatch.undo()
    assert gone(stuck)
    while engine.process_id == stuck:
        time.sleep(0.01)
    assert ask(engine, "a", operation="completions", max_tokens=2).done is not None


def test_a_child_that_takes_nothing_more_is_replaced(
    batched: EngineChoice, open_engine: Open, random_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervised, "_HUNG_SECONDS", 0.2)
    engine = open_engine(batched, random_file)
    engine.start()
    stuck = engine.process_id or 0
    stop(stuck)
    with pytest.raises(WorkerLost):
        ask(engine, "a" * (1 << 22), operation="completions")
    assert gone(stuck)
    assert ask(engine, "a", operation="completions", max_tokens=2).done is not None


def test_closing_while_loading_leaves_no_child(
    batched: EngineChoice, open_engine: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = open_engine(batched)
    real = engine._spawn

    def closed_meanwhile() -> supervised._Child:
        child = real()
        engine.close()
        return child

    monkeypatch.setattr(engine, "_spawn", closed_meanwhile)
    with pytest.raises(ModelUnavailable):
        engine.start()
    assert engine._child is not None
    assert gone(engine._child.process.pid)
