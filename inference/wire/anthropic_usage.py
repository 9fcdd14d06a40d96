"""The tokens that Anthropic's replies count: apart from one another what was read from a cache, written to one, and the rest. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_LARGEST = 2**31 - 1


@dataclass(slots=True)
class Counted:
    """Of one message. Streams tell it twice: what the input is at the start, and all of it, the output included, at the end."""

    fresh: int = 0
    written: int = 0
    """To a cache."""
    read: int = 0
    """From a cache."""
    output: int = 0
    thinking: int = 0

    def take_in(self, told: Any) -> None:
        """A usage object; members that it does not have stay as they are known."""
        if not isinstance(told, Mapping):
            return
        self.fresh = _count(told.get("input_tokens"), self.fresh)
        self.written = _count(told.get("cache_creation_input_tokens"), self.written)
        self.read = _count(told.get("cache_read_input_tokens"), self.read)
        self.output = _count(told.get("output_tokens"), self.output)
        details = told.get("output_tokens_details")
        if isinstance(details, Mapping):
            self.thinking = _count(details.get("thinking_tokens"), self.thinking)

    @property
    def input(self) -> int:
        """As OpenAI counts it: everything that the model read."""
        return self.fresh + self.written + self.read

    def as_chat(self) -> dict[str, Any]:
        """OpenAI's usage object."""
        asked: dict[str, Any] = {"cached_tokens": self.read}
        if self.written:
            asked["cache_write_tokens"] = self.written
        said: dict[str, Any] = {
            "prompt_tokens": self.input,
            "completion_tokens": self.output,
            "total_tokens": self.input + self.output,
            "prompt_tokens_details": asked,
        }
        if self.thinking:
            said["completion_tokens_details"] = {"reasoning_tokens": self.thinking}
        return said


def _count(told: Any, known: int) -> int:
    return told if isinstance(told, int) and not isinstance(told, bool) and 0 <= told <= _LARGEST else known
