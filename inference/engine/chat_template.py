"""A model's chat template, rendered in a sandbox, and the places where a client's text only looks like a control token.

Templates come inside model files, so they are treated as foreign code: Jinja's immutable sandbox, no loaders, no globals but
those that templates commonly call. A client who writes `<|im_end|>` in a message must not end the message: such spots are
marked before rendering and given back as plain text by `segments`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

import jinja2
import jinja2.sandbox

from inference.engine.tool_calls import form_of
from inference.errors import InvalidRequest, ModelUnavailable

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""For models that bring no template; llama.cpp falls back to the same."""

_OPEN, _CLOSE = "\ue0fe", "\ue0ff"
_MARK = re.compile(f"{_OPEN}([0-9]+){_CLOSE}")


class ChatTemplate:
    """`control_tokens` are the texts that the tokenizer would read as control tokens."""

    def __init__(self, source: str, *, bos: str = "", eos: str = "", control_tokens: Iterable[str] = ()) -> None:
        environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _raise
        environment.globals["strftime_now"] = lambda layout: datetime.now().astimezone().strftime(layout)
        try:
            self._template = environment.from_string(source)
        except jinja2.TemplateError as error:
            raise ModelUnavailable(
                "The model's chat template cannot be used.",
                detail=f"{error}; give the model a correct `chat_template` parameter",
            ) from error
        self.form = form_of(source)
        """How the template has calls of tools written; None when it takes no tools."""
        self._bos, self._eos = bos, eos
        self._controls = sorted({token for token in control_tokens if token}, key=len, reverse=True)
        self._looks_like_control = re.compile("|".join(map(re.escape, self._controls))) if self._controls else None

    def segments(
        self,
        messages: list[dict[str, Any]],
        arguments: Mapping[str, Any],
        tools: list[dict[str, Any]] | None = None,
    ) -> Iterator[tuple[str, bool]]:
        """The prompt in parts; True marks those whose control tokens count, False a client's look-alikes."""
        # Templates ask whether `tools` is there, or none, or empty: only a list that holds something means tools.
        given = {**arguments, **({"tools": tools} if tools else {})}
        rendered = self._render(self._marked(messages), self._marked(given))
        at = 0
        for mark in _MARK.finditer(rendered):
            if mark.start() > at:
                yield rendered[at : mark.start()], True
            number = int(mark[1])
            yield (self._controls[number] if number < len(self._controls) else mark[0]), False
            at = mark.end()
        if at < len(rendered):
            yield rendered[at:], True

    def _render(self, messages: list[dict[str, Any]], arguments: Mapping[str, Any]) -> str:
        try:
            return self._template.render(
                {
                    **arguments,
                    "messages": messages,
                    "add_generation_prompt": True,
                    "bos_token": self._bos,
                    "eos_token": self._eos,
                }
            )
        except jinja2.TemplateError as error:
            raise InvalidRequest(
                f"The model's chat template refuses these messages: {error}", param="messages"
            ) from error
        except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
            raise InvalidRequest(
                "The model's chat template cannot render these messages.", detail=repr(error), param="messages"
            ) from error

    def _marked(self, value: Any) -> Any:
        """A message with each look-alike of a control token replaced by a mark, in every text it holds."""
        if isinstance(value, str):
            if self._looks_like_control is None:
                return value
            return self._looks_like_control.sub(lambda found: f"{_OPEN}{self._controls.index(found[0])}{_CLOSE}", value)
        if isinstance(value, dict):
            return {self._marked(name): self._marked(inner) for name, inner in value.items()}
        if isinstance(value, list):
            return [self._marked(inner) for inner in value]
        return value


def _to_json(value: Any, indent: int | None = None) -> str:
    """Plain JSON: Jinja's own filter escapes for HTML, which no model was trained on."""
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _raise(message: str) -> None:
    raise jinja2.TemplateError(message)
