"""Batches of the last days: one that is done, with its files, and one that a budget holds."""

from __future__ import annotations

import json
import random
from datetime import datetime, timedelta
from decimal import Decimal

from inference import batch_lines, kept_files
from inference import batches as making
from inference.batch_models import Batch
from inference.file_models import KeptFile
from routing.models import ClientKey

ENDPOINT = "/v1/chat/completions"
_LINES, _REFUSED = 240, 3
_ANSWER = "Three of the five papers report the effect; none of them controls for age."


def batches(until: datetime, chance: random.Random) -> None:
    owner = ClientKey.objects.get(name="Paper digest, nightly").prefix
    _done(owner, until - timedelta(days=1, hours=3), chance)
    _held(owner, until - timedelta(hours=4), chance)


def _done(owner: str, at: datetime, chance: random.Random) -> None:
    answered = _LINES - _REFUSED
    batch = Batch(
        **_batch(owner, at, chance),
        state=Batch.State.COMPLETED,
        completed=answered,
        failed=_REFUSED,
        input_tokens=answered * 14_120,
        output_tokens=answered * 652,
        cost=Decimal("1.4187"),
        finalizing_at=at + timedelta(minutes=52),
        ended_at=at + timedelta(minutes=52, seconds=2),
    )
    refused = set(chance.sample(range(1, _LINES + 1), _REFUSED))
    good = [_answered(batch, number) for number in range(1, _LINES + 1) if number not in refused]
    bad = [_refused(batch, number) for number in sorted(refused)]
    batch.output_file_id = _kept(making.result_file(batch, "output"), good, at + timedelta(minutes=52), chance)
    batch.error_file_id = _kept(making.result_file(batch, "error"), bad, at + timedelta(minutes=52), chance)
    batch.save(force_insert=True)


def _held(owner: str, at: datetime, chance: random.Random) -> None:
    batch = Batch(
        **_batch(owner, at, chance),
        state=Batch.State.IN_PROGRESS,
        completed=87,
        input_tokens=87 * 14_020,
        output_tokens=87 * 648,
        cost=Decimal("0.5201"),
        held=Batch.Held.BUDGET,
        fence=2,
    )
    batch.held_until = batch.expires_at
    batch.save(force_insert=True)


def _batch(owner: str, at: datetime, chance: random.Random) -> dict[str, object]:
    """What both have, with the input of each."""
    lines = [_asked(number) for number in range(1, _LINES + 1)]
    file = KeptFile(owner=owner, filename=f"papers-{at:%Y-%m-%d}.jsonl", purpose=kept_files.BATCH)
    return {
        "id": f"batch_{chance.getrandbits(128):032x}",
        "owner": owner,
        "endpoint": ENDPOINT,
        "input_file_id": _kept(file, lines, at, chance),
        "tags": "digest",
        "model": "summarise",
        "total": _LINES,
        "created_at": at,
        "in_progress_at": at + timedelta(seconds=2),
        "expires_at": at + timedelta(days=1),
    }


def _kept(file: KeptFile, lines: list[bytes], at: datetime, chance: random.Random) -> str:
    file_id = f"file-{chance.getrandbits(128):032x}"
    file.pk = file_id
    file.created_at, file.expires_at = at, kept_files.usual_expiry(at)
    kept_files.keep(file, lines)
    return file_id


def _asked(number: int) -> bytes:
    body = {"model": "summarise", "messages": [{"role": "user", "content": f"Summarise paper {number}."}]}
    told = {"custom_id": f"paper-{number}", "method": "POST", "url": ENDPOINT, "body": body}
    return json.dumps(told).encode() + b"\n"


def _answered(batch: Batch, number: int) -> bytes:
    message = {"index": 0, "message": {"role": "assistant", "content": _ANSWER}, "finish_reason": "stop"}
    body = {"object": "chat.completion", "model": "summarise", "choices": [message]}
    return _line(batch, number, 200, body)


def _refused(batch: Batch, number: int) -> bytes:
    words = "This paper is longer than the context of every model that may read it."
    error = {"message": words, "type": "invalid_request_error", "param": "messages", "code": "context_length_exceeded"}
    return _line(batch, number, 400, {"error": error})


def _line(batch: Batch, number: int, status: int, body: object) -> bytes:
    request_id = making.request_id(batch.pk, number)
    return batch_lines.answered(request_id, f"paper-{number}", status, json.dumps(body).encode())
