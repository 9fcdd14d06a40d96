"""Kept responses in the database: written, found again, gone on from, and forgotten. For threads, never for an event loop."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

import orjson
import redis
from django.conf import settings
from django.db import transaction
from django.db.models import Sum

from inference import events, response_room, wakeups
from inference.errors import BodyTooLarge, InvalidRequest
from inference.models import Job
from inference.response_keeping import Before, Turn, no_such_response
from inference.response_models import KeptItem, KeptResponse
from inference.response_room import NoRoom
from inference.wire.responses_objects import OVER, PREFIX, error_of

logger = logging.getLogger("gateway.responses")

Item = dict[str, Any]

_LONGEST_ID = 128
_MOST_TURNS = 10_000
_MOST_REFERENCES = 1000
_READ_AT_ONCE = 20
_STATES = {Job.State.QUEUED: "queued", Job.State.RUNNING: "in_progress", Job.State.CANCELLED: "cancelled"}
_LOST = {"message": "The response was lost with the job that worked on it."}


def keep(turn: Turn, *, job: Job | None = None, question: str = "") -> KeptResponse:
    """Write a response, and what it was asked with. Raises `NoRoom`."""
    its_id = turn.response["id"]
    asked = listed(turn.input, its_id)
    told, body = orjson.dumps(asked), orjson.dumps(turn.response)
    size = len(told) + len(body) + len(question.encode())
    with transaction.atomic():
        response_room.make(turn.owner, size, turn.previous)
        before = find(turn.owner, turn.previous) if turn.previous else None
        row = KeptResponse.objects.create(
            response_id=its_id,
            owner=turn.owner,
            thread=before.thread if before is not None else its_id,
            previous=turn.previous,
            model=turn.model,
            input=told.decode(),
            body=body.decode(),
            question=question,
            size=size,
            job=job,
        )
        _note_items(row, asked, is_output=False)
        _note_items(row, turn.response["output"], is_output=True)
    return row


def finish(row: KeptResponse, response: Item) -> None:
    """Write down what a worker answered, whether or not there is room: its client was told that it will be there."""
    body = orjson.dumps(response)
    grown = max(0, len(body) - len(row.body.reveal().encode()))
    with contextlib.suppress(NoRoom):
        response_room.make(row.owner, grown, row.response_id)
    row.body, row.size = body.decode(), row.size + grown
    row.save(update_fields=["body", "size"])
    _note_items(row, response["output"], is_output=True)


def find(owner: str, response_id: str) -> KeptResponse | None:
    if "\0" in response_id:  # which some databases do not even look for
        return None
    rows = KeptResponse.objects.select_related("job")
    return rows.filter(response_id=response_id[:_LONGEST_ID], owner=owner).first()


def as_it_stands(row: KeptResponse) -> Item:
    """The Response; of one that a worker is to answer, as far as its job says."""
    response: Item = orjson.loads(row.body.reveal())
    if response["status"] in OVER:
        return response
    job = row.job
    if job is not None and job.state in _STATES:
        return {**response, "status": _STATES[Job.State(job.state)]}
    error = job.error if job is not None and job.error else _LOST
    status = int((error.get("details") or {}).get("status") or 500)
    return {**response, "status": "failed", "error": error_of(error, status)}


def input_of(row: KeptResponse) -> list[Item]:
    items: list[Item] = orjson.loads(row.input.reveal())
    return items


def delete(row: KeptResponse) -> None:
    """With everything that is known of it: what its job has told lies in Redis for a day, where its client could follow it again."""
    row.delete()
    if row.job_id is not None:
        forget_told(row.job_id)


def forget_told(job_id: Any) -> None:
    try:
        with wakeups.marks() as store:
            store.delete(events.key(job_id))
    except (redis.RedisError, OSError) as error:
        logger.warning("job %s: its events go by themselves within a day: %s", job_id, type(error).__name__)


def forget_old(now: datetime) -> int:
    """Delete what is older than `GATEWAY_RESPONSES_DAYS`, a part at a time; returns how many responses went."""
    old = KeptResponse.objects.filter(at__lt=now - timedelta(days=settings.GATEWAY_RESPONSES_DAYS))
    gone = 0
    while some := list(old.order_by("at").values_list("pk", flat=True)[:500]):
        KeptResponse.objects.filter(pk__in=some).delete()
        gone += len(some)
    return gone


# Going on --------------------------------------------------------------------------------------------------------------


def before(owner: str, previous: str, references: Iterable[str], model: str) -> Before:
    """What was said before, oldest first, and the items that are only named. Raises `InvalidRequest`, as the caller reads it."""
    turns = list(_turns(owner, previous)) if previous else []
    items = [item for turn in reversed(turns) for item in _said_in(turn, model)]
    return Before(items, _named(owner, references))


def _turns(owner: str, previous: str) -> Iterator[KeptResponse]:
    """The newest first. Only those that are on the way are read, once it is known that all of them are not too much."""
    name = previous[:_LONGEST_ID].replace("\0", "")
    last = KeptResponse.objects.filter(response_id=name, owner=owner).values("thread").first()
    if last is None:
        raise no_such_response(previous)
    rows = KeptResponse.objects.filter(owner=owner, thread=last["thread"]).order_by("-id")
    facts = rows.values_list("response_id", "pk", "previous", "size")[:_MOST_TURNS]
    found = {response_id: rest for response_id, *rest in facts}
    numbers, sizes, wanted = [], 0, previous
    while wanted:
        if wanted not in found:
            raise no_such_response(wanted)
        number, wanted, size = found[wanted]
        numbers.append(number)
        sizes += size
    _check_size(sizes, "previous_response_id")
    opened = KeptResponse.objects.select_related("job").defer("question")
    for some in _parts(numbers):
        told = opened.in_bulk(some)
        for number in some:
            if number not in told:  # deleted in this very moment
                raise no_such_response(previous)
            yield told[number]


def _parts(numbers: Sequence[int]) -> Iterator[Sequence[int]]:
    return (numbers[at : at + _READ_AT_ONCE] for at in range(0, len(numbers), _READ_AT_ONCE))


def _check_size(stored: int, param: str) -> None:
    """A Response holds more than is said again of it."""
    most: int = settings.GATEWAY_MAX_BODY_BYTES
    if stored > most * 2:
        raise BodyTooLarge(
            f"What '{param}' leads to is larger than {most} bytes together; send what matters of it as 'input'.",
            param=param,
        )


def _said_in(turn: KeptResponse, model: str) -> list[Item]:
    """Its question and its answer. Thoughts are of use to the model that thought them alone."""
    response = as_it_stands(turn)
    if response["status"] not in OVER:
        raise InvalidRequest(
            f"The response '{turn.response_id}' is not over yet.",
            param="previous_response_id",
            code="previous_response_not_over",
        )
    own = turn.model == model
    return [*input_of(turn), *(item for item in response["output"] if own or item.get("type") != "reasoning")]


def _named(owner: str, references: Iterable[str]) -> dict[str, Item]:
    wanted = {name[:_LONGEST_ID] for name in references if "\0" not in name}
    if not wanted:
        return {}
    if len(wanted) > _MOST_REFERENCES:
        raise InvalidRequest(f"'input' names more than {_MOST_REFERENCES} items.", param="input")
    rows = KeptItem.objects.filter(item_id__in=wanted, response__owner=owner).order_by("id")
    places: dict[int, list[tuple[str, bool, int]]] = {}
    for number, *place in rows.values_list("response_id", "item_id", "is_output", "place"):
        places.setdefault(number, []).append((place[0], place[1], place[2]))
    told = KeptResponse.objects.filter(pk__in=places)
    _check_size(told.aggregate(size=Sum("size"))["size"] or 0, "input")
    found: dict[str, Item] = {}
    for row in told.select_related("job").defer("question").order_by("id").iterator(_READ_AT_ONCE):
        said = {True: as_it_stands(row)["output"], False: input_of(row)}
        found |= {name: said[out][place] for name, out, place in places[row.pk] if place < len(said[out])}
    return found


def _note_items(row: KeptResponse, items: Iterable[Item], *, is_output: bool) -> None:
    KeptItem.objects.bulk_create(
        KeptItem(response=row, item_id=str(item["id"])[:_LONGEST_ID], is_output=is_output, place=place)
        for place, item in enumerate(items)
        if item.get("id") and "\0" not in str(item["id"])
    )


def listed(items: Iterable[Item], response_id: str) -> list[Item]:
    """Input items as they are told again: each with an id, and messages in their long form."""
    return [_listed(item, f"{response_id.removeprefix(PREFIX)}in{place:02x}") for place, item in enumerate(items)]


def _listed(item: Item, number: str) -> Item:
    kind = item.get("type") or "message"
    prefix = {"message": "msg", "function_call": "fc", "function_call_output": "fco", "reasoning": "rs"}.get(
        kind, "item"
    )
    told = {"id": f"{prefix}_{number}", "type": kind, **item}
    if kind == "message":
        content = item.get("content")
        part = "output_text" if item.get("role") == "assistant" else "input_text"
        told["content"] = [{"type": part, "text": content}] if isinstance(content, str) else content
        told.setdefault("status", "completed")
    return told
