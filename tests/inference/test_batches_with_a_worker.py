"""A batch through the death of its worker: a real one, ended by SIGKILL in the middle."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from inference import batches
from inference.batch_models import Batch, BatchAnswer
from inference.models import UsageRecord
from providers.models import Provider
from routing import client_keys, snapshot
from tests.inference import workers
from tests.inference.batch_work import batch_of, line, lines_in
from tests.inference.workers import Worker, eventually

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]

LINES = 200
QUICK = 150
"""The others are not answered before the worker is killed, however late that is."""


@pytest.fixture
def worker(plugins: Path, transactional_db: None, tmp_path: Path) -> Iterator[Worker]:
    workers.fresh_registry()
    workers.add_model(workers.add_provider("local", delay_seconds=0.01))
    workers.add_model(workers.add_provider("slow", delay_seconds=3600), "slow")
    worker = Worker(plugins, tmp_path / "log", "generation,llama_cpp").start()
    yield worker
    worker.stop()
    snapshot.replace(None)


def test_each_line_is_answered_and_counted_once_though_its_worker_is_killed(worker: Worker) -> None:
    _, secret = workers.client_key("generate")
    owner: Any = snapshot.refresh().client_keys[client_keys.prefix_of(secret)].identity
    asked = [line(f"c{n}", f"say {n}", model="words" if n < QUICK else "slow") for n in range(LINES)]
    batch = batch_of(owner, asked)
    assert eventually(lambda: BatchAnswer.objects.count() > 20)
    worker.kill()
    assert eventually(lambda: Batch.objects.get(pk=batch.pk).completed == BatchAnswer.objects.count())
    assert 20 < BatchAnswer.objects.count() <= QUICK
    slow = Provider.objects.get(provider_id="slow")
    slow.connection_params = {}
    slow.save()
    worker.start()
    Batch.objects.update(leased_until=timezone.now() - timedelta(seconds=1))  # its lease runs out
    batches.wake_now(batch.pk, batch.local)
    assert eventually(lambda: Batch.objects.get(pk=batch.pk).is_over)
    batch.refresh_from_db()
    assert (batch.state, batch.completed, batch.failed) == ("completed", LINES, 0)
    assert [one["custom_id"] for one in lines_in(batch.output_file_id)] == [f"c{n}" for n in range(LINES)]
    counted = UsageRecord.objects.filter(attempt=0, request_id__startswith=batch.pk)
    assert counted.count() == LINES
    assert sum(counted.values_list("output_tokens", flat=True)) == 2 * LINES
    used = UsageRecord.objects.filter(request_id__startswith=batch.pk).values_list("output_tokens", flat=True)
    assert eventually(lambda: sum(used.all()) == Batch.objects.get(pk=batch.pk).output_tokens), "lost tries too"
