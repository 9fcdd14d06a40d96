"""Batches: many requests in one file, answered when there is time for them."""

from __future__ import annotations

import uuid

from django.db import models
from django.utils import timezone

from inference.batch_shares import HIGH, LOW, NORMAL
from providers.fields import EncryptedField

ID_PREFIX = "batch_"


def new_batch_id() -> str:
    return f"{ID_PREFIX}{uuid.uuid4().hex}"


class Batch(models.Model):
    """The row is the truth; a Celery message only wakes a worker up.

    A worker claims it by a conditional update that raises `fence` and sets a lease. Whatever it writes later is guarded by the
    fence, so that a second worker, or one that was thought dead, does no harm.
    """

    class State(models.TextChoices):
        VALIDATING = "validating"
        IN_PROGRESS = "in_progress"
        FINALIZING = "finalizing"
        CANCELLING = "cancelling"
        COMPLETED = "completed"
        FAILED = "failed"
        EXPIRED = "expired"
        CANCELLED = "cancelled"

    class Held(models.TextChoices):
        """Why nothing of a batch is being answered just now."""

        BUDGET = "budget"
        HOURS = "hours"
        LIMIT = "limit"

    id = models.CharField(primary_key=True, max_length=64, default=new_batch_id, editable=False)
    owner = models.CharField(max_length=64, help_text="Prefix of the client key that asked.")
    state = models.CharField(max_length=16, choices=State, default=State.VALIDATING)
    endpoint = models.CharField(max_length=64)
    completion_window = models.CharField(max_length=16, default="24h")
    input_file_id = models.CharField(max_length=64)
    output_file_id = models.CharField(max_length=64, blank=True, default="")
    error_file_id = models.CharField(max_length=64, blank=True, default="")
    output_seconds = models.BigIntegerField(null=True, help_text="How long its files are kept; null: as usual.")
    metadata = models.JSONField(null=True)
    errors = models.JSONField(null=True, help_text="What is wrong with the input, or why it ended before its time.")
    priority = models.SmallIntegerField(
        choices=[(HIGH, "high"), (NORMAL, "normal"), (LOW, "low")], default=NORMAL, help_text="The lower goes first."
    )
    hours = models.CharField(max_length=11, blank=True, default="", help_text="Of the day, such as 22:00-06:00.")
    tags = models.CharField(max_length=255, blank=True, default="", help_text="Of each of its requests.")
    model = models.CharField(max_length=255, blank=True, default="", help_text="That its first line asks for.")
    local = models.BooleanField(default=False, help_text="Some of its models are best run by a worker that holds them.")

    total = models.PositiveIntegerField(default=0)
    completed = models.PositiveIntegerField(default=0)
    failed = models.PositiveIntegerField(default=0)
    never_asked = models.PositiveIntegerField(default=0, help_text="Of those that failed; known once it is over.")
    input_tokens = models.BigIntegerField(default=0)
    cached_tokens = models.BigIntegerField(default=0)
    output_tokens = models.BigIntegerField(default=0)
    reasoning_tokens = models.BigIntegerField(default=0)
    cost = models.DecimalField(max_digits=20, decimal_places=10, default=0, help_text="USD so far.")

    fence = models.PositiveIntegerField(default=0)
    leased_until = models.DateTimeField(null=True)
    width = models.PositiveIntegerField(default=0, help_text="Lines that its worker may have under way at once.")
    held = models.CharField(max_length=16, choices=Held, blank=True, default="")
    held_until = models.DateTimeField(null=True)
    ends_as = models.CharField(max_length=16, choices=State, default=State.COMPLETED)
    writings = models.PositiveSmallIntegerField(default=0, help_text="Times that a worker began to write its files.")

    created_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField()
    in_progress_at = models.DateTimeField(null=True)
    cancelling_at = models.DateTimeField(null=True)
    finalizing_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)

    CANCELLABLE = (State.VALIDATING, State.IN_PROGRESS)
    OPEN = (State.VALIDATING, State.IN_PROGRESS, State.FINALIZING, State.CANCELLING)
    OVER = (State.COMPLETED, State.FAILED, State.EXPIRED, State.CANCELLED)

    class Meta:
        verbose_name_plural = "batches"
        ordering = ["-created_at", "-id"]
        indexes = [
            models.Index(fields=["owner", "-created_at", "-id"], name="batch_of_owner_by_time"),
            models.Index(fields=["-created_at", "-id"], name="batch_by_time"),
            models.Index(fields=["state", "leased_until"], name="batch_by_state"),
        ]

    def __str__(self) -> str:
        return f"{self.id} ({self.state})"

    @property
    def is_over(self) -> bool:
        return self.state in self.OVER

    @property
    def is_held(self) -> bool:
        return bool(self.held) and self.state == self.State.IN_PROGRESS


class BatchAnswer(models.Model):
    """One answered line: that the row is there means that the line is answered, and it is there once. Gone when the files are written."""

    identity = models.UUIDField(default=uuid.uuid4, editable=False)
    batch = models.ForeignKey(Batch, models.CASCADE, related_name="answers")
    number = models.PositiveIntegerField(help_text="Of the line in the input file, from 1.")
    ok = models.BooleanField()
    content = EncryptedField(help_text="The line of the output or error file.")

    class Meta:
        ordering = ["number"]
        constraints = [models.UniqueConstraint(fields=["batch", "number"], name="batch_line_answered_once")]

    def __str__(self) -> str:
        return f"{self.batch_id} {self.number}"
