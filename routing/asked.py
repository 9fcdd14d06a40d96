"""What a request asked of routing, as a document of plain values: how it is recorded, tried out and replayed. Pure.

A document names only what differs from the usual. The client key stands in it by its prefix; whoever reads a document says
which identity that is today.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from providers.capabilities import LONGEST_WORD, MOST_WORDS, OPERATION_NEEDS, TASKS, canonical
from providers.cost_tiers import COST_TIERS, is_tier
from routing import strategies
from routing.types import Identity, RequestFacts

CLIENT_KEY = "client_key"
OPERATIONS = tuple(OPERATION_NEEDS)
_LONGEST = 1000
_MOST = 1_000_000_000


class BadRequest(ValueError):
    """A member of the document does not say what it should; `field` is its name, `sentence` what is wrong."""

    def __init__(self, field: str, sentence: str) -> None:
        self.field, self.sentence = field, sentence
        super().__init__(f"{field}: {sentence}")


def document(facts: RequestFacts) -> dict[str, Any]:
    """What `facts` reads back, the identity apart."""
    told: dict[str, Any] = {}
    for name in _PLAIN:
        value = getattr(facts, name)
        if value != _USUAL[name]:
            told[name] = value
    if facts.max_cost is not None:
        told["max_cost"] = str(facts.max_cost)
    if facts.capabilities:
        told["capabilities"] = sorted(facts.capabilities)
    if facts.data_tags:
        told["data_tags"] = sorted(facts.data_tags)
    if facts.identity is not None:
        told[CLIENT_KEY] = facts.identity.prefix
    return told


def facts(document: Mapping[str, Any], identity: Identity | None = None) -> RequestFacts:
    """The request that a document tells of. Raises `BadRequest` for the first member that is wrong."""
    if not isinstance(document, Mapping):
        raise BadRequest("", "An object is needed.")
    for name in document:
        if name not in _READERS and name != CLIENT_KEY:
            raise BadRequest(str(name), "There is no such member.")
    read: dict[str, Any] = {name: _READERS[name](name, told) for name, told in document.items() if name != CLIENT_KEY}
    return RequestFacts(identity=identity, **{name: value for name, value in read.items() if value is not None})


def client_key(document: Mapping[str, Any]) -> str:
    """The prefix of the key that asked; empty when none is told."""
    told = document.get(CLIENT_KEY)
    return told if isinstance(told, str) else ""


# --- One reader for each sort of member; null means the usual ---------------------------------------------------------------


def _text(name: str, told: Any) -> str | None:
    if told is None:
        return None
    if not isinstance(told, str) or len(told) > _LONGEST:
        raise BadRequest(name, f"A text of at most {_LONGEST} characters is needed.")
    return told.strip()


def _name(name: str, told: Any) -> str | None:
    return _text(name, told) or None


def _flag(name: str, told: Any) -> bool | None:
    if told is not None and not isinstance(told, bool):
        raise BadRequest(name, "true or false is needed.")
    return told


def _whole(name: str, told: Any) -> int | None:
    if told is None:
        return None
    if isinstance(told, bool) or not isinstance(told, int) or not 0 <= told <= _MOST:
        raise BadRequest(name, f"A whole number from 0 to {_MOST} is needed.")
    return told


def _money(name: str, told: Any) -> Decimal | None:
    if told is None:
        return None
    try:
        amount = Decimal(str(told)) if isinstance(told, str | int | float) and not isinstance(told, bool) else None
    except InvalidOperation:
        amount = None
    if amount is None or not amount.is_finite() or not 0 <= amount <= _MOST:
        raise BadRequest(name, "An amount of money in USD is needed, such as 0.05.")
    return amount


def _words(name: str, told: Any) -> frozenset[str] | None:
    if told is None:
        return None
    if not isinstance(told, list | tuple) or not all(isinstance(word, str) and word.strip() for word in told):
        raise BadRequest(name, "A list of words is needed.")
    if len(told) > MOST_WORDS or any(len(word) > LONGEST_WORD for word in told):
        raise BadRequest(name, f"At most {MOST_WORDS} words of at most {LONGEST_WORD} characters are taken.")
    return frozenset(word.strip() for word in told)


def _capabilities(name: str, told: Any) -> frozenset[str] | None:
    words = _words(name, told)
    return None if words is None else canonical(words)


def _tier(name: str, told: Any) -> str | None:
    tier = (_text(name, told) or "").upper()
    if tier and not is_tier(tier):
        raise BadRequest(name, f"{tier!r} is none of: {', '.join(COST_TIERS)}.")
    return tier


def _one_of(name: str, told: Any, choices: tuple[str, ...]) -> str | None:
    word = _text(name, told)
    if word and word not in choices:
        raise BadRequest(name, f"{word!r} is none of: {', '.join(choices)}.")
    return word or None


def _task(name: str, told: Any) -> str | None:
    return _one_of(name, told, TASKS)


def _operation(name: str, told: Any) -> str | None:
    return _one_of(name, told, OPERATIONS)


def _strategy(name: str, told: Any) -> str | None:
    return _one_of(name, told, strategies.names())


_READERS = {
    "model": _text,
    "operation": _operation,
    "stream": _flag,
    "provider_id": _name,
    "session_id": _name,
    "preferred_model": _name,
    "require_vision": _flag,
    "images": _whole,
    "max_cost": _money,
    "prompt_bytes": _whole,
    "prompt_tokens": _whole,
    "input_tokens": _whole,
    "max_output_tokens": _whole,
    "choices": _whole,
    "task": _task,
    "capabilities": _capabilities,
    "max_cost_tier": _tier,
    "local_only": _flag,
    "data_tags": _words,
    "strategy": _strategy,
}
_PLAIN = tuple(name for name in _READERS if name not in ("max_cost", "capabilities", "data_tags"))
_USUAL = {name: getattr(RequestFacts(), name) for name in _PLAIN}
