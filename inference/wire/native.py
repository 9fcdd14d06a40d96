"""A request in its client's own protocol, kept beside the chat completion that asks for the same. No I/O.

An upstream that speaks the protocol too gets the client's own words and its reply is passed on as it is; every other one gets the
chat completion, and its reply is translated. Which of the two it was stands in `Reply.api`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import msgspec

from inference.errors import GatewayError

MESSAGES = "messages"
"""Anthropic's: https://docs.anthropic.com/en/api/messages."""
RESPONSES = "responses"
"""OpenAI's: https://platform.openai.com/docs/api-reference/responses."""
OLLAMA_CHAT, OLLAMA_GENERATE = "ollama_chat", "ollama_generate"
OLLAMA_EMBED, OLLAMA_EMBEDDINGS = "ollama_embed", "ollama_embeddings"
"""Ollama's, by path: https://github.com/ollama/ollama/blob/main/docs/api.md. Inside the gateway each of its lines is an event."""

_LAST_LINE = re.compile(rb'"done"\s*:\s*true')
_LAST_EVENTS = {
    MESSAGES: re.compile(rb'"type"\s*:\s*"message_stop"'),
    RESPONSES: re.compile(rb'"type"\s*:\s*"response\.(?:completed|incomplete|failed|cancelled)"'),
    OLLAMA_CHAT: _LAST_LINE,
    OLLAMA_GENERATE: _LAST_LINE,
}
_ERROR_EVENT = re.compile(
    rb'(?:^|[\r\n])(?:event: ?error[\r\n]|data: ?\{\s*"type"\s*:\s*"error")|"type"\s*:\s*"response\.failed"'
)


@dataclass(frozen=True, slots=True)
class Native:
    """`fields` are the client's own members as raw JSON, the gateway's already removed."""

    api: str
    fields: dict[str, msgspec.Raw]
    untranslatable: GatewayError | None = None
    """What a chat completion cannot say of it: only an upstream that speaks the protocol may be asked then."""
    headers: tuple[tuple[str, str], ...] = ()
    """Those of the client that the protocol gives a meaning, names in lower case."""
    hints: dict[str, msgspec.Raw] = field(default_factory=dict)
    """Members of a chat completion that engines on one's own machines understand, and a vendor would refuse the request for."""
    for_thinkers: dict[str, msgspec.Raw] = field(default_factory=dict)
    """Members for models that think (`providers.capabilities.thinks`); at others the vendor would refuse the request."""

    names: dict[str, str] = field(default_factory=dict)
    """The client's names of tools whose names a chat completion shortens, by those."""
    thoughts: tuple[str, ...] = ()
    """What the model thought before each of the assistant's messages, empty where nobody knows. Most models do without it, and their
    servers refuse it; see `inference.wire.recalled`."""

    def completed(self, fields: dict[str, msgspec.Raw], *, local: bool, thinks: bool) -> dict[str, msgspec.Raw]:
        """The chat completion's members with those that only its model understands."""
        more = (self.hints if local else {}) | (self.for_thinkers if thinks else {})
        return more | fields if more else fields


def is_complete(api: str, tail: bytes) -> bool:
    """Whether a stream of the protocol has said its last word."""
    return _LAST_EVENTS[api].search(tail) is not None


def holds_error(tail: bytes) -> bool:
    """Whether one of the last events says that the upstream failed."""
    return _ERROR_EVENT.search(tail) is not None
