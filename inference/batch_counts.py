"""What this process counts of batches."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily
from prometheus_client.metrics_core import Metric

if TYPE_CHECKING:
    from inference.batch_asking import Answered


class Counts:
    def __init__(self) -> None:
        self.lines = {"completed": 0, "failed": 0}

    def answered(self, answers: Iterable[Answered]) -> None:
        for one in answers:
            self.lines["completed" if one.ok else "failed"] += 1

    def families(self) -> Iterator[Metric]:
        family = CounterMetricFamily("gateway_batch_lines", "Lines of batches that were answered.", labels=["outcome"])
        for outcome, count in self.lines.items():
            family.add_metric([outcome], count)
        yield family


counts = Counts()


def _begin_anew() -> None:
    """A forked child counts what it does itself."""
    counts.__init__()  # type: ignore[misc]


os.register_at_fork(after_in_child=_begin_anew)
