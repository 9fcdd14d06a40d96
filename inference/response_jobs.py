"""Responses that are worked on in the background: from a kept row to a worker's question, and from its answer to the row.

The row holds what was asked, sealed; the job holds the response's id and no word of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import orjson
from django.utils import timezone

from inference import kept_responses
from inference.errors import NotFound
from inference.response_models import KeptResponse
from inference.wire import openai, responses
from inference.wire import responses_objects as objects
from inference.wire.native import RESPONSES, Native
from inference.wire.openai import ParsedRequest
from inference.wire.responses import Asked

MEMBER = "response_id"
"""Of a job's request, when it is a response's."""

_WISHES = ("model", "provider_id", "session_id", "task", "node", "local_only", "require_vision", "preferred_model")


def question_of(asked: Asked, parsed: ParsedRequest) -> str:
    """What a worker needs to ask the same: the body, and what headers and the registry made of it."""
    wishes: dict[str, Any] = {name: getattr(parsed, name) for name in _WISHES}
    wishes |= {"data_tags": sorted(parsed.data_tags), "tags": list(parsed.tags)}
    return orjson.dumps({"body": asked.body.decode(), "wishes": wishes}).decode()


def row_of(owner: str, request: Mapping[str, Any]) -> KeptResponse:
    """Raises `NotFound` when its client has deleted it meanwhile."""
    row = kept_responses.find(owner, str(request[MEMBER]))
    if row is None:
        raise NotFound("The response was deleted before it was answered.")
    return row


def told_by(row: KeptResponse) -> Asked:
    """As its client asked; nothing for one that was answered at once."""
    question = row.question.reveal()
    body = orjson.loads(question)["body"] if question else "{}"
    return responses.read(body.encode(), needs_input=False)


def asked_of(row: KeptResponse) -> Asked:
    """With what was said before. Raises `InvalidRequest` when that is gone."""
    asked = told_by(row)
    if asked.previous or asked.references:
        asked.resolve(*kept_responses.before(row.owner, asked.previous, asked.references, row.model))
    return asked


def parsed(row: KeptResponse) -> ParsedRequest:
    """The chat completion that asks the same, streamed so that its events can be told."""
    asked = asked_of(row)
    translation = responses.chat_body(asked)
    body = {**orjson.loads(translation.body), "stream": True, "stream_options": {"include_usage": True}}
    request = openai.parse(openai.CHAT, orjson.dumps(body))
    wishes = orjson.loads(row.question.reveal())["wishes"]
    for name in _WISHES:
        setattr(request, name, wishes[name])
    request.data_tags, request.tags = frozenset(wishes["data_tags"]), tuple(wishes["tags"])
    if request.model:
        request.fields["model"] = msgspec.Raw(orjson.dumps(request.model))
    request.native = Native(
        RESPONSES, responses.native_fields(asked), translation.untold, thoughts=translation.thoughts
    )
    return request


def end(row: KeptResponse, answer: Mapping[str, Any], *, native: bool) -> None:
    """Keep what was answered: a chat completion, or the upstream's own Response."""
    begun: objects.Item = orjson.loads(row.body.reveal())
    if native:
        response = objects.as_kept(answer, begun)
    else:
        response = objects.from_completion(told_by(row), answer, begun, int(timezone.now().timestamp()))
    kept_responses.finish(row, response)
