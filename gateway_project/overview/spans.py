"""What the first page tells of: a day, a week or a month, and into which steps its charts part it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext_lazy as _


@dataclass(frozen=True, slots=True)
class Span:
    """`step_hours` are those of a step of its charts, which begin with full ones; 24 is a day of the installation's zone."""

    key: str
    label: Any
    before: Any
    """What it is compared with."""
    length: timedelta
    step_hours: int
    spend_days: int

    def starts(self, now: datetime) -> list[datetime]:
        """The beginnings of all steps, the one under way last; the first may begin a little after the span."""
        steps, at = int(self.length.total_seconds()) // (3600 * self.step_hours), self.floor(now)
        found = [at]
        while len(found) < steps:
            at = self.floor(at - timedelta(minutes=1))
            found.append(at)
        return found[::-1]

    def floor(self, at: datetime) -> datetime:
        """The beginning of the step that a moment is in."""
        here = timezone.localtime(at).replace(minute=0, second=0, microsecond=0)
        return here.replace(hour=here.hour - here.hour % self.step_hours)

    def name(self, start: datetime) -> str:
        """Of a step, on the axis of a chart."""
        if self.step_hours == 24:
            return date_format(start, "j M")
        return date_format(start, "H:i" if self.step_hours == 1 else "D H:i")


SPANS = {
    span.key: span
    for span in (
        Span("24h", _("24 hours"), _("the 24 hours before"), timedelta(hours=24), 1, 14),
        Span("7d", _("7 days"), _("the 7 days before"), timedelta(days=7), 6, 14),
        Span("30d", _("30 days"), _("the 30 days before"), timedelta(days=30), 24, 30),
    )
}
USUAL = SPANS["24h"]
