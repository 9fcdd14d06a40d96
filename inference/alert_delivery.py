"""Sends the messages that are due, each by one worker at a time, again and again until it is taken.

A message is claimed by a conditional update with a lease, sent, and noted as sent. A worker that dies in between leaves a lease
that runs out, and the message is sent again with the same id, by which the other side can tell. Messages of one incident go to
a channel in their order: nobody hears of an end before the beginning.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from django.db.models import F, Q
from django.utils import timezone

from inference.alert_models import (
    GAVE_UP,
    SENT,
    TEST,
    WAITING,
    AlertChannel,
    AlertDelivery,
    AlertIncident,
)
from inference.alert_senders import NotSent, send

logger = logging.getLogger("gateway.alerts")

LEASE = timedelta(seconds=60)
FIRST_PAUSE, LONGEST_PAUSE = timedelta(seconds=15), timedelta(hours=1)
TRIED_FOR = timedelta(days=3)
KEPT = timedelta(days=90)
_AT_ONCE = 50


def send_due(now: datetime) -> int:
    """Returns how many were taken by the other side."""
    due = AlertDelivery.objects.filter(
        Q(leased_until__isnull=True) | Q(leased_until__lt=now), state=WAITING, due_at__lte=now
    )
    pks = list(due.filter(channel__enabled=True).order_by("pk").values_list("pk", flat=True)[:_AT_ONCE])
    return sum([send_one(pk, now) for pk in pks])


def send_one(pk: int, now: datetime) -> bool:
    free = Q(leased_until__isnull=True) | Q(leased_until__lt=now)
    claimed = AlertDelivery.objects.filter(free, pk=pk, state=WAITING, due_at__lte=now)
    delivery = AlertDelivery.objects.select_related("channel", "incident").filter(pk=pk).first()
    if delivery is None or _waits_for_another(delivery):
        return False
    lease = max(now, timezone.now()) + LEASE  # those before it in its batch may have taken long
    if not claimed.update(leased_until=lease, attempts=F("attempts") + 1):
        return False
    delivery.attempts += 1
    mine = AlertDelivery.objects.filter(pk=pk, state=WAITING, leased_until=lease)
    try:
        send(delivery)
    except NotSent as error:
        _note_failure(delivery, error, mine, now)
        return False
    except Exception as error:
        logger.exception("an alert could not be sent to the channel %s", delivery.channel.name)
        _note_failure(delivery, NotSent(f"The gateway failed: {type(error).__name__}."), mine, now)
        return False
    return bool(mine.update(state=SENT, sent_at=timezone.now(), leased_until=None, error=""))


def _waits_for_another(delivery: AlertDelivery) -> bool:
    if delivery.incident_id is None:
        return False
    earlier = AlertDelivery.objects.filter(incident=delivery.incident_id, channel=delivery.channel_id, state=WAITING)
    return earlier.filter(pk__lt=delivery.pk).exists()


def _note_failure(delivery: AlertDelivery, error: NotSent, mine: object, now: datetime) -> None:
    given_up = delivery.kind == TEST or now - delivery.created_at >= TRIED_FOR
    pause = min(FIRST_PAUSE * 2 ** min(delivery.attempts - 1, 12), LONGEST_PAUSE)
    mine.update(  # type: ignore[attr-defined]
        state=GAVE_UP if given_up else WAITING,
        due_at=now + (LONGEST_PAUSE if error.lasting else pause),
        leased_until=None,
        error=str(error)[:500],
    )
    logger.warning("an alert was not sent to the channel %s: %s", delivery.channel.name, error)


def send_test(channel: AlertChannel, by: str) -> AlertDelivery:
    """Send a test message now, quiet hours or not, and tell what came of it: `state` and `error` of what is returned."""
    delivery = AlertDelivery.objects.create(
        channel=channel,
        kind=TEST,
        title=f"[Test] {channel.name}",
        text=f"This channel of the LLM gateway works. {by} asked for the test.",
    )
    send_one(delivery.pk, delivery.due_at)
    delivery.refresh_from_db()
    return delivery


def forget_old(now: datetime) -> int:
    """Delete incidents that ended long ago, with their messages, and tests of that age."""
    old = now - KEPT
    incidents, _ = AlertIncident.objects.filter(ended_at__lt=old).delete()
    tests, _ = AlertDelivery.objects.filter(incident__isnull=True, created_at__lt=old).delete()
    return incidents + tests
