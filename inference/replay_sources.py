"""Where past requests come from: the usage rows of this installation, or a file with a request on each line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

import orjson
from django.db.models import Q, QuerySet

from inference import asking
from inference.errors import GatewayError
from inference.models import Trace
from inference.wire import openai
from providers.pricing import USD
from routing import asked
from routing.asked import OPERATIONS, BadRequest
from routing.replay import Past
from routing.rollout import GATEWAY
from routing.types import ClientKeyView, Identity, RequestFacts

ROWS_AT_ONCE = 2000
_PLAIN = frozenset({"prompt_bytes", "prompt_tokens", "max_output_tokens"})
_BY_SUBJECT = {operation.subject: operation for operation in openai.OPERATIONS.values()}
_BY_PATH = {
    "/v1/chat/completions": openai.CHAT,
    "/v1/completions": openai.COMPLETIONS,
    "/v1/embeddings": openai.EMBEDDINGS,
}
_BYTES_PER_TOKEN = 4


class BadLine(ValueError):
    """A line that tells of no request; the sentence says which and why, and nothing of what it holds."""


class _Row(NamedTuple):
    id: int
    request_id: str
    at: datetime
    operation: str
    client_key_prefix: str
    requested_model: str
    provider_id: str
    model_id: str
    stream: bool
    status: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    estimated: bool
    cost: Decimal | None
    currency: str
    session_id: str
    asked: str


Keys = Mapping[str, ClientKeyView]


def rows(since: datetime, until: datetime, names: Iterable[str] = ()) -> QuerySet[Trace]:
    """What this gateway served or refused in the span, to everybody or to those who came by one of a policy's names."""
    found = Trace.objects.filter(at__gte=since, at__lt=until, side=GATEWAY, operation__in=OPERATIONS)
    names = list(names)
    return found.filter(Q(policy__in=names) | Q(requested_model__in=names)) if names else found


def usage(found: QuerySet[Trace], keys: Keys, *, most: int | None = None) -> Iterator[Past]:
    """The newest first, some at a time. `keys` are today's client keys, by prefix. What was asked in words that nobody knows any
    more is passed over."""
    last, left = None, most
    while left is None or left > 0:
        page = found if last is None else found.filter(id__lt=last)
        size = ROWS_AT_ONCE if left is None else min(ROWS_AT_ONCE, left)
        some = list(map(_Row._make, page.order_by("-id").values_list(*_Row._fields)[:size]))
        for row in some:
            past = _of_row(row, keys)
            if past is not None:
                yield past
        if len(some) < size:
            return
        last, left = some[-1].id, None if left is None else left - len(some)


def _of_row(row: _Row, keys: Keys) -> Past | None:
    try:
        wishes = orjson.loads(row.asked) if row.asked else {}
        identity = identity_of(row.client_key_prefix, keys)
        if wishes.keys() <= _PLAIN:
            facts = RequestFacts(
                model=row.requested_model,
                operation=row.operation,
                stream=row.stream,
                identity=identity,
                session_id=row.session_id or None,
                prompt_bytes=wishes.get("prompt_bytes") or row.input_tokens * _BYTES_PER_TOKEN,
                prompt_tokens=wishes.get("prompt_tokens"),
                max_output_tokens=wishes.get("max_output_tokens"),
            )
        else:
            told = {"model": row.requested_model, "operation": row.operation, "stream": row.stream}
            facts = asked.facts({**told, "session_id": row.session_id or None, **wishes}, identity)
    except (BadRequest, orjson.JSONDecodeError, AttributeError):
        return None
    counted = bool(row.input_tokens or row.output_tokens)
    return Past(
        row.request_id,
        facts,
        f"{row.provider_id}/{row.model_id}" if row.provider_id and row.status < 400 else "",
        row.status,
        row.at.isoformat(timespec="seconds"),
        row.input_tokens if counted else None,
        row.output_tokens if counted else None,
        row.cached_tokens,
        row.cost if row.currency == USD else None,
        row.estimated and counted,
    )


def identity_of(prefix: str, keys: Keys) -> Identity | None:
    """Who the key is today; whoever has none any more is told apart by it still, and may use everything."""
    if not prefix:
        return None
    view = keys.get(prefix)
    return view.identity if view is not None else Identity(0, prefix, "", frozenset())


def lines(told: Iterable[bytes | str], keys: Keys) -> Iterator[Past]:
    """A line is the body of an OpenAI request, a line of OpenAI's batches (`custom_id`, `url`, `body`), or a request as
    `routing.asked` words it, alone or as `request` beside its tokens and what became of it. Blank lines are skipped.

    Raises `BadLine`.
    """
    for number, line in enumerate(told, 1):
        if line.strip():
            try:
                yield _of_line(number, orjson.loads(line), keys)
            except BadRequest as error:
                raise BadLine(f"line {number}: {error}") from None
            except GatewayError as error:
                raise BadLine(f"line {number}: {error.message}") from None
            except (orjson.JSONDecodeError, AttributeError, TypeError, ValueError) as error:
                if isinstance(error, BadLine):
                    raise
                raise BadLine(f"line {number}: no JSON object that tells of a request") from None


def _of_line(number: int, line: dict[str, Any], keys: Keys) -> Past:
    request_id = str(line.get("request_id") or line.get("custom_id") or f"line-{number}")
    identity = identity_of(asked.client_key(line), keys)
    if "body" in line:
        return Past(request_id, _of_body(line["body"], identity, str(line.get("url") or "")), estimated=True)
    if "request" in line:
        request = line["request"]
        facts = asked.facts(request, identity_of(asked.client_key(request), keys) or identity)
        return Past(request_id, facts, *_what_became(line))
    if line.keys() & _BY_SUBJECT.keys():
        line.pop(asked.CLIENT_KEY, None)
        return Past(request_id, _of_body(line, identity, ""), estimated=True)
    line.pop("request_id", None)
    return Past(request_id, asked.facts(line, identity), estimated=True)


def _what_became(line: dict[str, Any]) -> tuple[Any, ...]:
    cost = line.get("cost")
    tokens = line.get("input_tokens")
    return (
        str(line.get("route") or ""),
        int(line.get("status") or 0),
        str(line.get("at") or ""),
        None if tokens is None else int(tokens),
        None if line.get("output_tokens") is None else int(line["output_tokens"]),
        int(line.get("cached_tokens") or 0),
        None if cost is None else Decimal(str(cost)),
        tokens is None,
    )


def _of_body(body: dict[str, Any], identity: Identity | None, path: str) -> RequestFacts:
    operation = _BY_PATH.get(path) or next(its for subject, its in _BY_SUBJECT.items() if subject in body)
    return asking.facts_of(openai.parse(operation, orjson.dumps(body)), identity)
