"""Budgets as rows: how much money a subject may spend in a span of time, and what happens when it is spent."""

from __future__ import annotations

import zoneinfo
from decimal import Decimal

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.utils import timezone

from providers.models import RegistryModel
from routing.allowances import CLOSED, DAY, HOUR, MONTH, OPEN, REQUEST
from routing.subjects import EACH_KEY, KEY, Counted

PERIODS = {
    REQUEST: "one request",
    HOUR: "an hour of the clock",
    DAY: "a day of the calendar",
    MONTH: "a month of the calendar",
}
WHEN_AWAY = {
    CLOSED: "refuse while it cannot be counted",
    OPEN: "serve on, each process up to the amount that is named",
}
MOST_USD = Decimal(9_000_000)
"""More is not counted exactly."""
ROLE_FACTORS = {
    "free": Decimal("0.1"),
    "user": Decimal(1),
    "pro": Decimal(2),
    "premium": Decimal(5),
}
"""Of seed 001: by which a budget for each key is multiplied, by the key's role."""


class Budget(Counted):
    """Money (USD) that a subject may spend in a period."""

    name = models.CharField(
        max_length=255, blank=True, help_text="For people; empty: as the subject and the period say."
    )
    period = models.CharField(max_length=8, choices=PERIODS, default=MONTH)
    amount = models.DecimalField(max_digits=20, decimal_places=10, validators=[MinValueValidator(Decimal(0))])
    hard = models.BooleanField(default=True, help_text="Refuse what goes beyond; else only warn.")
    strict = models.BooleanField(
        default=False,
        help_text="Reserve what a request may cost at most, so that nothing ever goes beyond; else what it is likely to cost.",
    )
    warn_percent = models.PositiveSmallIntegerField(
        default=80, validators=[MinValueValidator(1), MaxValueValidator(100)], help_text="Share at which to warn."
    )
    time_zone = models.CharField(max_length=64, default="UTC", help_text="Whose calendar; such as Europe/Berlin.")
    when_away = models.CharField(
        max_length=8,
        choices=WHEN_AWAY,
        default=CLOSED,
        help_text="What happens while the store that all processes count in does not answer.",
    )
    away_amount = models.DecimalField(
        max_digits=20,
        decimal_places=10,
        null=True,
        blank=True,
        validators=[MinValueValidator(Decimal(0))],
        help_text="With open: the most that each process may spend meanwhile; empty: a tenth of the amount.",
    )
    refuse_unpriced = models.BooleanField(
        default=False, help_text="Refuse models whose price nobody knows; else they are not counted here."
    )
    by_role = models.BooleanField(
        default=False, help_text="Multiply by the key's role: free 0.1, user 1, pro 2, premium 5."
    )

    beside = ("period",)

    class Meta:
        ordering = ["subject", "id"]
        constraints = Counted.one_of_each("period")

    def __str__(self) -> str:
        period = PERIODS.get(self.period, self.period).partition(" of ")[0]
        return self.name or f"{self.subject_name}, {period}"

    def clean(self) -> None:
        super().clean()
        if self.period not in PERIODS:
            raise ValidationError({"period": f"One of {', '.join(PERIODS)}."})
        if self.when_away not in WHEN_AWAY:
            raise ValidationError({"when_away": f"One of {', '.join(WHEN_AWAY)}."})
        if self.time_zone not in zoneinfo.available_timezones():
            raise ValidationError({"time_zone": f"{self.time_zone!r} is no time zone; such as Europe/Berlin."})
        if self.amount is not None and self.amount > MOST_USD:
            raise ValidationError({"amount": f"At most {MOST_USD} USD."})
        if self.by_role and self.subject not in (EACH_KEY, KEY):
            raise ValidationError({"by_role": "Only keys have roles."})

    def audit_name(self) -> str:
        return str(self)


class BudgetRaise(RegistryModel):
    """More of a budget for a while, and why."""

    budget = models.ForeignKey(Budget, on_delete=models.CASCADE, related_name="raises")
    amount = models.DecimalField(
        max_digits=20, decimal_places=10, validators=[MinValueValidator(Decimal("0.0000000001"))]
    )
    reason = models.CharField(max_length=500)
    expires_at = models.DateTimeField()

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"{self.amount} USD more for {self.budget}"

    def clean(self) -> None:
        if not self.reason.strip():
            raise ValidationError({"reason": "Say why; it stands in the audit log."})
        if self.amount is not None and self.amount > MOST_USD:
            raise ValidationError({"amount": f"At most {MOST_USD} USD."})
        if self._state.adding and self.expires_at is not None and self.expires_at <= timezone.now():
            raise ValidationError({"expires_at": "This is past already."})

    def audit_name(self) -> str:
        return self.budget.audit_name()
