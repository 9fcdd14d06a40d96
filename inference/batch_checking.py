"""The first thing that is done with a batch: its whole input is read, and either it is good or nothing of it is run."""

from __future__ import annotations

import time

from django.conf import settings

from inference import batches, kept_files
from inference.batch_lines import Check, numbered
from inference.batch_models import Batch
from inference.batches import Claim
from routing import snapshot

_LEASE_EVERY_SECONDS = 3.0


def check(held: Claim, batch: Batch) -> bool:
    """Whether its lines will be answered. False also when the batch was lost on the way."""
    checking = Check(batch.endpoint)
    renew_at = time.monotonic() + _LEASE_EVERY_SECONDS
    for number, raw in numbered(kept_files.lines(batch.input_file_id, settings.GATEWAY_MAX_BODY_BYTES)):
        if not checking.take(number, raw):
            break
        if time.monotonic() >= renew_at:
            if not batches.keep_lease(held):
                return False
            renew_at = time.monotonic() + _LEASE_EVERY_SECONDS
    checking.end()
    if checking.errors:
        batches.refuse(held, checking.errors)
        return False
    models = list(checking.models)
    return batches.begin(held, total=checking.lines, model=models[0], local=_has_local(models))


def _has_local(models: list[str]) -> bool:
    """Whoever holds local models is best to answer its lines: others would have to hand them over one by one."""
    by_name = snapshot.refresh().by_name
    named = (by_name.get(model) for model in models)
    return any(found[0].provider.runs_in == "worker" for found in named if found)
