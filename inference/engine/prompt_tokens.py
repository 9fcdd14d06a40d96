"""Which tokens a model is given for a request: its prompt, by a chat template or as it is, or the texts to embed; and whether they fit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from inference.engine.chat_template import CHATML, ChatTemplate
from inference.engine.requests import EmbedRequest, GenerateRequest
from inference.engine.tool_calls import HERMES, Form
from inference.engine.tool_prompts import for_template, in_words
from inference.errors import ContextLengthExceeded, InvalidRequest


class Tokenizer(Protocol):
    def encode(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]: ...

    def closes(self, token: int) -> bool:
        """Whether it is put after every text."""


class Prompts:
    """Of one model. `own` and `for_tools` are the templates that it brings, `chosen` wins over both; `texts` are what templates
    know of the tokenizer. `opening` is put before a chat whose template does not write it."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        vocabulary_size: int,
        chosen: str | None,
        own: str | None,
        for_tools: str | None,
        texts: dict[str, Any],
        opening: str | None = None,
    ) -> None:
        self._tokenizer = tokenizer
        self._vocabulary_size = vocabulary_size
        self._opening = opening
        self.brings_no_template = not (chosen or own)
        self._template = ChatTemplate(chosen or own or CHATML, **texts)
        is_other = not chosen and for_tools not in (None, "", own)
        self._tools_template = ChatTemplate(for_tools or "", **texts) if is_other else self._template
        self.form: Form = self._tools_template.form or HERMES
        self.marks = self._mark_tokens()
        """Control tokens that stand for a mark of calls, whose text must be seen."""

    def _mark_tokens(self) -> dict[int, str]:
        encoded = (
            (mark, self._tokenizer.encode(mark, add_special=False, parse_special=True)) for mark in self.form.marks
        )
        return {tokens[0]: mark for mark, tokens in encoded if len(tokens) == 1}

    def tokens(self, request: GenerateRequest, context_size: int) -> list[int]:
        """Of the prompt, with room for an answer. Raises `InvalidRequest` or `ContextLengthExceeded`."""
        param = "prompt" if request.messages is None else "messages"
        found = self._of_prompt(request) if request.messages is None else self._of_chat(request)
        if not found and request.messages is None:
            raise InvalidRequest("`prompt` must not be empty for this model.", param=param)
        if not found:
            raise InvalidRequest("The model's chat template made an empty prompt of these messages.", param=param)
        if len(found) >= context_size:
            raise ContextLengthExceeded(
                f"This model's maximum context length is {context_size} tokens. However, your prompt has {len(found)} "
                "tokens, and at least one more is needed for the answer. Please shorten it.",
                param=param,
            )
        return found

    def _of_prompt(self, request: GenerateRequest) -> list[int]:
        if isinstance(request.prompt, list):
            return self._known(request.prompt, "prompt")
        return self._tokenizer.encode(request.prompt or "", add_special=True, parse_special=True)

    def _of_chat(self, request: GenerateRequest) -> list[int]:
        found: list[int] = []
        for text, trusted in self._segments(request):
            # A template that writes the beginning-of-text token itself must not get a second one.
            opens = self._opening is not None and not found
            first = opens and not (self._opening and text.startswith(self._opening))
            found += self._tokenizer.encode(text, add_special=first, parse_special=trusted)
        return found

    def _segments(self, request: GenerateRequest) -> Iterator[tuple[str, bool]]:
        messages, tools = request.messages or [], request.tools
        template = self._tools_template if tools else self._template
        if template.form is None:
            return template.segments(in_words(messages, tools), request.template_arguments)
        functions = tools.functions if tools else None
        return template.segments(for_template(messages, template.form), request.template_arguments, functions)

    def inputs(self, request: EmbedRequest, most: int) -> list[list[int]]:
        """Of the texts to embed, each of `most` tokens at most. Raises `InvalidRequest` or `ContextLengthExceeded`."""
        room = request.room(most)
        found = [self._of_input(item, room) for item in request.inputs]
        for number, tokens in enumerate(found):
            if not 0 < len(tokens) <= most:
                raise ContextLengthExceeded(
                    f"This model's maximum input length is {most} tokens; input {number} has {len(tokens)}.",
                    param="input",
                )
        return found

    def _of_input(self, item: str | list[int], room: int | None) -> list[int]:
        if isinstance(item, list):
            tokens = self._known(item, "input")
        else:
            tokens = self._tokenizer.encode(item, add_special=True, parse_special=False)
        if room is None or len(tokens) <= room:
            return tokens
        closing = tokens[-1:] if self._tokenizer.closes(tokens[-1]) else []
        return tokens[: room - len(closing)] + closing

    def _known(self, tokens: list[int], param: str) -> list[int]:
        if any(token >= self._vocabulary_size for token in tokens):
            raise InvalidRequest(f"`{param}` holds a token that this model does not have.", param=param)
        return list(tokens)


def room_for_answer(request: GenerateRequest, prompt_length: int, context_size: int) -> int:
    """The most tokens that may follow the prompt."""
    room = context_size - prompt_length
    return room if request.max_tokens is None else min(request.max_tokens, room)
