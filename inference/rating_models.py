"""Corrections of what usage cost: rows of their own beside the ledger, whose figures stay as they were written."""

from __future__ import annotations

from django.db import models
from django.utils import timezone


class RatingRun(models.Model):
    """One correction of the prices of a span of the ledger: who made it, why, by which prices, and what it came to."""

    made_at = models.DateTimeField(default=timezone.now)
    made_by = models.CharField(max_length=255, blank=True)
    reason = models.CharField(max_length=500)
    since = models.DateTimeField()
    until = models.DateTimeField()
    provider_id = models.CharField(max_length=255, blank=True, help_text="Empty: every provider.")
    model_id = models.CharField(max_length=255, blank=True, help_text="Empty: every model.")
    prices = models.CharField(
        max_length=255,
        blank=True,
        help_text="JSON of the prices that were named; empty: those that the registry now has for the time of each record.",
    )
    records = models.PositiveIntegerField(default=0, help_text="How many have another cost by it.")
    unpriced = models.PositiveIntegerField(
        default=0, help_text="How many kept theirs, since no price is known for them."
    )

    class Meta:
        ordering = ["-id"]
        verbose_name = "price correction"

    def __str__(self) -> str:
        return f"run {self.pk}: {self.reason}"


class CostCorrection(models.Model):
    """What one record of the ledger costs by a run, beside what it cost before it. The latest run's figure is the one that holds."""

    run = models.ForeignKey(RatingRun, on_delete=models.PROTECT, related_name="corrections")
    record = models.ForeignKey("inference.UsageRecord", on_delete=models.PROTECT, related_name="corrections")
    at = models.DateTimeField(help_text="The record's.")
    cost_before = models.DecimalField(
        max_digits=20, decimal_places=10, null=True, help_text="Null: nobody knew the price."
    )
    cost_after = models.DecimalField(max_digits=20, decimal_places=10)
    currency = models.CharField(max_length=3, default="USD")
    prices = models.CharField(max_length=255, help_text="JSON: the prices that the new figure is by, and their source.")

    class Meta:
        ordering = ["-id"]
        verbose_name = "corrected record"
        constraints = [models.UniqueConstraint(fields=["run", "record"], name="corrected_once_a_run")]

    def __str__(self) -> str:
        return f"record {self.record_id}: {self.cost_before} to {self.cost_after} {self.currency}"
