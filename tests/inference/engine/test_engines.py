"""What every engine promises, on the demo model: the same tests for each that is installed."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inference.demo_model import corpus
from inference.demo_model.build import random_model
from inference.engine.protocol import Piece
from inference.engine.requests import embed_request, generate_requests
from inference.engine.supervised import Cancelled, EngineChoice, SupervisedEngine
from inference.errors import ContextLengthExceeded, InvalidRequest, ModelUnavailable
from tests.inference.engine.conftest import Answer, ask, ask_all

WHO = "Who are you?"
I_AM = "I am the built-in demo model of the gateway: a tiny llama with about one million weights, running in llama.cpp on your CPU."
SAYS_I, END = 43, 2
"""Tokens of the demo model."""
FACTS = [(questions[0].capitalize() + "?", answer) for questions, answer in corpus.TRAIN]

Open = Callable[..., SupervisedEngine]


def vectors(engine: SupervisedEngine, *inputs: str | list[int]) -> list[np.ndarray]:
    return [np.frombuffer(raw, "<f4") for raw in engine.embed(embed_request({"input": list(inputs)})).vectors]


def test_it_answers_what_the_model_learnt(shared_demo: SupervisedEngine) -> None:
    answer = ask(shared_demo, WHO)
    assert answer.text == I_AM
    assert answer.done is not None
    assert answer.done.finish_reason == "stop"
    assert answer.done.input_tokens == 15


def test_forty_questions_at_once_get_forty_right_answers(shared_demo: SupervisedEngine) -> None:
    questions = (FACTS * 2)[:40]
    with ThreadPoolExecutor(40) as pool:
        answers = list(pool.map(lambda fact: ask(shared_demo, fact[0]).text, questions))
    assert answers == [answer for _, answer in questions]


def test_an_answer_comes_in_pieces(shared_demo: SupervisedEngine) -> None:
    answer = ask(shared_demo, WHO)
    assert len(answer.pieces) > 20
    assert "".join(answer.pieces) == I_AM


@pytest.mark.parametrize("limit", [1, 2, 7])
def test_max_tokens_is_exact(shared_demo: SupervisedEngine, limit: int) -> None:
    done = ask(shared_demo, WHO, max_tokens=limit).done
    assert done is not None
    assert (done.output_tokens, done.finish_reason) == (limit, "length")


def test_the_earliest_of_several_stop_strings_ends_the_answer(shared_demo: SupervisedEngine) -> None:
    answer = ask(shared_demo, WHO, stop=["llama", "demo", "gateway"])
    assert answer.text == "I am the built-in "
    assert answer.done is not None
    assert answer.done.finish_reason == "stop"


def test_a_stop_string_may_lie_across_tokens(shared_demo: SupervisedEngine) -> None:
    assert ask(shared_demo, WHO, stop=["the built-in demo mod"]).text == "I am "


def test_a_stop_string_that_never_comes_changes_nothing(shared_demo: SupervisedEngine) -> None:
    assert ask(shared_demo, WHO, stop=["CPU!"]).text == I_AM


def test_several_choices_are_answered_together(shared_demo: SupervisedEngine) -> None:
    assert [answer.text for answer in ask_all(shared_demo, WHO, n=3)] == [I_AM] * 3


def test_the_same_seed_gives_the_same_text(choice: EngineChoice, open_engine: Open) -> None:
    # Each on an engine of its own: neighbours in a batch and cached prompts change the last bits of what is sampled from.
    first, second = (ask(open_engine(choice), WHO, temperature=2.0, max_tokens=24, seed=11).text for _ in range(2))
    assert first == second


def test_another_seed_gives_another_text(shared_demo: SupervisedEngine) -> None:
    texts = {ask(shared_demo, WHO, temperature=2.0, max_tokens=24, seed=seed).text for seed in range(6)}
    assert len(texts) > 3


def test_top_k_of_one_is_greedy_at_any_temperature(shared_demo: SupervisedEngine) -> None:
    assert ask(shared_demo, WHO, temperature=2.0, top_k=1).text == I_AM


def test_a_banned_token_is_never_chosen(shared_demo: SupervisedEngine) -> None:
    assert ask(shared_demo, WHO, max_tokens=1).text == "I"
    assert ask(shared_demo, WHO, max_tokens=1, logit_bias={str(SAYS_I): -100}).text != "I"


def test_a_text_prompt_is_continued(shared_demo: SupervisedEngine) -> None:
    prompt = "<|im_start|>user\nWho are you?<|im_end|>\n<|im_start|>assistant\n"
    assert ask(shared_demo, prompt, operation="completions").text == I_AM


def test_a_prompt_of_tokens_is_continued(shared_demo: SupervisedEngine) -> None:
    answer = ask(shared_demo, operation="completions", prompt=[43, 406, 265], max_tokens=2)
    assert answer.done is not None
    assert (answer.done.input_tokens, answer.done.output_tokens) == (3, 2)


def test_a_prompt_over_the_context_is_refused_before_anything_is_made(shared_demo: SupervisedEngine) -> None:
    with pytest.raises(ContextLengthExceeded, match="2048 tokens") as caught:
        ask(shared_demo, "word " * 3000)
    assert caught.value.param == "messages"


def test_an_answer_that_fills_the_context_ends_by_length(shared_demo: SupervisedEngine) -> None:
    done = ask(shared_demo, operation="completions", prompt=[SAYS_I] * 2000, logit_bias={str(END): -100}).done
    assert done is not None
    assert (done.finish_reason, done.input_tokens + done.output_tokens) == ("length", 2048)


def test_json_mode_gives_json(shared_demo: SupervisedEngine) -> None:
    schema = {
        "type": "object",
        "properties": {"kind": {"enum": ["local", "remote"]}, "count": {"type": "integer"}},
        "required": ["kind", "count"],
        "additionalProperties": False,
    }
    asked = {"type": "json_schema", "json_schema": {"name": "provider", "schema": schema}}
    found = json.loads(ask(shared_demo, WHO, response_format=asked, max_tokens=120).text)
    assert found["kind"] in ("local", "remote")
    assert isinstance(found["count"], int)


def test_characters_of_several_bytes_are_never_broken(shared_demo: SupervisedEngine) -> None:
    asked = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "string", "pattern": "^é漢字🙂ß$"}}}
    answer = ask(shared_demo, "say", response_format=asked, max_tokens=64)
    assert json.loads(answer.text) == "é漢字🙂ß"
    assert all("\ufffd" not in piece for piece in answer.pieces)


def test_bytes_that_are_no_text_do_not_overrun_max_tokens(shared_demo: SupervisedEngine) -> None:
    lead_byte = 130  # the token of the byte 0xC3; repeated, it never becomes a character
    answer = ask(shared_demo, "a", operation="completions", logit_bias={str(lead_byte): 100}, max_tokens=20)
    assert answer.done is not None
    assert answer.done.output_tokens == 20
    assert set(answer.text) <= {"\ufffd"}


def test_log_probabilities_go_with_the_tokens(shared_demo: SupervisedEngine) -> None:
    answer = ask(shared_demo, WHO, logprobs=True, top_logprobs=3, max_tokens=4)
    assert "".join(entry["token"] for entry in answer.logprobs) == answer.text
    for entry in answer.logprobs:
        assert entry["logprob"] <= 0
        assert len(entry["top_logprobs"]) == 3
        assert entry["top_logprobs"][0]["token"] == entry["token"], "greedy takes the likeliest"
        assert bytes(entry["bytes"]).decode() == entry["token"]


def test_a_cancelled_answer_stops_and_disturbs_nobody(shared_demo: SupervisedEngine) -> None:
    cancelled = threading.Event()
    wild = {"temperature": 2.0, "logit_bias": {str(END): -100}}
    endless = generate_requests("chat", {"messages": [{"role": "user", "content": "count to 12"}], **wild}, {})
    seen = 0
    with ThreadPoolExecutor(8) as pool:
        others = [pool.submit(ask, shared_demo, question) for question, _ in FACTS[:8]]
        with pytest.raises(Cancelled):
            for _, event in shared_demo.generate(endless, cancelled):
                seen += isinstance(event, Piece)
                cancelled.set()
        assert [other.result().text for other in others] == [answer for _, answer in FACTS[:8]]
    assert seen == 1


def test_closing_the_iterator_cancels(gguf_choice: EngineChoice, open_engine: Open, random_file: Path) -> None:
    engine = open_engine(gguf_choice, random_file, max_sequences=1)
    endless = engine.generate(generate_requests("completions", {"prompt": "a", "temperature": 0}, {}))
    next(endless)
    assert engine.busy
    endless.close()
    assert not engine.busy
    assert ask(engine, "a", operation="completions", max_tokens=3).done is not None, "the only slot is free again"


def test_related_texts_have_nearer_embeddings(shared_demo: SupervisedEngine) -> None:
    who, what, key = vectors(shared_demo, "Who are you", "What are you", "how do i rotate the encryption key")
    assert who @ what > who @ key + 0.2
    assert np.linalg.norm(key) == pytest.approx(1, abs=1e-5)


def test_an_embedding_does_not_depend_on_its_neighbours(shared_demo: SupervisedEngine) -> None:
    texts = ["Who are you", "What are you", "how do i rotate the encryption key"]
    for together, text in zip(vectors(shared_demo, *texts), texts, strict=True):
        assert together @ vectors(shared_demo, text)[0] == pytest.approx(1, abs=1e-4)


def test_tokens_embed_like_their_text(shared_demo: SupervisedEngine) -> None:
    by_tokens, by_text = vectors(shared_demo, [SAYS_I], "I")
    assert by_tokens @ by_text == pytest.approx(1, abs=1e-4)


def test_embeddings_are_made_while_answers_are(shared_demo: SupervisedEngine) -> None:
    def both(number: int) -> Answer | list[np.ndarray]:
        return ask(shared_demo, WHO) if number % 2 else vectors(shared_demo, WHO)

    with ThreadPoolExecutor(12) as pool:
        results = list(pool.map(both, range(24)))
    assert {answer.text for answer in results[1::2]} == {I_AM}  # type: ignore[union-attr]
    assert all(result[0] @ results[0][0] == pytest.approx(1, abs=1e-4) for result in results[::2])  # type: ignore[index]


def test_an_input_too_long_to_embed_is_refused(shared_demo: SupervisedEngine) -> None:
    with pytest.raises(ContextLengthExceeded):
        vectors(shared_demo, "word " * 3000)


def test_an_input_may_be_cut_to_a_length(open_engine: Open, batched: EngineChoice) -> None:
    engine = open_engine(batched)
    cut, short = (
        engine.embed(embed_request({"input": text, "truncate_prompt_tokens": tokens}))
        for text, tokens in (("Who are you " * 900, 3), ("Who are you", 3))
    )
    assert cut.input_tokens == short.input_tokens == 3
    assert cut.vectors == short.vectors
    assert engine.embed(embed_request({"input": "word " * 3000}, truncates=True)).input_tokens == 2048


def test_an_impossible_schema_is_the_callers_error(shared_demo: SupervisedEngine) -> None:
    schema = {"$ref": "https://example.org/elsewhere.json"}
    asked = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    with pytest.raises(InvalidRequest) as caught:
        ask(shared_demo, WHO, response_format=asked)
    assert caught.value.param == "response_format"


PARTS = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "maxLength": 12},
        "unit": {"enum": ["celsius", "fahrenheit"]},
        "at": {"anyOf": [{"$ref": "#/$defs/Day"}, {"type": "null"}]},
    },
    "required": ["city", "unit", "at"],
    "additionalProperties": False,
    "$defs": {
        "Day": {
            "type": "object",
            "properties": {"weekday": {"enum": ["monday", "friday"]}},
            "required": ["weekday"],
            "additionalProperties": False,
        }
    },
}
WEATHER = {"type": "function", "function": {"name": "weather", "description": "Tells it.", "parameters": PARTS}}
CLOCK = {"type": "function", "function": {"name": "clock"}}


def test_a_tool_that_must_be_called_gets_arguments_of_its_schema(shared_demo: SupervisedEngine) -> None:
    expect_a_call(shared_demo)


def test_a_template_that_knows_tools_is_shown_them(gguf_choice: EngineChoice, open_engine: Open) -> None:
    expect_a_call(open_engine(gguf_choice, chat_template=QWEN))


def expect_a_call(engine: SupervisedEngine) -> None:
    answer = ask(
        engine,
        "Hi",
        tools=[CLOCK, WEATHER],
        tool_choice={"type": "function", "function": {"name": "weather"}},
        max_tokens=200,
    )
    ((name, text),) = answer.calls.values()
    arguments = json.loads(text)
    assert answer.text == ""
    assert name == "weather"
    assert set(arguments) == {"city", "unit", "at"}
    assert arguments["unit"] in ("celsius", "fahrenheit")
    assert arguments["at"] is None or arguments["at"]["weekday"] in ("monday", "friday")
    assert answer.done is not None
    assert answer.done.finish_reason == "tool_calls"


QWEN = (
    "{%- if tools %}<|im_start|>system\nYou may call:\n{% for tool in tools %}{{ tool | tojson }}\n{% endfor %}"
    "Answer with <tool_call></tool_call>.<|im_end|>\n{% endif %}"
    "{%- for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}"
    "{%- for call in m.tool_calls or [] %}<tool_call>\n{{ call.function | tojson }}\n</tool_call>{% endfor %}<|im_end|>\n"
    "{%- endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def test_results_of_tools_go_back_to_the_model(shared_demo: SupervisedEngine) -> None:
    function = {"name": "weather", "arguments": '{"city": "Rome"}'}
    turns = [
        {"role": "user", "content": "Rome?"},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "call_1", "function": function}]},
        {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
    ]
    done = ask(shared_demo, messages=turns, tools=[CLOCK], max_tokens=1).done
    alone = ask(shared_demo, messages=turns[:1], tools=[CLOCK], max_tokens=1).done
    assert done is not None
    assert alone is not None
    assert done.input_tokens > alone.input_tokens + 10


def test_tools_that_may_be_called_leave_text_as_it_is(shared_demo: SupervisedEngine) -> None:
    answer = ask(shared_demo, WHO, tools=[CLOCK], max_tokens=8)
    assert not answer.calls
    assert answer.text


def test_a_clients_own_grammar_binds_the_answer(shared_demo: SupervisedEngine) -> None:
    assert ask(shared_demo, WHO, grammar='root ::= "yes" | "no"').text in ("yes", "no")


def test_a_malformed_grammar_is_the_callers_error(shared_demo: SupervisedEngine) -> None:
    with pytest.raises(InvalidRequest):
        ask(shared_demo, WHO, grammar="root ::= (((")
    assert ask(shared_demo, WHO, max_tokens=2).text == "I am"


def test_a_schema_of_optional_parts_without_end_holds_nobody_up(shared_demo: SupervisedEngine) -> None:
    schema = {"type": "string", "pattern": "^(a?){900}z$"}
    asked = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    # The other engines follow patterns as automata, which such a one does not harm.
    refuses = pytest.raises(InvalidRequest, match="`response_format` asks for repeats an optional part")
    with refuses if shared_demo.choice.name == "llama_cpp" else contextlib.nullcontext():
        ask(shared_demo, WHO, response_format=asked, max_tokens=8)
    assert ask(shared_demo, WHO, max_tokens=2).text == "I am"


@pytest.mark.parametrize(
    "schema",
    [{"type": "nonsense"}, {"type": "object", "properties": {"a": 7}}, {"$ref": "#/$defs/none"}, {"enum": []}],
    ids=["type", "property", "reference", "nothing"],
)
def test_a_malformed_schema_is_the_callers_error_and_disturbs_nobody(
    shared_demo: SupervisedEngine, schema: dict[str, Any]
) -> None:
    asked = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    with pytest.raises(InvalidRequest):
        ask(shared_demo, WHO, response_format=asked)
    assert ask(shared_demo, WHO, max_tokens=2).text == "I am"


def test_a_missing_file_is_a_typed_error(gguf_choice: EngineChoice, open_engine: Open, tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable):
        ask(open_engine(gguf_choice, tmp_path / "none.gguf"), WHO)


def test_a_file_with_a_good_header_and_no_weights_is_a_typed_error(
    gguf_choice: EngineChoice, open_engine: Open, tmp_path: Path, random_file: Path
) -> None:
    path = tmp_path / "cut.gguf"
    path.write_bytes(random_file.read_bytes()[:-100_000])
    with pytest.raises(ModelUnavailable) as caught:
        ask(open_engine(gguf_choice, path), WHO)
    assert str(path) not in caught.value.message


def test_a_split_model_answers_like_the_whole(
    gguf_choice: EngineChoice, open_engine: Open, random_file: Path, tmp_path: Path
) -> None:
    random_model(tmp_path / "split.gguf", shard_tensors=8)
    shards = sorted(tmp_path.glob("split-*.gguf"))
    assert len(shards) > 1
    split = ask(open_engine(gguf_choice, shards[0]), "a", operation="completions", max_tokens=8)
    assert split.text == ask(open_engine(gguf_choice, random_file), "a", operation="completions", max_tokens=8).text


def test_a_split_model_without_its_second_part_is_a_typed_error(
    gguf_choice: EngineChoice, open_engine: Open, tmp_path: Path
) -> None:
    random_model(tmp_path / "split.gguf", shard_tensors=8)
    first, second, *_ = sorted(tmp_path.glob("split-*.gguf"))
    second.unlink()
    with pytest.raises(ModelUnavailable) as caught:
        open_engine(gguf_choice, first).start()
    assert second.name in caught.value.detail


def test_a_chat_template_of_our_own_is_used(gguf_choice: EngineChoice, open_engine: Open) -> None:
    engine = open_engine(gguf_choice, chat_template="{{ messages[0]['content'] }}")
    templated, plain = ask(engine, "Who", max_tokens=1), ask(engine, "Who", operation="completions", max_tokens=1)
    assert templated.done is not None
    assert plain.done is not None
    assert (templated.text, templated.done.input_tokens) == (plain.text, plain.done.input_tokens)


def test_text_that_is_no_unicode_is_the_callers_error(shared_demo: SupervisedEngine) -> None:
    with pytest.raises(InvalidRequest):
        ask(shared_demo, "\ud83d")
    assert ask(shared_demo, WHO, max_tokens=2).text == "I am"
