"""The built-in model: the file is the one that was trained, and its script still makes what it made."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from inference.demo_model import build, corpus
from inference.engine.gguf_file import read_header
from inference.engine.spec import DEMO_PATH

FOLDER = DEMO_PATH.parent


def test_the_file_has_its_checksum() -> None:
    stated = (FOLDER / "demo-f16.sha256").read_text().split()[0]
    assert hashlib.sha256(DEMO_PATH.read_bytes()).hexdigest() == stated


def test_the_file_is_the_one_that_was_measured() -> None:
    report = json.loads((FOLDER / "report.json").read_text())
    assert report["sizes"]["f16"] == DEMO_PATH.stat().st_size
    assert report["seen_exact"] == "188/188"


def test_the_file_brings_its_own_chat_template() -> None:
    assert read_header(DEMO_PATH).metadata["tokenizer.chat_template"] == build.TEMPLATE


def test_no_wording_that_is_measured_with_was_trained() -> None:
    trained = {question for questions, _ in corpus.TRAIN for question in questions}
    held = {question for question, _ in corpus.held_out()}
    assert (len(trained), len(held)) == (188, 55)
    assert not trained & held


def test_the_corpus_is_the_same_for_the_same_seed() -> None:
    one, other = corpus.chats(seed=3), corpus.chats(seed=3)
    assert [next(one) for _ in range(50)] == [next(other) for _ in range(50)]


def test_a_random_model_is_the_same_bits_each_time(tmp_path: Path) -> None:
    for name in ("one", "other"):
        build.random_model(tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()
