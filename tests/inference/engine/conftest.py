"""Engines on real models: the demo model, and one of random weights made on the spot."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from inference.demo_model.build import random_model
from inference.engine.preflight import installed
from inference.engine.protocol import Done, Piece
from inference.engine.requests import generate_requests
from inference.engine.spec import BUILTIN_DEMO, DEMO_PATH, ModelSpec
from inference.engine.supervised import EngineChoice, SupervisedEngine
from inference.engine.transformers_spec import TransformersSpec
from tests.conftest import missing
from tests.inference.engine.model_directory import write_directory

HOW_TO_GET = {
    "llama_cpp": "a compiled llama-cpp-python (make engine)",
    "xllamacpp": "xllamacpp (pip install xllamacpp)",
    "transformers": "torch and transformers (make run EXTRAS=transformers)",
}


@dataclass
class Answer:
    """What a caller gathers of one choice."""

    text: str = ""
    pieces: list[str] = field(default_factory=list)
    logprobs: list[dict[str, Any]] = field(default_factory=list)
    calls: dict[int, tuple[str, str]] = field(default_factory=dict)
    """A name and its arguments."""
    done: Done | None = None


def ask(engine: SupervisedEngine, question: str = "", operation: str = "chat", **fields: Any) -> Answer:
    """One whole answer, greedy unless told otherwise."""
    return ask_all(engine, question, operation, **fields)[0]


def ask_all(engine: SupervisedEngine, question: str = "", operation: str = "chat", **fields: Any) -> list[Answer]:
    if question and operation == "chat":
        fields = {"messages": [{"role": "user", "content": question}], **fields}
    elif question:
        fields = {"prompt": question, **fields}
    requests = generate_requests(operation, fields, {"temperature": 0})
    answers = [Answer() for _ in requests]
    for index, event in engine.generate(requests):
        answer = answers[index]
        if isinstance(event, Piece):
            answer.text += event.text
            answer.pieces.append(event.text)
            answer.logprobs += event.logprobs or []
            for call in event.tool_calls or ():
                name, arguments = answer.calls.get(call["index"], ("", ""))
                function = call["function"]
                answer.calls[call["index"]] = (
                    name + (function.get("name") or ""),
                    arguments + function.get("arguments", ""),
                )
        else:
            answer.done = event
    return answers


def needs(engine: str) -> EngineChoice:
    if not installed(engine):
        missing(HOW_TO_GET[engine])
    return EngineChoice(engine)


@pytest.fixture(
    scope="session",
    params=["llama_cpp", "xllamacpp", pytest.param("transformers", marks=pytest.mark.xdist_group("transformers"))],
)
def choice(request: pytest.FixtureRequest) -> EngineChoice:
    return needs(request.param)


@pytest.fixture(scope="session", params=["llama_cpp", "xllamacpp"])
def gguf_choice(request: pytest.FixtureRequest) -> EngineChoice:
    """Those that read GGUF files, which start within half a second."""
    return needs(request.param)


@pytest.fixture(scope="session")
def batched() -> EngineChoice:
    return needs("llama_cpp")


def spec_for(choice: EngineChoice, path: Path | str, **parameters: Any) -> ModelSpec | TransformersSpec:
    """Of a GGUF file, which the engine for directories gets as one."""
    told = {"model_path": str(path), "threads": 1, **parameters}
    if choice.name != "transformers":
        return ModelSpec.from_parameters(told)
    source = DEMO_PATH if path == BUILTIN_DEMO else Path(path)
    return TransformersSpec.from_parameters({**told, "model_path": str(directory_of(source))})


class KeptEngine(SupervisedEngine):
    """To import torch takes seconds, so these outlive their tests; they carry nothing from one to the next."""

    def close(self) -> None:
        """Not before the tests are over."""


@functools.cache
def kept_engine(spec: TransformersSpec) -> SupervisedEngine:
    """The one engine of a spec without its name."""
    engine = KeptEngine(spec, EngineChoice("transformers"))
    atexit.register(SupervisedEngine.close, engine)
    return engine


@functools.cache
def directory_of(source: Path) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="gwtest-", dir="/tmp"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return write_directory(source, folder)


@pytest.fixture(scope="session")
def random_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "random.gguf"
    random_model(path)
    return path


@pytest.fixture(scope="session")
def shared_demo(choice: EngineChoice) -> Iterator[SupervisedEngine]:
    """The demo model, for tests that leave it as they found it."""
    if choice.name == "transformers":
        yield kept_engine(spec_for(choice, BUILTIN_DEMO))
        return
    engine = SupervisedEngine(spec_for(choice, BUILTIN_DEMO), choice)
    yield engine
    engine.close()


@pytest.fixture
def open_engine(request: pytest.FixtureRequest) -> Iterator[Callable[..., SupervisedEngine]]:
    """Makes engines of a test's own and closes them after it: `open_engine(choice, model_path, context_size=…)`."""
    opened: list[SupervisedEngine] = []

    def make(choice: EngineChoice, path: Path | str = BUILTIN_DEMO, **parameters: Any) -> SupervisedEngine:
        spec = spec_for(choice, path, **parameters)
        if isinstance(spec, TransformersSpec):
            return kept_engine(spec)
        opened.append(SupervisedEngine(spec, choice))
        return opened[-1]

    yield make
    for engine in opened:
        engine.close()
