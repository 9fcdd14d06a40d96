"""What only the engine of model directories promises; the rest it shares with the others, in `test_engines`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inference.engine.requests import embed_request, generate_requests
from inference.engine.spec import BUILTIN_DEMO, DEMO_PATH
from inference.engine.supervised import EngineChoice, SupervisedEngine
from inference.engine.transformers_spec import TransformersSpec
from inference.errors import ContextLengthExceeded, UnsupportedCapability
from tests.inference.engine.conftest import ask, kept_engine, needs, spec_for
from tests.inference.engine.model_directory import write_directory, write_safetensors

pytestmark = [pytest.mark.xdist_group("transformers"), pytest.mark.usefixtures("_torch")]
FAILURES = """
import json, sys
from inference.engine import child
from inference.engine.protocol import Load
from inference.errors import GatewayError

def told(spec, limit=None):
    try:
        child._load_transformers(Load("transformers", spec, memory_limit=limit), lambda events: None)
    except GatewayError as error:
        return [type(error).__name__, error.message, error.detail, error.param]

asked, found = json.load(sys.stdin), {}
sys.modules["torch"] = None
found["no torch"] = told(asked["no torch"])
del sys.modules["torch"]
for name in [name for name in asked if name not in ("no torch", "no memory")]:
    found[name] = told(asked[name])
found["no memory"] = told(asked["no memory"], limit=64 << 20)
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def _torch() -> None:
    needs("transformers")


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> SupervisedEngine:
    """As sentence-transformers writes them: the last token's vector, then a layer that makes 16 numbers of it."""
    folder = write_directory(DEMO_PATH, tmp_path_factory.mktemp("embedder"), architectures=["LlamaModel"])
    for name, content in {
        "modules.json": [
            {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
            {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
            {"idx": 2, "name": "2", "path": "2_Dense", "type": "sentence_transformers.models.Dense"},
            {"idx": 3, "name": "3", "path": "3_Normalize", "type": "sentence_transformers.models.Normalize"},
        ],
        "sentence_bert_config.json": {"max_seq_length": 32},
        "1_Pooling/config.json": {"word_embedding_dimension": 128, "pooling_mode_lasttoken": True},
        "2_Dense/config.json": {"activation_function": "torch.nn.modules.activation.Tanh"},
    }.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(content))
    weight = np.random.RandomState(0).standard_normal((16, 128)).astype(np.float32) / 8
    write_safetensors(folder / "2_Dense" / "model.safetensors", {"linear.weight": weight})
    return kept_engine(TransformersSpec.from_parameters({"model_path": str(folder), "threads": 1}))


def vectors(engine: SupervisedEngine, *inputs: str) -> list[np.ndarray]:
    return [np.frombuffer(raw, "<f4") for raw in engine.embed(embed_request({"input": list(inputs)})).vectors]


def test_an_embedding_model_follows_the_files_beside_it(embedder: SupervisedEngine) -> None:
    assert embedder.start().dimension == 16
    one, two, three = vectors(embedder, "a text", "a longer text of more words", "something else")
    assert np.linalg.norm(two) == pytest.approx(1, abs=1e-5)
    assert one @ vectors(embedder, "a text")[0] == pytest.approx(1, abs=1e-4), "whatever stands beside it"
    assert one @ three < 0.999


def test_an_embedding_model_takes_no_longer_texts_than_it_was_made_for(embedder: SupervisedEngine) -> None:
    with pytest.raises(ContextLengthExceeded, match="32 tokens"):
        vectors(embedder, "word " * 40)


def test_an_embedding_model_does_not_chat(embedder: SupervisedEngine) -> None:
    with pytest.raises(UnsupportedCapability):
        ask(embedder, "Who are you?")


def test_the_list_of_loaded_models_says_where_it_computes() -> None:
    engine = kept_engine(spec_for(EngineChoice("transformers"), BUILTIN_DEMO))  # type: ignore[arg-type]
    ready = engine.start()
    assert ready.engine == "transformers"
    assert "torch" in ready.version
    assert any(note.startswith("computes on ") for note in ready.notes)


def test_equal_prompts_of_one_key_are_no_more_at_a_time_than_the_key_may_have() -> None:
    spec = spec_for(EngineChoice("transformers"), BUILTIN_DEMO, max_sequences_per_key=1)
    engine = kept_engine(spec)  # type: ignore[arg-type]
    requests = generate_requests("completions", {"prompt": "a", "n": 3, "max_tokens": 4, "temperature": 0}, {})
    order = [place for place, _ in engine.generate(requests, client=1)]
    assert order == sorted(order)


@pytest.fixture(scope="module")
def failures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What is told of directories and settings that cannot work, by one process: torch takes seconds to import."""
    base = tmp_path_factory.mktemp("failures")

    def told(name: str, *, parameters: dict[str, Any] | None = None, **configuration: Any) -> dict[str, Any]:
        folder = write_directory(DEMO_PATH, base / name.replace(" ", "-"), **configuration)
        spec = TransformersSpec.from_parameters({"model_path": str(folder), "threads": 1, **(parameters or {})})
        from dataclasses import asdict

        return {**asdict(spec), "path": str(folder)}

    own_code = {"auto_map": {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"}, "model_type": "its_own"}
    asked = {
        "no torch": told("no torch"),
        "own code": told("own code", **own_code),
        "unknown kind": told("unknown kind", model_type="never_heard_of"),
        "incomplete": told("incomplete", num_hidden_layers=4),
        "no tokenizer": told("no tokenizer"),
        "no such gpu": told("no such gpu", parameters={"device": "cuda:15"}),
        "strange pooling": told("strange pooling"),
        "no memory": told("no memory", intermediate_size=352),
    }
    (base / "no-tokenizer" / "tokenizer.json").unlink()
    (base / "own-code" / "own.py").write_text("raise SystemExit('it ran')")
    (base / "strange-pooling" / "modules.json").write_text('[{"path": "1", "type": "x.Pooling"}]')
    (base / "strange-pooling" / "1").mkdir()
    (base / "strange-pooling" / "1" / "config.json").write_text('{"pooling_mode_weightedmean_tokens": true}')
    done = subprocess.run(
        [sys.executable, "-c", FAILURES],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        cwd=Path(__file__).resolve().parents[3],
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, list[str]] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize(
    ("name", "error", "told"),
    [
        ("no torch", "ModelUnavailable", "EXTRAS=transformers"),
        ("own code", "ConfigurationError", "`trust_remote_code`"),
        ("unknown kind", "ModelUnavailable", "never_heard_of"),
        ("incomplete", "ModelUnavailable", "model.layers.3"),
        ("no tokenizer", "ModelUnavailable", ""),
        ("no such gpu", "ConfigurationError", "cuda:15"),
        ("strange pooling", "ConfigurationError", "`pooling`"),
        ("no memory", "OutOfMemory", "GATEWAY_LOCAL_MEMORY_MB"),
    ],
)
def test_what_cannot_be_loaded_has_its_error(failures: dict[str, list[str]], name: str, error: str, told: str) -> None:
    kind, message, detail, _ = failures[name]
    assert (kind, told in detail) == (error, True), detail
    assert "/" not in message, "where files lie is the operator's to know"
