"""Batches as a test makes them, and the work on them in the test's own process."""

from __future__ import annotations

import json
from typing import Any

from inference import batch_running, batches, kept_files
from inference.batch_models import Batch
from inference.file_models import KeptFile

CHAT = "/v1/chat/completions"


def line(custom_id: str, text: str = "hello", **body: Any) -> dict[str, Any]:
    asked = {"model": "words", "messages": [{"role": "user", "content": text}], **body}
    return {"custom_id": custom_id, "method": "POST", "url": CHAT, "body": asked}


def file_of(owner: Any, lines: list[Any]) -> KeptFile:
    text = "\n".join(one if isinstance(one, str) else json.dumps(one) for one in lines)
    file = KeptFile(owner=owner.prefix, filename="in.jsonl", purpose="batch")
    return kept_files.keep(file, [text.encode()])


def batch_of(owner: Any, lines: list[Any], **asked: Any) -> Batch:
    told = {"input_file_id": file_of(owner, lines).pk, "endpoint": CHAT, "completion_window": "24h", **asked}
    return batches.create(told, owner)


def work(batch: Batch) -> Batch:
    """As woken workers would, until nothing is left that can be done now."""
    while batch_running.run(batch.pk):
        pass
    batch.refresh_from_db()
    return batch


def lines_in(file_id: str) -> list[dict[str, Any]]:
    return [json.loads(one) for one in b"".join(kept_files.pieces(file_id)).splitlines()]
