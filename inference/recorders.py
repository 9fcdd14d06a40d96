"""The recorder of a process: the database, the spool under the data directory, and what the dead left there, put together."""

from __future__ import annotations

from functools import partial

from django.conf import settings

from inference import adoption, alert_events, ledger_sums, listeners, usage_rows
from inference.contents import Contents
from inference.kept_records import KeptRecords
from inference.metrics import metrics
from inference.recording import Recorder
from inference.spool import Spool


def for_this_process() -> Recorder:
    """Not yet started: its files and its thread are made by `start`, which has to come after a fork."""
    folder = adoption.folder()
    recorder = Recorder(
        usage_rows.write,
        metrics,
        write_key_use=usage_rows.write_key_use,
        write_reasons=usage_rows.write_reasons,
        close=usage_rows.close,
        kept=KeptRecords(Spool(folder, most_bytes=settings.GATEWAY_SPOOL_MB * 2**20)),
        adopt=ledger_sums.Reconciling(partial(adoption.adopt, folder)),
        contents=contents_for_this_process(),
    )
    recorder.tell += listeners.wanted()
    alert_events.events.watch(alert_events.RECORDS_DROPPED, lambda: {"": recorder.dropped + recorder.refused})
    return recorder


def contents_for_this_process() -> Contents:
    return Contents(usage_rows.write_contents, settings.GATEWAY_CONTENT_SAMPLING)
