"""Engines on real models: the demo model, and one of random weights made on the spot."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from inference.demo_model.build import random_model
from inference.engine.preflight import installed
from inference.engine.protocol import Done, Piece
from inference.engine.requests import generate_requests
from inference.engine.spec import BUILTIN_DEMO, ModelSpec
from inference.engine.supervised import EngineChoice, SupervisedEngine
from tests.conftest import missing

HOW_TO_GET = {
    "llama_cpp": "a compiled llama-cpp-python (make engine)",
    "xllamacpp": "xllamacpp (pip install xllamacpp)",
}


@dataclass
class Answer:
    """What a caller gathers of one choice."""

    text: str = ""
    pieces: list[str] = field(default_factory=list)
    logprobs: list[dict[str, Any]] = field(default_factory=list)
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
        else:
            answer.done = event
    return answers


def needs(engine: str) -> EngineChoice:
    if not installed(engine):
        missing(HOW_TO_GET[engine])
    return EngineChoice(engine)


@pytest.fixture(scope="session", params=["llama_cpp", "xllamacpp"])
def choice(request: pytest.FixtureRequest) -> EngineChoice:
    return needs(request.param)


@pytest.fixture(scope="session")
def batched() -> EngineChoice:
    return needs("llama_cpp")


@pytest.fixture(scope="session")
def random_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "random.gguf"
    random_model(path)
    return path


@pytest.fixture(scope="session")
def shared_demo(choice: EngineChoice) -> Iterator[SupervisedEngine]:
    """The demo model, for tests that leave it as they found it."""
    engine = SupervisedEngine(ModelSpec.from_parameters({"model_path": BUILTIN_DEMO, "threads": 1}), choice)
    yield engine
    engine.close()


@pytest.fixture
def open_engine(request: pytest.FixtureRequest) -> Iterator[Callable[..., SupervisedEngine]]:
    """Makes engines of a test's own and closes them after it: `open_engine(choice, model_path, context_size=…)`."""
    opened: list[SupervisedEngine] = []

    def make(choice: EngineChoice, path: Path | str = BUILTIN_DEMO, **parameters: Any) -> SupervisedEngine:
        spec = ModelSpec.from_parameters({"model_path": str(path), "threads": 1, **parameters})
        opened.append(SupervisedEngine(spec, choice))
        return opened[-1]

    yield make
    for engine in opened:
        engine.close()
