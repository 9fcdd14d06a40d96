"""An answer on its way, whichever engine computes it: what is said of it, with its calls and probabilities, and how it ends."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from inference.engine.protocol import Done, Event, Piece
from inference.engine.requests import GenerateRequest
from inference.engine.text import AnswerText
from inference.engine.tool_calls import CallReader


@dataclass(slots=True, eq=False, kw_only=True)
class Answer:
    """`tokens` are prompt and answer so far, `limit` the most that may be added; `cached` those that needed no computing, once known."""

    id: int
    request: GenerateRequest
    tokens: list[int]
    prompt_length: int
    limit: int
    text: AnswerText
    client: int = 0
    priority: int = 0
    calls: CallReader | None = None
    order: int = 0
    cached: int | None = None
    unsaid: list[tuple[int, dict[str, Any]]] = field(default_factory=list)

    @property
    def produced(self) -> int:
        return len(self.tokens) - self.prompt_length

    def said(self, text: str, *, last: bool = False) -> list[Event]:
        """Nothing while a call is being written whose beginning does not show yet."""
        calls = None
        if self.calls is not None:
            text, calls = self.calls.push(text, last=last)
        if not text and not calls:
            return []
        probabilities = [entry for at, entry in self.unsaid if at < self.text.given]
        self.unsaid = [(at, entry) for at, entry in self.unsaid if at >= self.text.given]
        return [Piece(self.id, text, probabilities or None, calls or None)]

    def ended(self, reason: str, text: str) -> list[Event]:
        """The last words and the end; an answer that calls tools stops for their sake."""
        said = self.said(text, last=True)
        if self.calls is not None and self.calls.calls and (reason == "stop" or self.calls.complete):
            reason = "tool_calls"
        done = Done(
            self.id,
            finish_reason=reason,
            input_tokens=self.prompt_length,
            output_tokens=self.produced,
            cached_tokens=self.cached or 0,
        )
        return [*said, done]

    def note_probability(
        self, token: int, chosen: float, best: Iterable[tuple[int, float]], bytes_of: Callable[[int], bytes]
    ) -> None:
        """`best` are the likeliest tokens with theirs, as logarithms."""
        entry = {
            **_shown(bytes_of(token)),
            "logprob": chosen,
            "top_logprobs": [{**_shown(bytes_of(other)), "logprob": value} for other, value in best],
        }
        self.unsaid.append((self.text.decoded, entry))


def _shown(raw: bytes) -> dict[str, Any]:
    return {"token": raw.decode(errors="replace"), "bytes": list(raw)}
