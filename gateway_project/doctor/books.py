"""What was recorded: that the sums follow the ledger, and that what is too old goes."""

from __future__ import annotations

from datetime import UTC, timedelta

from django.utils import timezone

from gateway_project.doctor.findings import RECORDS, WARNING, Finding, Fix, Told, check, page
from inference import trace_partitions
from inference.models import Trace, TrafficRollup, UsageRecord, UsageRollup
from inference.rollup_windows import KEPT_MINUTES
from providers import cells

GRACE = timedelta(days=2)
"""Whole days go at once, and not in the minute that they end."""


@check("rollups", "The sums follow the ledger", RECORDS)
def sums_follow() -> Told:
    last = UsageRecord.objects.order_by("-id").values_list("at", flat=True).first()
    if last is None:
        yield "Nothing is recorded yet."
        return
    hour = last.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    if not UsageRollup.objects.filter(hour=hour).exists():
        yield Finding(
            WARNING,
            f"The hour of the latest record ({hour:%Y-%m-%d %H:%M} UTC) is not in the sums.",
            "Charts, reports and alerts read the sums, and lack what is not there.",
            Fix("Add them up anew.", command=f"manage.py rebuild_rollups --since {hour:%Y-%m-%d}"),
            hour,
        )
    yield f"The latest record, {cells.relative(last)}, is in them."


@check("retention", "What is too old is deleted", RECORDS)
def old_records_go() -> Told:
    now = timezone.now()
    fix = Fix("See that the clock and a worker run: they delete.", page("doctor"), "manage.py doctor --live")
    oldest = Trace.objects.order_by("at").values_list("at", flat=True).first()
    if oldest is not None and oldest < trace_partitions.horizon(now) - GRACE:
        yield Finding(
            WARNING,
            f"The oldest trace is of {oldest:%Y-%m-%d}, and was to be deleted.",
            "Traces are kept longer than was promised, and take room.",
            fix,
            trace_partitions.horizon(now),
        )
    minute = TrafficRollup.objects.order_by("minute").values_list("minute", flat=True).first()
    if minute is not None and minute < now - KEPT_MINUTES - GRACE:
        yield Finding(
            WARNING,
            f"Sums of minutes go back to {minute:%Y-%m-%d}; they are to be kept for {KEPT_MINUTES.days} days.",
            "They take room, and pages that read them become slower.",
            fix,
        )
    yield "No trace has been kept yet." if oldest is None else f"The oldest trace is {cells.relative(oldest)}."
