"""What a few vendors want of their models' earlier turns, and refuse to go on without, where other protocols say it otherwise.
No I/O.

DeepSeek and Moonshot want the thought that led to a call: https://api-docs.deepseek.com/guides/thinking_mode. Gemini wants its
signature, and has a word for who cannot give it: https://ai.google.dev/gemini-api/docs/thought-signatures.
Mistral's models let nobody speak between a tool's answer and their own; Anthropic's clients put reminders and pictures there.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

_WANT_THOUGHTS = re.compile(r"(?:^|\.)(?:deepseek\.com|moonshot\.(?:ai|cn)|kimi\.com)\Z", re.IGNORECASE)
_WANTS_SIGNATURES = re.compile(r"(?:^|[.-])(?:generativelanguage|aiplatform)\.googleapis\.com\Z", re.IGNORECASE)
_BEFORE_SIGNATURES = re.compile(r"gemini-(?:1|2)\b")
_ANSWER_TOOLS = re.compile(
    r"(?:^|[/_-])(?:mistral|mixtral|ministral|magistral|devstral|codestral|pixtral)", re.IGNORECASE
)
_ANSWER = "OK."
_UNSIGNED = {"google": {"thought_signature": "skip_thought_signature_validator"}}


def wants_thoughts(provider_type: str, host: str) -> bool:
    return provider_type == "deepseek" or _WANT_THOUGHTS.search(host) is not None


def wants_signatures(provider_type: str, host: str) -> bool:
    return provider_type == "gemini" or _WANTS_SIGNATURES.search(host) is not None


def answers_tools(model: str) -> bool:
    """Whether it must have spoken between a tool and the user."""
    return _ANSWER_TOOLS.search(model) is not None


def with_thoughts(messages: msgspec.Raw, thoughts: Sequence[str]) -> msgspec.Raw:
    """`thoughts` are those before each of the assistant's messages. Next to a call there is always one, if only an empty text."""
    said = msgspec.json.decode(messages)
    for answer, thought in itertools.zip_longest(list(_answers(said)), thoughts, fillvalue=""):
        if isinstance(answer, dict) and (thought or answer.get("tool_calls")):
            answer.setdefault("reasoning_content", thought)
    return msgspec.Raw(msgspec.json.encode(said))


def with_signatures(messages: msgspec.Raw, model: str) -> msgspec.Raw:
    """Of calls that are made at once the first is the one that is signed."""
    if _BEFORE_SIGNATURES.search(model) is not None:
        return messages
    said = msgspec.json.decode(messages)
    for answer in _answers(said):
        if calls := answer.get("tool_calls"):
            calls[0].setdefault("extra_content", _UNSIGNED)
    return msgspec.Raw(msgspec.json.encode(said))


def with_tools_answered(messages: msgspec.Raw) -> msgspec.Raw:
    """What the user says behind a tool's answer stands at that answer's end; behind one goes a word where there are pictures in it."""
    said: list[dict[str, Any]] = []
    for message in msgspec.json.decode(messages):
        last = said[-1] if said else {}
        if message["role"] == "user" and last.get("role") == "tool":
            if isinstance(message["content"], str):
                last["content"] = f"{last['content']}\n\n{message['content']}".strip()
                continue
            said.append({"role": "assistant", "content": _ANSWER})
        said.append(message)
    return msgspec.Raw(msgspec.json.encode(said))


def _answers(said: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    return (one for one in said if one["role"] == "assistant")
