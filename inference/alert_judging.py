"""Judges every rule and writes down what follows: incidents that begin, go on or end, and the messages that tell of it.

Any number of workers may do this at once. What begins is an insert that the database lets happen once; a reminder and an end are
conditional updates. A message is written in the same transaction as what it tells of, and sent by `inference.alert_delivery`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import datetime, timedelta
from decimal import Decimal

from django.db import IntegrityError, transaction
from django.db.models import F, Q

from inference import alert_readings, alert_texts
from inference.alert_deciding import Reading, Standing, Watch, decide
from inference.alert_models import (
    FIRED,
    RECOVERED,
    REMINDED,
    WAITING,
    AlertChannel,
    AlertDelivery,
    AlertIncident,
    AlertRule,
)
from inference.alert_signals import AUTO_DISABLE
from routing import health_actions

logger = logging.getLogger("gateway.alerts")

_PLACES = Decimal("0.000001")
_MOST = Decimal(10) ** 23


def judge_all(now: datetime) -> int:
    """Returns how many incidents began or ended here. A rule that cannot be read is logged and stops no other."""
    turned = _end_what_nobody_watches(now)
    for rule in AlertRule.objects.filter(enabled=True):
        try:
            turned += judge(rule, now)
        except alert_readings.Unknown as reason:
            logger.info("the alert rule %s was not judged: %s", rule.name, reason)
        except Exception:
            logger.exception("the alert rule %s could not be judged", rule.name)
    return turned


def judge(rule: AlertRule, now: datetime) -> int:
    readings = alert_readings.read(rule, now)
    under_way = {one.pk: one for one in AlertIncident.objects.filter(rule=rule, ended_at__isnull=True)}
    standing = [Standing(one.pk, one.subject, one.told_at, one.well_since) for one in under_way.values()]
    decided = decide(watch(rule), readings, standing, now)
    for incident, reading in decided.still:
        _go_on(under_way[incident.pk], reading, now, rule, remind=(incident, reading) in decided.remind)
    AlertIncident.objects.filter(pk__in=[one.pk for one in decided.well], well_since__isnull=True).update(
        well_since=now
    )
    began = sum([_begin(rule, reading, now) for reading in decided.begin])
    return began + sum([_end(under_way[one.pk], rule, now) for one in decided.end])


def watch(rule: AlertRule) -> Watch:
    signal = rule.watched
    return Watch(
        rule.threshold,
        signal.below,
        rule.least_requests if signal.sampled else 0,
        timedelta(minutes=rule.recover_minutes),
        timedelta(minutes=rule.remind_minutes) if rule.remind_minutes else None,
    )


def _begin(rule: AlertRule, reading: Reading, now: datetime) -> bool:
    value = _storable(reading.value)
    incident = AlertIncident(
        rule=rule,
        rule_name=rule.name,
        condition=rule.condition,
        unit=rule.watched.unit,
        subject=reading.subject,
        subject_name=reading.name[:600],
        began_at=now,
        told_at=now,
        value=value,
        worst=value,
        detail=reading.detail[:500],
    )
    try:
        with transaction.atomic():
            incident.save(force_insert=True)
            if rule.action == AUTO_DISABLE:
                incident.acted = _disable(incident)
                incident.save(update_fields=["acted"])
            _tell(incident, FIRED, rule, now)
    except IntegrityError:
        return False  # another worker was first
    logger.warning("alert %s: %s is %s (%s)", rule.name, incident.subject_name, value, rule.condition)
    return True


def _disable(incident: AlertIncident) -> str:
    reason = f"alert {incident.rule_name}: {incident.value.normalize():f} failures in a row"
    disabled = health_actions.disable(incident.subject, reason)
    return f"{incident.subject} was taken out of service" if disabled else ""


def _go_on(incident: AlertIncident, reading: Reading, now: datetime, rule: AlertRule, *, remind: bool) -> None:
    value = _storable(reading.value)
    worse = min if rule.watched.below else max
    incident.value, incident.worst = value, worse(incident.worst, value)
    incident.detail = reading.detail[:500]
    rows = AlertIncident.objects.filter(pk=incident.pk, ended_at__isnull=True)
    rows.update(value=incident.value, worst=incident.worst, detail=incident.detail, well_since=None)
    if rule.action == AUTO_DISABLE and (acted := _disable(incident)):  # somebody had put it back, and it failed again
        incident.acted = acted
        rows.update(acted=acted)
    if not remind or incident.acknowledged_at is not None:
        return
    with transaction.atomic():
        if rows.filter(told_at=incident.told_at).update(told_at=now, reminders=F("reminders") + 1):
            incident.reminders += 1
            _tell(incident, REMINDED, rule, now)


def _end(incident: AlertIncident, rule: AlertRule, now: datetime) -> bool:
    with transaction.atomic():
        ended = AlertIncident.objects.filter(pk=incident.pk, ended_at__isnull=True).update(ended_at=now)
        if ended:
            _tell(incident, RECOVERED, rule, now)
    return bool(ended)


def _end_what_nobody_watches(now: datetime) -> int:
    """Incidents of rules that were deleted or switched off: nobody knows how they go on, and nobody is told."""
    unwatched = Q(rule__isnull=True) | Q(rule__enabled=False)
    pks = list(AlertIncident.objects.filter(unwatched, ended_at__isnull=True).values_list("pk", flat=True))
    return AlertIncident.objects.filter(pk__in=pks, ended_at__isnull=True).update(
        ended_at=now, detail="the rule was deleted or switched off"
    )


def _tell(incident: AlertIncident, kind: str, rule: AlertRule, now: datetime) -> None:
    text = alert_texts.text(
        kind,
        condition=incident.condition,
        subject=incident.subject_name,
        value=incident.amount(incident.value),
        worst=incident.amount(incident.worst),
        began_at=incident.began_at,
        now=now,
        detail=incident.detail,
        acted=incident.acted,
    )
    channels = list(channels_of(rule))
    if kind == REMINDED:
        unsent = AlertDelivery.objects.filter(incident=incident, state=WAITING).values_list("channel_id", flat=True)
        still_untold = set(unsent)
        channels = [channel for channel in channels if channel.pk not in still_untold]
    AlertDelivery.objects.bulk_create(
        AlertDelivery(
            incident=incident,
            channel=channel,
            kind=kind,
            number=incident.reminders if kind == REMINDED else 0,
            title=alert_texts.title(kind, rule.name, incident.subject_name),
            text=text,
            created_at=now,
            due_at=channel.quiet_until_at(now) or now,
        )
        for channel in channels
    )


def channels_of(rule: AlertRule) -> Iterable[AlertChannel]:
    channels = AlertChannel.objects.filter(enabled=True)
    return channels.filter(name__in=rule.channels) if rule.channels else channels


def _storable(value: Decimal) -> Decimal:
    return max(-_MOST, min(_MOST, value)).quantize(_PLACES)
