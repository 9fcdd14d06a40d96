"""The chat bodies of a source system, as bodies of `/v1/chat/completions`; what it says of models becomes a demand on routing. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from inference.errors import InvalidRequest
from providers.capabilities import canonical
from providers.cost_tiers import COST_TIERS, is_tier
from routing import unwritten_nodes
from routing.types import RequestFacts, Snapshot

CAPABILITIES = {
    "streaming": ("Real-time token streaming", "interaction"),
    "function_calling": ("Tool and function calling", "advanced"),
    "vision": ("Image analysis and understanding", "multimodal"),
    "reasoning": ("Reasoning before the answer", "intelligence"),
    "web_search": ("Answers from a search of the web", "research"),
    "long_context": ("A long context window", "context"),
    "creative_writing": ("Creative and academic writing", "creativity"),
    "code_generation": ("Writing and reading code", "programming"),
    "json_mode": ("Structured JSON output", "formatting"),
}
"""The words of that system, each with a description and a category."""

MODES = {
    "research": ("web_search", "reasoning", "long_context"),
    "writing": ("creative_writing", "streaming", "long_context"),
    "analysis": ("reasoning", "function_calling"),
    "code": ("code_generation", "function_calling"),
    "creative": ("creative_writing", "streaming"),
    "general": ("streaming",),
    "academic": ("creative_writing", "reasoning", "long_context"),
}
"""What its oldest path wishes of a model for each mode. A wish: a model that has none of it serves too."""

STANDARD_STRATEGY = "balanced"

_OURS = frozenset(
    {"messages", "message", "node_name", "capabilities", "strategy", "tier", "cost_tier_override", "max_cost_tier"}
    | {"stream", "stream_options", "user_context", "conversation_id", "mode", "type", "model", "x_gateway"}
)


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """`parameters` go to the model as they are."""

    messages: Sequence[Any]
    model: str = ""
    node: str = ""
    capabilities: frozenset[str] = frozenset()
    wished: bool = False
    """The capabilities are wishes, not demands."""
    strategy: str = ""
    max_cost_tier: str = ""
    stream: bool = False
    conversation_id: str | None = None
    parameters: Mapping[str, Any] | None = None

    def body(self, name: str) -> dict[str, Any]:
        """As `/v1` takes it, with `name` for its model."""
        told: dict[str, Any] = {**(self.parameters or {}), "messages": list(self.messages)}
        if name:
            told["model"] = name
        if self.capabilities:
            told["gateway_capabilities"] = sorted(self.capabilities)
        if self.strategy:
            told["gateway_strategy"] = self.strategy
        if self.max_cost_tier:
            told["gateway_max_cost_tier"] = self.max_cost_tier
        return told

    def facts(self, name: str, **more: Any) -> RequestFacts:
        return RequestFacts(
            model=name,
            capabilities=self.capabilities,
            strategy=self.strategy,
            max_cost_tier=self.max_cost_tier,
            session_id=self.conversation_id,
            stream=self.stream,
            **more,
        )


def read(told: Any, strategies: Sequence[str], *, needs_messages: bool = True) -> ChatRequest:
    """Raises `InvalidRequest`, naming the member at fault."""
    told = _object(told)
    strategy = _text(told, "strategy")
    if strategy and strategy not in strategies:
        raise InvalidRequest(f"'strategy' must be one of: {', '.join(strategies)}.", param="strategy")
    context = told.get("user_context")
    return ChatRequest(
        messages=_messages(told) if needs_messages else (),
        model=_text(told, "model"),
        node=_text(told, "node_name").removeprefix("node/"),
        capabilities=_capabilities(told),
        strategy=strategy,
        max_cost_tier=_tier(told),
        stream=told.get("stream") is True,
        conversation_id=_text(told, "conversation_id") or _text(_object(context or {}), "conversation_id") or None,
        parameters={name: value for name, value in told.items() if name not in _OURS and value is not None},
    )


def read_legacy(told: Any) -> ChatRequest:
    """The oldest path: `messages` may be one text, and a `mode` stands for the capabilities. Raises `InvalidRequest`."""
    told = _object(told)
    mode = (_text(told, "mode") or _text(told, "type") or "general").lower()
    return ChatRequest(
        messages=_messages(told),
        model=_text(told, "model"),
        node=f"legacy_{mode}",
        capabilities=canonical(MODES.get(mode, MODES["general"])),
        wished=True,
        stream=told.get("stream") is True,
        conversation_id=_text(told, "conversation_id") or None,
        parameters={name: value for name, value in told.items() if name not in _OURS and value is not None},
    )


def name_for(asked: ChatRequest, snapshot: Snapshot) -> str:
    """What to ask routing for: the model that is named, else the node's policy, for a node that nobody wrote down any logical
    model, else whatever fits."""
    if asked.model or not asked.node:
        return asked.model
    node = f"node/{asked.node}"
    if node in snapshot.policies:
        return node
    unwritten = not asked.wished and unwritten_nodes.stand_in(snapshot) is not None
    return unwritten_nodes.ANY_NODE if unwritten else ""


def shows(model_capabilities: frozenset[str]) -> dict[str, bool]:
    """A model's capabilities in the words of that system."""
    return {word: bool(canonical([word]) & model_capabilities) for word in CAPABILITIES}


def _object(told: Any) -> Mapping[str, Any]:
    if not isinstance(told, Mapping):
        raise InvalidRequest("The request body must be a JSON object.")
    return told


def _text(told: Mapping[str, Any], name: str) -> str:
    value = told.get(name)
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > 600:
        raise InvalidRequest(f"'{name}' must be a text.", param=name)
    return value.strip()


def _messages(told: Mapping[str, Any]) -> Sequence[Any]:
    messages = told.get("messages", told.get("message"))
    if isinstance(messages, str) and messages.strip():
        return [{"role": "user", "content": messages}]
    if not isinstance(messages, list) or not messages or not all(isinstance(one, Mapping) for one in messages):
        raise InvalidRequest("'messages' must be a list of messages, or one text.", param="messages")
    return messages


def _capabilities(told: Mapping[str, Any]) -> frozenset[str]:
    words = told.get("capabilities") or []
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise InvalidRequest("'capabilities' must be a list of texts.", param="capabilities")
    return canonical(words)


def _tier(told: Mapping[str, Any]) -> str:
    """The most that a model may cost. The `tier` of that system was accepted and never used, so it is neither refused nor used."""
    for name in ("cost_tier_override", "max_cost_tier"):
        tier = _text(told, name).upper()
        if tier and not is_tier(tier):
            raise InvalidRequest(f"'{name}' must be one of: {', '.join(COST_TIERS)}.", param=name)
        if tier:
            return tier
    return ""
