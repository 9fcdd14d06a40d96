"""How incidents and messages of alerts look in the admin, and the story of one incident from its beginning to its end."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from inference import alert_texts
from inference.alert_models import FIRED, RECOVERED, REMINDED, SENT, WAITING, AlertIncident
from providers import cells


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened: `tone` is good, bad, warn or empty."""

    at: datetime
    title: str
    detail: Any = ""
    tone: str = ""


def two_lines(first: Any, second: Any) -> SafeString:
    return format_html('<span class="gw-name"><strong>{}</strong><small>{}</small></span>', first, second)


def state(incident: AlertIncident) -> SafeString:
    if incident.ended_at is not None:
        since = f"{timezone.localtime(incident.ended_at):%Y-%m-%d %H:%M:%S}"
        return cells.pill(_("over"), "good", _("since %(time)s") % {"time": since})
    if incident.acknowledged_at is not None:
        return cells.pill(_("looked after"), "warn", _("by %(who)s") % {"who": cells.who(incident.acknowledged_by)})
    return cells.pill(_("under way"), "bad", incident.detail)


def reading(incident: AlertIncident) -> SafeString:
    worst = _("at its worst %(worst)s; %(condition)s") % {
        "worst": incident.amount(incident.worst),
        "condition": incident.condition,
    }
    return two_lines(incident.amount(incident.value), worst)


def lasted(incident: AlertIncident) -> str:
    seconds = ((incident.ended_at or timezone.now()) - incident.began_at).total_seconds()
    return alert_texts.span(timedelta(seconds=seconds))


def state_of(delivery: Any) -> SafeString:
    if delivery.state == SENT:
        return cells.pill(_("sent"), "good")
    if delivery.state == WAITING:
        quiet = delivery.due_at > timezone.now() and not delivery.attempts
        word = _("waits for the end of quiet hours") if quiet else _("waiting")
        return cells.pill(word, "warn", delivery.error)
    return cells.pill(delivery.state, "bad", delivery.error)


def story(incident: AlertIncident, deliveries: Iterable[Any]) -> list[Event]:
    """Oldest first: what was read, who was told, who looked after it, when it was well again."""
    told = [Event(incident.began_at, _("It began"), incident.condition, "bad")]
    if incident.acted:
        told.append(Event(incident.began_at, _("The gateway acted"), incident.acted, "warn"))
    told += [_message(one) for one in deliveries]
    if incident.acknowledged_at is not None:
        told.append(
            Event(incident.acknowledged_at, _("Somebody looks after it"), cells.who(incident.acknowledged_by), "warn")
        )
    if incident.ended_at is not None:
        told.append(Event(incident.ended_at, _("It was over"), lasted(incident), "good"))
    elif incident.well_since is not None:
        told.append(Event(incident.well_since, _("Well since then"), _("not long enough yet to be over"), "good"))
    return sorted(told, key=lambda event: event.at)


def _message(delivery: Any) -> Event:
    words = {FIRED: _("Told"), REMINDED: _("Reminded"), RECOVERED: _("Told that it is over")}
    parts = [format_html("{} {}", delivery.channel.name, state_of(delivery))]
    if delivery.attempts > 1:
        parts.append(_("%(count)d tries") % {"count": delivery.attempts})
    if delivery.error:
        parts.append(delivery.error)
    detail = format_html("{}" + " · {}" * (len(parts) - 1), *parts)
    return Event(delivery.sent_at or delivery.created_at, words.get(delivery.kind, delivery.kind), detail)
