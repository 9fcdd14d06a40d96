"""How batches look in the admin: the words for how each stands, and what holds it."""

from __future__ import annotations

from typing import Any

from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from inference import batch_lists
from inference.batch_models import Batch
from providers import cells

HELD = {
    "budget": gettext_lazy("A budget is used up; it goes on when there is room again."),
    "hours": gettext_lazy("It waits for its hours of the day."),
    "limit": gettext_lazy("A limit is reached; it goes on soon."),
}
_HELD_BY = {
    "budget": gettext_lazy("held: budget"),
    "hours": gettext_lazy("held: hours"),
    "limit": gettext_lazy("held: limit"),
}
_WORDS = {
    "validating": gettext_lazy("being checked"),
    "in_progress": gettext_lazy("in progress"),
    "finalizing": gettext_lazy("writing files"),
    "cancelling": gettext_lazy("ending"),
    "completed": gettext_lazy("completed"),
    "failed": gettext_lazy("failed"),
    "expired": gettext_lazy("expired"),
    "cancelled": gettext_lazy("cancelled"),
}
_TONES = {"completed": "good", "failed": "bad", "expired": "warn", "in_progress": "info", "cancelling": "warn"}


def state(batch: Batch) -> Any:
    if batch.is_held:
        return cells.pill(_HELD_BY.get(batch.held, batch.held), "warn", HELD.get(batch.held, ""))
    return cells.pill(_WORDS.get(batch.state, batch.state), _TONES.get(batch.state, ""))


def bar(batch: Batch) -> SafeString:
    """The lines that are answered, of all."""
    percent = batch_lists.percent(batch)
    return format_html(
        '<span class="gw-used gw-used-{}"><span>{} / {}</span>'
        '<span class="gw-used-bar" role="img" aria-label="{}"><i style="width:{}%"></i></span></span>',
        "warn" if batch.is_held else "good",
        cells.number(batch_lists.answered(batch)),
        cells.number(batch.total),
        _("%(percent)d %% of its lines are answered") % {"percent": percent},
        percent,
    )
