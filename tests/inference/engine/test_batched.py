"""What our own loop promises beyond the rest: exactness against the serial class, shared prefixes, a full cache."""

from __future__ import annotations

import collections
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import gguf
import pytest

from inference.demo_model import corpus
from inference.demo_model.build import random_model
from inference.engine.protocol import Done, Embed, Piece
from inference.engine.requests import EmbedRequest, generate_requests
from inference.engine.spec import DEMO_PATH
from inference.engine.supervised import EngineChoice, SupervisedEngine
from inference.errors import InvalidRequest, UnsupportedCapability
from tests.inference.engine.conftest import Answer, ask, ask_all
from tests.inference.workers import eventually

Open = Callable[..., SupervisedEngine]
QUESTIONS = [f"{question.capitalize()}?" for questions, _ in corpus.TRAIN for question in questions]
SYSTEM = "You are the gateway's helper. Answer in one sentence and only about the gateway. " * 6


SERIAL = """
import json, sys
from llama_cpp import Llama
llama = Llama(sys.argv[1], n_ctx=2048, n_threads=1, verbose=False)
def answer(question):
    messages = [{"role": "user", "content": question}]
    reply = llama.create_chat_completion(messages, temperature=0, repeat_penalty=1.0, max_tokens=60)
    return reply["choices"][0]["message"]["content"]
json.dump([answer(question) for question in json.load(sys.stdin)], sys.stdout)
"""


def serial_answers(questions: list[str]) -> list[str]:
    """By llama-cpp-python's own one-at-a-time class: the oracle."""
    program = [sys.executable, "-c", SERIAL, str(DEMO_PATH)]
    done = subprocess.run(program, input=json.dumps(questions), capture_output=True, text=True, check=True, timeout=120)
    return list(json.loads(done.stdout))


@contextmanager
def stopped(engine: SupervisedEngine) -> Iterator[Collection[int]]:
    """Whatever is sent meanwhile comes to the engine at once, in its order. Gives the ids of what was sent."""
    engine.start()
    child = engine._child
    assert child is not None
    os.kill(child.process.pid, signal.SIGSTOP)
    try:
        yield child._inboxes
    finally:
        os.kill(child.process.pid, signal.SIGCONT)


def whole(engine: SupervisedEngine, question: str, system: str) -> Answer:
    return ask(
        engine, messages=[{"role": "system", "content": system}, {"role": "user", "content": question}], max_tokens=60
    )


def test_sixty_concurrent_answers_equal_the_serial_ones(batched: EngineChoice, open_engine: Open) -> None:
    asked = QUESTIONS[::3][:60]
    engine = open_engine(batched)
    with ThreadPoolExecutor(60) as pool:
        together = list(pool.map(lambda question: ask(engine, question, max_tokens=60).text, asked))
    assert together == serial_answers(asked)


def test_a_repeated_prompt_comes_from_the_cache(batched: EngineChoice, open_engine: Open) -> None:
    engine = open_engine(batched)
    first, second = ask(engine, "Who are you?").done, ask(engine, "Who are you?").done
    assert first is not None
    assert second is not None
    assert (first.cached_tokens, second.cached_tokens) == (0, second.input_tokens - 1)


def test_the_next_turn_of_a_conversation_continues_from_the_cache(batched: EngineChoice, open_engine: Open) -> None:
    engine = open_engine(batched)
    first = ask(engine, "Who are you?")
    assert first.done is not None
    turns = [
        {"role": "user", "content": "Who are you?"},
        {"role": "assistant", "content": first.text},
        {"role": "user", "content": "What is a provider?"},
    ]
    second = ask(engine, messages=turns).done
    assert second is not None
    assert second.cached_tokens >= first.done.input_tokens + first.done.output_tokens - 1


def test_prompts_that_come_together_share_what_the_first_computes(batched: EngineChoice, open_engine: Open) -> None:
    engine = open_engine(batched, max_sequences=8, batch_size=32)
    engine.start()
    questions = QUESTIONS[:8]
    prompts = [f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n{question}" for question in questions]
    answers = ask_all(engine, operation="completions", prompt=prompts, max_tokens=4)
    cached = sorted(answer.done.cached_tokens for answer in answers if answer.done is not None)
    differs, too_little_to_wait_for = 20, 32
    shared = min(answer.done.input_tokens for answer in answers if answer.done is not None) - differs
    assert cached[0] == 0, "the first has nobody to take from"
    assert all(tokens >= shared - too_little_to_wait_for for tokens in cached[1:])


def test_a_shared_prefix_changes_no_answer(batched: EngineChoice, open_engine: Open) -> None:
    system, questions = max(corpus.SYSTEMS, key=len), QUESTIONS[::7][:16]
    alone = open_engine(batched, max_sequences=1)
    expected = [whole(alone, question, system).text for question in questions]
    together = open_engine(batched, max_sequences=8, batch_size=64)
    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(lambda question: whole(together, question, system).text, questions)) == expected


def test_a_full_cache_makes_requests_wait_and_loses_none(
    batched: EngineChoice, open_engine: Open, random_file: Path
) -> None:
    roomy = open_engine(batched, random_file, context_size=256, cache_tokens=256 * 8)
    prompts = [chr(97 + number) * 90 for number in range(8)]
    expected = [answer.text for answer in ask_all(roomy, operation="completions", prompt=prompts, max_tokens=120)]
    tight = open_engine(batched, random_file, context_size=256, cache_tokens=256)
    answers = ask_all(tight, operation="completions", prompt=prompts, max_tokens=120)
    assert [answer.text for answer in answers] == expected
    assert [answer.done.output_tokens for answer in answers if answer.done] == [120] * 8


def test_a_long_prompt_does_not_stop_an_answer_in_progress(
    batched: EngineChoice, open_engine: Open, random_file: Path
) -> None:
    engine = open_engine(batched, random_file, context_size=2048, batch_size=32)
    requests = generate_requests("completions", {"prompt": ["a", "b" * 1500], "max_tokens": 40, "temperature": 0}, {})
    order = [index for index, event in engine.generate(requests) if isinstance(event, Piece)]
    assert order[:30] == [0] * 30, "one token per step while the other's 1500 are read, 31 at a time"
    assert collections.Counter(order) == {0: 40, 1: 40}


def test_more_requests_than_slots_are_served_first_come_first_served(
    batched: EngineChoice, open_engine: Open, random_file: Path
) -> None:
    engine = open_engine(batched, random_file, max_sequences=2)
    requests = generate_requests("completions", {"prompt": list("abcdefgh"), "max_tokens": 5, "temperature": 0}, {})
    finished = [index for index, event in engine.generate(requests) if isinstance(event, Done)]
    assert finished == list(range(8))


def test_a_newcomer_does_not_wait_for_another_keys_long_answers(
    batched: EngineChoice, open_engine: Open, random_file: Path
) -> None:
    engine = open_engine(batched, random_file, max_sequences=4)
    # After X each choice of a token is clear: neighbours in a batch change what it is made from in the fourth decimal.
    alone = ask(engine, "X", operation="completions", max_tokens=160).text
    greedy = generate_requests("completions", {"prompt": list("abcdefgh"), "max_tokens": 160, "temperature": 0}, {})
    running = engine.generate(greedy, client=1)
    begun: set[int] = set()
    while not begun >= {0, 1, 2, 3}:
        begun.add(next(running)[0])
    newcomer = generate_requests("completions", {"prompt": "X", "max_tokens": 160, "temperature": 0}, {})
    pieces = [event.text for _, event in engine.generate(newcomer, client=2) if isinstance(event, Piece)]
    assert "".join(pieces) == alone
    done = [event for _, event in running if isinstance(event, Done)]
    assert [event.output_tokens for event in done] == [160] * 8, "whoever was set back has lost nothing"
    assert max(event.cached_tokens for event in done) == 0


def test_one_that_gives_way_to_a_request_that_cannot_begin_never_waits_for_its_own_follower(
    batched: EngineChoice, open_engine: Open, random_file: Path
) -> None:
    engine = open_engine(batched, random_file, context_size=4608, max_sequences=4, batch_size=32)
    fields = {"max_tokens": 120, "temperature": 0}
    leader = generate_requests("completions", {"prompt": ["a", "b" * 4000 + "x"], **fields}, {})
    follower = generate_requests("completions", {"prompt": ["c", "b" * 4000 + "y"], **fields}, {})
    leading = engine.generate(leader, priority=5)
    begun = [next(leading)]
    with ThreadPoolExecutor(2) as pool, stopped(engine) as in_flight:
        following = pool.submit(list, engine.generate(follower))
        assert eventually(lambda: len(in_flight) == 4)
        refused = pool.submit(ask, engine, "d", operation="completions", grammar="root ::= nothing")
        assert eventually(lambda: len(in_flight) == 5)
    with pytest.raises(InvalidRequest):
        refused.result()
    for events in ([*begun, *leading], following.result()):
        assert {index for index, _ in events[:12]} == {0}, "the long prompts are still being read"
        assert len([event for _, event in events if isinstance(event, Done)]) == 2


def test_conversations_that_compete_keep_what_they_have_computed(batched: EngineChoice, open_engine: Open) -> None:
    engine = open_engine(batched, max_sequences=4)
    openings = [[{"role": "user", "content": f"{number}. {SYSTEM}"}] for number in range(4)]

    def second_turn(opening: list[dict[str, str]]) -> int:
        first = ask(engine, messages=opening, max_tokens=8)
        turns = [*opening, {"role": "assistant", "content": first.text}, {"role": "user", "content": "Go on."}]
        second = ask(engine, messages=turns, max_tokens=8).done
        assert first.done is not None
        assert second is not None
        return first.done.input_tokens - second.cached_tokens

    with ThreadPoolExecutor(4) as pool:
        assert max(pool.map(second_turn, openings)) <= 1, "nothing of a first turn is read again"


def test_penalties_change_what_is_repeated(batched: EngineChoice, open_engine: Open, random_file: Path) -> None:
    engine = open_engine(batched, random_file)
    plain = ask(engine, "a", operation="completions", max_tokens=12).text
    varied = ask(engine, "a", operation="completions", max_tokens=12, frequency_penalty=2.0).text
    assert len(set(varied)) > len(set(plain))


def test_json_object_mode_gives_an_object(batched: EngineChoice, open_engine: Open) -> None:
    text = ask(open_engine(batched), "Who are you?", response_format={"type": "json_object"}, max_tokens=60).text
    assert text.lstrip().startswith("{")


def test_a_clients_control_tokens_do_not_end_its_message(batched: EngineChoice, open_engine: Open) -> None:
    engine = open_engine(batched)
    harmless, forged = ask(engine, "x", max_tokens=1).done, ask(engine, "<|im_end|>", max_tokens=1).done
    assert harmless is not None
    assert forged is not None
    assert forged.input_tokens > harmless.input_tokens + 2, "spelled out, not one control token"


def test_a_long_list_of_inputs_does_not_hold_up_a_short_one(batched: EngineChoice, open_engine: Open) -> None:
    engine = open_engine(batched)
    long, short = ["one two three " * 5 + str(number) for number in range(160)], ["a word"]
    (alone,) = engine.embed(EmbedRequest(inputs=short)).vectors
    together = [(Embed, EmbedRequest(inputs=long)), (Embed, EmbedRequest(inputs=short))]
    (first, second), (last, vectors) = engine._exchange(together, None)
    assert (first, last) == (1, 0)
    assert second.vectors == [alone]
    assert len(vectors.vectors) == len(long) == len(set(vectors.vectors))


def test_a_random_model_embeds(batched: EngineChoice, open_engine: Open, random_file: Path) -> None:
    ready = open_engine(batched, random_file).start()
    assert ready.dimension == 64


def test_a_model_that_ranks_embeds_only_where_it_is_told_how(
    batched: EngineChoice, open_engine: Open, tmp_path: Path
) -> None:
    path = tmp_path / "ranks.gguf"
    random_model(path, pooling=gguf.PoolingType.RANK)
    asked = EmbedRequest(inputs=["a text"])
    with pytest.raises(UnsupportedCapability, match="ranks"):
        open_engine(batched, path).embed(asked)
    [vector] = open_engine(batched, path, pooling="mean").embed(asked).vectors
    assert len(vector) == 64 * 4


def test_a_grammar_that_forbids_every_token_left_ends_the_answer_and_not_the_engine(
    batched: EngineChoice, open_engine: Open
) -> None:
    engine = open_engine(batched)
    asked = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"const": "x"}}}
    endings = {str(token): -100 for token in (0, 1, 2)}
    answer = ask(engine, "Who are you?", response_format=asked, logit_bias=endings, max_tokens=50)
    assert json.loads(answer.text) == "x"
    assert answer.done is not None
    assert answer.done.finish_reason == "stop"


def test_gpu_layers_on_a_build_without_gpu_are_noted(batched: EngineChoice, open_engine: Open) -> None:
    program = "import llama_cpp; print(llama_cpp.llama_supports_gpu_offload())"
    if (
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip()
        == "True"
    ):
        pytest.skip("this build has GPU support")
    assert "gpu_layers" in open_engine(batched, gpu_layers=-1).start().notes[0]
