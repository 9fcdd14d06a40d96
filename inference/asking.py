"""What routing is told of a request: its headers folded into what its body asked for, and both as `RequestFacts`."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

from inference.errors import InvalidRequest
from inference.wire import tags
from inference.wire.openai import ParsedRequest, prompt_of, unknown_task
from providers.capabilities import TASKS, TEXT_OPERATIONS
from routing import estimates, selections
from routing.types import Identity, RequestFacts

NODE, TASK = b"x-gateway-node", b"x-gateway-task"
DATA_TAGS, LOCAL_ONLY = b"x-gateway-data-tags", b"x-gateway-local-only"
SESSION, TAGS = b"x-session-id", b"x-gateway-tags"
HEADERS = frozenset({NODE, TASK, DATA_TAGS, LOCAL_ONLY, SESSION, TAGS})
"""Read here; none goes upstream."""

_LONGEST = 255
_FLAGS = {**dict.fromkeys(("1", "true", "yes", "on"), True), **dict.fromkeys(("0", "false", "no", "off", ""), False)}


def fold_headers(request: ParsedRequest, sent: Mapping[bytes, bytes]) -> None:
    """What headers ask for is added to the body's wishes; a node's name is asked for in place of the body's model.

    The body's session goes before the header's, and both before OpenAI's `user`. Raises `InvalidRequest`, naming the header.
    """
    session = sent.get(SESSION)
    if session and not request.names_session:
        request.session_id = _text(session)
    node = sent.get(NODE)
    if node:
        request.node = _text(node).removeprefix("node/")
        request.model = f"node/{request.node}"
    task = sent.get(TASK)
    if task:
        request.task = _text(task)
        if request.task not in TASKS:
            raise unknown_task("x-gateway-task", request.task)
    data_tags = sent.get(DATA_TAGS)
    if data_tags:
        if len(data_tags) > _LONGEST:  # a tag that was cut off would no longer hold
            raise InvalidRequest(f"'x-gateway-data-tags' is longer than {_LONGEST} bytes.", param="x-gateway-data-tags")
        request.data_tags |= {tag for one in _text(data_tags).split(",") if (tag := one.strip())}
    named = sent.get(TAGS)
    if named:
        request.tags = tags.joined(request.tags, tags.read(named.decode("utf-8", "replace"), "x-gateway-tags"))
    local_only = sent.get(LOCAL_ONLY)
    if local_only is not None:
        wanted = _FLAGS.get(_text(local_only).lower())
        if wanted is None:
            raise InvalidRequest("'x-gateway-local-only' must be true or false.", param="x-gateway-local-only")
        request.local_only = request.local_only or wanted


async def settle_model(request: ParsedRequest, identity: Identity | None) -> None:
    """A request for text without a model or a task means the model that was selected for its session, or for its key without one.

    Code of this process that asks in nobody's name selects under an empty prefix.
    """
    if not request.model and not request.task and request.operation.name in TEXT_OPERATIONS:
        whose, embeddings = _selects(request, identity)
        request.model = await selections.selected(*whose, embeddings=embeddings) or ""


def settle_model_now(request: ParsedRequest, identity: Identity | None) -> None:
    """As `settle_model`, for synchronous code that asks what a live request would get."""
    if not request.model and not request.task and request.operation.name in TEXT_OPERATIONS:
        whose, embeddings = _selects(request, identity)
        with contextlib.suppress(selections.SelectionsAway):
            request.model = selections.read(*whose, embeddings=embeddings) or ""


def _selects(request: ParsedRequest, identity: Identity | None) -> tuple[tuple[str, str | None], bool]:
    prefix = "" if identity is None else identity.prefix
    return (prefix, request.session_id), request.operation.name == "embeddings"


def facts_of(request: ParsedRequest, identity: Identity | None) -> RequestFacts:
    return RequestFacts(
        model=request.model,
        operation=request.operation.name,
        stream=request.stream,
        provider_id=request.provider_id,
        identity=identity,
        session_id=request.session_id,
        preferred_model=request.preferred_model,
        require_vision=request.require_vision,
        images=request.images,
        max_cost=request.max_cost,
        prompt_bytes=request.prompt_bytes,
        prompt_tokens=_tokens_in(request) if request.prompt_bytes >= estimates.WORTH_READING else None,
        max_output_tokens=request.max_output_tokens,
        choices=request.choices,
        task=request.task,
        capabilities=request.capabilities,
        max_cost_tier=request.max_cost_tier,
        strategy=request.strategy,
        local_only=request.local_only,
        data_tags=request.data_tags,
    )


def _tokens_in(request: ParsedRequest) -> int | None:
    """Of the text itself; with pictures among it, its length has to do."""
    return None if request.images else estimates.tokens_in(b" ".join(prompt_of(request)))


def _text(value: bytes) -> str:
    return value.decode("latin-1").strip()[:_LONGEST]
