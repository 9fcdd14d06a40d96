"""Alerts: what is watched, who is told, what happened, and what was told of it.

A rule has at most one incident under way for each subject, which the database itself holds: of two workers that see the same, one
begins it. Every message is a row before it is sent, so that none is lost and none is sent by two.
"""

from __future__ import annotations

import uuid
from datetime import datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator, validate_email
from django.db import models, transaction
from django.db.models import Q
from django.utils import timezone

from inference import alert_signals, quiet_hours
from inference.alert_signals import SIGNALS
from providers import audit
from providers.addresses import AddressRefused, check_url
from providers.fields import EncryptedField
from providers.models import RegistryModel, validate_identifier

EMAIL, WEBHOOK, APPRISE = "email", "webhook", "apprise"
KINDS = {EMAIL: "E-mail", WEBHOOK: "Webhook", APPRISE: "Apprise"}

FIRED, REMINDED, RECOVERED, TEST = "fired", "reminder", "recovered", "test"
WAITING, SENT, GAVE_UP = "waiting", "sent", "gave up"

_A_WEEK = 7 * 24 * 60


class AlertRule(RegistryModel):
    """What is watched, and from where on somebody is told."""

    name = models.CharField(max_length=100, unique=True, validators=[validate_identifier])
    description = models.CharField(max_length=500, blank=True)
    enabled = models.BooleanField(default=True)
    signal = models.CharField(max_length=32)
    told_for = models.CharField(
        max_length=16,
        blank=True,
        help_text="gateway, or each provider, model, budget or key for itself; empty: the first.",
    )
    threshold = models.DecimalField(
        max_digits=20, decimal_places=6, validators=[MinValueValidator(0)], help_text="In the signal's unit."
    )
    window_minutes = models.PositiveIntegerField(
        default=5,
        validators=[MinValueValidator(1), MaxValueValidator(24 * 60)],
        help_text="How far the signal looks back, where it does.",
    )
    least_requests = models.PositiveIntegerField(
        default=10, help_text="Fewer requests in the window say nothing about a rate or an average."
    )
    recover_minutes = models.PositiveIntegerField(
        default=2,
        validators=[MaxValueValidator(_A_WEEK)],
        help_text="How long all has to be well before the incident is over.",
    )
    remind_minutes = models.PositiveIntegerField(
        default=240, validators=[MaxValueValidator(_A_WEEK)], help_text="Tell again after so long; 0 tells once."
    )
    channels = models.JSONField(
        default=list, blank=True, help_text="Names of the channels that are told; empty: all that are switched on."
    )
    action = models.CharField(max_length=32, blank=True, help_text="What else is done: auto_disable_model, or nothing.")
    managed_by = models.CharField(max_length=1024, blank=True, editable=False)

    unaudited = RegistryModel.unaudited | {"managed_by"}

    class Meta:
        ordering = ["name"]
        constraints = [models.CheckConstraint(condition=Q(threshold__gte=0), name="alert_threshold_is_not_negative")]

    def __str__(self) -> str:
        return self.name

    def audit_name(self) -> str:
        return self.name

    @property
    def watched(self) -> alert_signals.Signal:
        return SIGNALS[self.signal]

    @property
    def condition(self) -> str:
        """`error_rate > 5%`."""
        return alert_signals.condition(self.watched, self.threshold)

    def clean(self) -> None:
        known = SIGNALS.get(self.signal)
        if known is None:
            raise ValidationError({"signal": f"One of: {', '.join(SIGNALS)}."})
        self.told_for = self.told_for or known.told_for[0]
        if self.told_for not in known.told_for:
            raise ValidationError({"told_for": f"{known.name} is told for: {', '.join(known.told_for)}."})
        if self.action and self.action not in alert_signals.ACTIONS:
            raise ValidationError({"action": f"One of: {', '.join(alert_signals.ACTIONS)}; or nothing."})
        if self.action == alert_signals.AUTO_DISABLE and self.told_for != alert_signals.MODEL:
            raise ValidationError(
                {"action": "Only a rule that is told for each model can take a model out of service."}
            )
        if not isinstance(self.channels, list) or not all(
            isinstance(one, str) and one.strip() for one in self.channels
        ):
            raise ValidationError({"channels": "A list of names of channels is needed."})
        self.channels = list(dict.fromkeys(one.strip() for one in self.channels))


class AlertChannel(RegistryModel):
    """Where messages go. `address` (the URL of a webhook or of Apprise, which often holds a token) and the signing secret are stored
    encrypted and never shown again."""

    name = models.CharField(max_length=100, unique=True, validators=[validate_identifier])
    kind = models.CharField(max_length=16, help_text="email, webhook or apprise.")
    enabled = models.BooleanField(default=True)
    recipients = models.JSONField(default=list, blank=True, help_text="Of an e-mail channel: addresses.")
    address = EncryptedField(null=True, blank=True, editable=False)
    signing_secret = EncryptedField(null=True, blank=True, editable=False)
    allow_private = models.BooleanField(
        default=False, help_text="The webhook may be an address of a private network, or of this machine."
    )
    quiet_from = models.TimeField(null=True, blank=True, help_text="From then on messages wait …")
    quiet_until = models.TimeField(null=True, blank=True, help_text="… until then, when all that waited is sent.")
    time_zone = models.CharField(max_length=64, blank=True, help_text="Of the quiet hours; empty: the gateway's.")
    identity = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)

    written_by_save = frozenset({"address", "signing_secret"})

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    def audit_name(self) -> str:
        return self.name

    def clean(self) -> None:
        if self.kind not in KINDS:
            raise ValidationError({"kind": f"One of: {', '.join(KINDS)}."})
        self._clean_recipients()
        if self.kind != EMAIL and self.address is None:
            raise ValidationError({"address": "A URL is needed."})
        if self.kind == WEBHOOK:
            self.check_address()
        if (self.quiet_from is None) != (self.quiet_until is None):
            missing = "quiet_until" if self.quiet_until is None else "quiet_from"
            raise ValidationError({missing: "Quiet hours need a beginning and an end."})
        if self.time_zone:
            try:
                ZoneInfo(self.time_zone)
            except (ValueError, KeyError, OSError) as error:
                raise ValidationError(
                    {"time_zone": "There is no such time zone; write it as Europe/Berlin."}
                ) from error

    def _clean_recipients(self) -> None:
        if not isinstance(self.recipients, list):
            raise ValidationError({"recipients": "A list of addresses is needed."})
        for one in self.recipients:
            try:
                validate_email(one)
            except ValidationError as error:
                raise ValidationError({"recipients": f"{str(one)[:200]!r} is no e-mail address."}) from error
        if self.kind == EMAIL and not self.recipients:
            raise ValidationError({"recipients": "One or more addresses are needed."})

    def check_address(self) -> Any:
        """The webhook's URL, judged. Raises `ValidationError`, which does not hold it."""
        assert self.address is not None
        try:
            return check_url(self.address.reveal(), self.allow_private)
        except AddressRefused as error:
            raise ValidationError({"address": str(error)}) from error

    @property
    def host(self) -> str:
        """Of a webhook: all of its URL that may be shown."""
        if self.kind != WEBHOOK or self.address is None:
            return ""
        try:
            return str(check_url(self.address.reveal()).authority)
        except AddressRefused:
            return ""

    def quiet_until_at(self, now: datetime) -> datetime | None:
        return quiet_hours.quiet_until(now, self.quiet_from, self.quiet_until, self.time_zone or settings.TIME_ZONE)


class AlertIncident(models.Model):
    """One time that a rule was broken, from its beginning to its end."""

    rule = models.ForeignKey(AlertRule, null=True, on_delete=models.SET_NULL, related_name="incidents")
    rule_name = models.CharField(max_length=100)
    condition = models.CharField(max_length=100)
    unit = models.CharField(max_length=8, blank=True)
    subject = models.CharField(max_length=600)
    subject_name = models.CharField(max_length=600)
    began_at = models.DateTimeField(default=timezone.now)
    value = models.DecimalField(max_digits=30, decimal_places=6, help_text="As it was read last.")
    worst = models.DecimalField(max_digits=30, decimal_places=6)
    detail = models.CharField(max_length=500, blank=True)
    told_at = models.DateTimeField(help_text="When somebody was told last, or would have been but for quiet hours.")
    reminders = models.PositiveIntegerField(default=0)
    well_since = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)
    acted = models.CharField(max_length=500, blank=True, help_text="What the gateway did about it.")
    acknowledged_at = models.DateTimeField(null=True)
    acknowledged_by = models.CharField(max_length=255, blank=True)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["rule", "subject"], condition=Q(ended_at__isnull=True), name="one_incident_at_a_time"
            )
        ]
        indexes = [models.Index(fields=["ended_at", "-began_at"], name="incidents_by_state")]

    def __str__(self) -> str:
        return f"{self.rule_name}: {self.subject_name}"

    @property
    def is_over(self) -> bool:
        return self.ended_at is not None

    def acknowledge(self, by: str, at: datetime) -> None:
        """Whoever was first stays the one; it is not reminded of any more."""
        rows = type(self).objects.filter(pk=self.pk, acknowledged_at__isnull=True, ended_at__isnull=True)
        with transaction.atomic():
            if rows.update(acknowledged_at=at, acknowledged_by=by[:255]):
                facts = {"rule": self.rule_name, "subject": self.subject}
                audit.record("acknowledge", "alert incident", str(self.pk), before=None, after=facts)
        self.refresh_from_db()

    def amount(self, value: Decimal) -> str:
        return alert_signals.amount(alert_signals.for_people(value), self.unit)


class AlertDelivery(models.Model):
    """One message to one channel. Whoever sends it claims it first by a conditional update; see `inference.alert_delivery`."""

    incident = models.ForeignKey(AlertIncident, null=True, on_delete=models.CASCADE, related_name="deliveries")
    channel = models.ForeignKey(AlertChannel, on_delete=models.CASCADE, related_name="deliveries")
    kind = models.CharField(max_length=16)
    number = models.PositiveIntegerField(default=0, help_text="Which reminder of its incident it is.")
    message_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    title = models.CharField(max_length=255)
    text = models.TextField()
    state = models.CharField(max_length=8, default=WAITING)
    created_at = models.DateTimeField(default=timezone.now)
    due_at = models.DateTimeField(default=timezone.now)
    leased_until = models.DateTimeField(null=True)
    attempts = models.PositiveIntegerField(default=0)
    error = models.CharField(max_length=500, blank=True)
    sent_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-id"]
        verbose_name_plural = "alert deliveries"
        constraints = [
            models.UniqueConstraint(
                fields=["incident", "channel", "kind", "number"],
                condition=Q(incident__isnull=False),
                name="alert_is_told_once",
            )
        ]
        indexes = [models.Index(fields=["due_at"], condition=Q(state=WAITING), name="deliveries_due")]

    def __str__(self) -> str:
        return f"{self.kind} to {self.channel_id}: {self.state}"


class AlertEvent(models.Model):
    """What no roll-up tells, counted by the minute; see `inference.alert_events`."""

    kind = models.CharField(max_length=32)
    subject = models.CharField(max_length=600, blank=True)
    minute = models.DateTimeField()
    count = models.PositiveIntegerField(default=0)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["kind", "subject", "minute"], name="events_by_minute")]

    def __str__(self) -> str:
        return f"{self.minute:%Y-%m-%d %H:%M}: {self.count} times {self.kind}"
