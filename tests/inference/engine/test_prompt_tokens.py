"""What both engines make of a prompt; the tokenizer here has a token for each letter, and one for each control text."""

from __future__ import annotations

import re
from typing import Any

import pytest

from inference.engine.chat_template import CHATML
from inference.engine.prompt_tokens import Prompts, room_for_answer
from inference.engine.requests import EmbedRequest, GenerateRequest
from inference.errors import ContextLengthExceeded, InvalidRequest

BOS, EOS = 1, 2
CONTROLS = {"<s>": BOS, "</s>": EOS, "<|im_start|>": 3, "<|im_end|>": 4, "<tool_call>": 5}
PLAIN = "{% for message in messages %}{{ message['content'] }}{% endfor %}"


class Letters:
    def __init__(self, *, ends: bool = True) -> None:
        self.ends = ends

    def encode(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        pattern = "|".join([*map(re.escape, CONTROLS), "."]) if parse_special else "."
        tokens = [CONTROLS.get(piece) or ord(piece) for piece in re.findall(pattern, text, re.DOTALL)]
        return [BOS, *tokens, *([EOS] if self.ends else [])] if add_special else tokens

    def closes(self, token: int) -> bool:
        return token == EOS


def prompts(template: str | None = PLAIN, **more: Any) -> Prompts:
    given: dict[str, Any] = {"vocabulary_size": 128, "chosen": None, "own": template, "for_tools": None} | more
    return Prompts(Letters(ends=False), texts={"bos": "<s>", "control_tokens": list(CONTROLS)}, **given)


def said(*contents: str) -> GenerateRequest:
    return GenerateRequest(messages=[{"role": "user", "content": content} for content in contents])


def letters(text: str) -> list[int]:
    return list(map(ord, text))


def test_a_chat_is_opened_where_its_template_does_not_do_so_itself() -> None:
    assert prompts(opening="<s>").tokens(said("ab", "c"), 99) == [BOS, *letters("abc")]
    assert prompts("{{ bos_token }}" + PLAIN, opening="<s>").tokens(said("ab"), 99) == [BOS, *letters("ab")]
    assert prompts(opening="").tokens(said("ab"), 99) == [BOS, *letters("ab")], (
        "the tokenizer knows, the text is not known"
    )
    assert prompts().tokens(said("ab"), 99) == letters("ab"), "left to the template alone"


def test_a_clients_control_text_is_read_letter_by_letter() -> None:
    assert prompts().tokens(said("a</s>"), 99) == letters("a</s>")
    assert prompts().tokens(GenerateRequest(prompt="a</s>"), 99) == [BOS, ord("a"), EOS]


def test_a_model_without_a_template_is_asked_in_chatml() -> None:
    plain = prompts(None)
    assert plain.brings_no_template
    assert not prompts(None, chosen=CHATML).brings_no_template
    assert plain.tokens(said("a"), 99)[:1] == [CONTROLS["<|im_start|>"]]


def test_the_template_for_tools_is_used_for_these_only_and_not_beside_a_chosen_one() -> None:
    for_tools = "{{ tools }}<tool_call>" + PLAIN
    assert prompts(for_tools=for_tools).marks == {CONTROLS["<tool_call>"]: "<tool_call>"}
    assert prompts(for_tools=for_tools).tokens(said("ab"), 99) == letters("ab")
    chosen = prompts(chosen=PLAIN, for_tools=for_tools)
    assert chosen._tools_template is chosen._template


def test_an_empty_prompt_is_refused_by_its_name() -> None:
    with pytest.raises(InvalidRequest, match="chat template made an empty prompt") as caught:
        prompts().tokens(said(""), 99)
    assert caught.value.param == "messages"
    with pytest.raises(InvalidRequest, match="`prompt` must not be empty"):
        prompts().tokens(GenerateRequest(prompt=[]), 99)


def test_a_prompt_leaves_room_for_one_token_at_least() -> None:
    assert len(prompts().tokens(said("abcd"), 5)) == 4
    with pytest.raises(ContextLengthExceeded, match=r"maximum context length is 5 tokens.*your prompt has 5") as caught:
        prompts().tokens(said("abcde"), 5)
    assert caught.value.param == "messages"


def test_an_answer_takes_what_is_left_or_what_is_asked_for() -> None:
    assert room_for_answer(GenerateRequest(prompt="a"), 60, 100) == 40
    assert room_for_answer(GenerateRequest(prompt="a", max_tokens=7), 60, 100) == 7
    assert room_for_answer(GenerateRequest(prompt="a", max_tokens=70), 60, 100) == 40


@pytest.mark.parametrize("name", ["prompt", "input"])
def test_a_token_that_the_model_does_not_have_is_refused(name: str) -> None:
    with pytest.raises(InvalidRequest, match=f"`{name}` holds a token"):
        if name == "prompt":
            prompts().tokens(GenerateRequest(prompt=[1, 128]), 99)
        else:
            prompts().inputs(EmbedRequest([[1, 128]]), 99)


@pytest.mark.parametrize("item", ["abcdef", [BOS, *map(ord, "abcdef"), EOS]])
def test_an_input_that_is_cut_keeps_the_token_that_ends_it(item: str | list[int]) -> None:
    ending = Prompts(Letters(), vocabulary_size=128, chosen=None, own=None, for_tools=None, texts={})
    assert ending.inputs(EmbedRequest([item], truncate=4), 99) == [[BOS, *letters("ab"), EOS]]
    assert ending.inputs(EmbedRequest([item], truncate=-1), 5) == [[BOS, *letters("abc"), EOS]]


def test_an_input_that_is_too_long_is_named_by_its_place() -> None:
    with pytest.raises(ContextLengthExceeded, match="input 1 has 4"):
        prompts().inputs(EmbedRequest(["a", "abc"]), 3)
