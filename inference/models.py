"""What ran: background jobs, what happened to every request, and what it used and cost."""

from __future__ import annotations

import uuid

from django.db import models
from django.utils import timezone

from inference.alert_models import AlertChannel, AlertDelivery, AlertEvent, AlertIncident, AlertRule
from inference.batch_models import Batch, BatchAnswer
from inference.file_models import FilePiece, KeptFile
from inference.old_paths import OldPathTracking, OldPathUse
from inference.rating_models import CostCorrection, RatingRun
from inference.response_models import KeptItem, KeptResponse
from inference.rollup_models import FailureRollup, LatencyRollup, TagRollup, TrafficRollup, UsageRollup
from inference.saved_view_models import SavedView
from inference.shadow_pairs import ShadowPair
from providers.fields import EncryptedField
from routing.rollout import GATEWAY

__all__ = [
    "AlertChannel",
    "AlertDelivery",
    "AlertEvent",
    "AlertIncident",
    "AlertRule",
    "Batch",
    "BatchAnswer",
    "CostCorrection",
    "DecisionRecord",
    "FailureRollup",
    "FilePiece",
    "Job",
    "KeptFile",
    "KeptItem",
    "KeptResponse",
    "LatencyRollup",
    "OldPathTracking",
    "OldPathUse",
    "RatingRun",
    "SavedView",
    "ShadowPair",
    "TagRollup",
    "Trace",
    "TraceContent",
    "TrafficRollup",
    "UsageRecord",
    "UsageRollup",
]


class Job(models.Model):
    """A generation that runs in a worker. The row is the truth; the Celery message only wakes a worker up.

    A worker claims it by a conditional update that raises `fence` and sets a lease; it renews the lease while it works and
    completes the row only while its fence still stands, so a redelivered message or a worker thought dead does no harm.
    """

    class State(models.TextChoices):
        QUEUED = "queued"
        RUNNING = "running"
        SUCCEEDED = "succeeded"
        FAILED = "failed"
        CANCELLED = "cancelled"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    owner = models.CharField(max_length=64, db_index=True, help_text="Prefix of the client key that asked.")
    state = models.CharField(max_length=16, choices=State, default=State.QUEUED)
    request = models.JSONField(help_text="The LLM request as it was asked.")
    operation = models.CharField(max_length=16, default="chat")
    model = models.CharField(max_length=600)
    provider_id = models.CharField(max_length=255, blank=True)
    result = models.JSONField(null=True)
    error = models.JSONField(null=True)
    attempts = models.PositiveIntegerField(default=0)
    fence = models.PositiveIntegerField(default=0)
    leased_until = models.DateTimeField(null=True)
    cancel_requested = models.BooleanField(default=False)
    created_at = models.DateTimeField(default=timezone.now)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-created_at"]
        indexes = [
            models.Index(fields=["state", "leased_until"]),
            models.Index(fields=["owner", "-created_at"]),
            models.Index(fields=["-created_at", "-id"], name="job_by_time"),
        ]

    def __str__(self) -> str:
        return f"job {self.id} ({self.state})"

    @property
    def is_over(self) -> bool:
        return self.state in {self.State.SUCCEEDED, self.State.FAILED, self.State.CANCELLED}


class DecisionRecord(models.Model):
    """Why requests were served as they were: one explanation, kept once for all the requests that it is true of."""

    digest = models.CharField(primary_key=True, max_length=32)
    body = models.TextField(help_text="JSON, as `routing.explain` words it.")
    at = models.DateTimeField(db_index=True)

    class Meta:
        ordering = ["-at"]

    def __str__(self) -> str:
        return self.digest


class Trace(models.Model):
    """What happened to one request: the decision, every attempt, the times. Kept for some days; the ledger is `UsageRecord`."""

    request_id = models.CharField(max_length=64)
    trace_id = models.CharField(
        max_length=128, blank=True, db_default="", help_text="As the client named it, else ours."
    )
    parent_span_id = models.CharField(max_length=16, blank=True, db_default="", help_text="Of W3C traceparent.")
    at = models.DateTimeField()
    operation = models.CharField(max_length=16)
    client_key_id = models.BigIntegerField(null=True)
    client_key_prefix = models.CharField(max_length=32, blank=True)
    team_id = models.BigIntegerField(null=True)
    requested_model = models.CharField(max_length=255)
    provider_id = models.CharField(max_length=255, blank=True)
    model_id = models.CharField(max_length=255, blank=True)
    stream = models.BooleanField(default=False)
    status = models.PositiveSmallIntegerField()
    error_code = models.CharField(max_length=64, blank=True)
    error_owner = models.CharField(
        max_length=8, blank=True, db_default="", help_text="Whose fault: caller, policy, provider or gateway."
    )
    attempts = models.PositiveSmallIntegerField(default=0)
    fallback = models.BooleanField(default=False, db_default=False, help_text="The answer is not the first choice's.")
    input_tokens = models.PositiveIntegerField(default=0)
    output_tokens = models.PositiveIntegerField(default=0)
    cached_tokens = models.PositiveIntegerField(default=0)
    reasoning_tokens = models.PositiveIntegerField(default=0)
    estimated = models.BooleanField(default=False)
    cost = models.DecimalField(
        max_digits=20, decimal_places=10, null=True, help_text="Of all attempts together; null: nobody knows a price."
    )
    currency = models.CharField(max_length=3, default="USD")
    duration_ms = models.FloatField(default=0)
    queue_ms = models.FloatField(default=0, db_default=0, help_text="Waited for its turn: for limits and for a worker.")
    first_byte_ms = models.FloatField(null=True)
    upstream_ms = models.FloatField(default=0)
    overhead_ms = models.FloatField(default=0)
    session_id = models.CharField(max_length=255, blank=True)
    tags = models.CharField(
        max_length=255, blank=True, db_default="", help_text="One after the other, with commas around."
    )
    address = models.CharField(max_length=45, blank=True, db_default="", help_text="The client's.")
    side = models.CharField(
        max_length=8,
        default=GATEWAY,
        db_default=GATEWAY,
        help_text="Which side of a parallel run served it: gateway or legacy; shadow is a copy, asked for comparison.",
    )

    policy = models.CharField(max_length=255, blank=True, db_default="")
    policy_version = models.PositiveIntegerField(default=0, db_default=0)
    decision = models.CharField(
        max_length=32,
        blank=True,
        db_default="",
        help_text="Digest of the DecisionRecord that says why it was served so.",
    )
    asked = models.TextField(
        blank=True, db_default="", help_text="JSON of what routing knew of the request beyond the other columns."
    )
    attempts_log = models.TextField(
        blank=True, db_default="", help_text="JSON list of every attempt, where there was more than one or it failed."
    )

    FAILED = models.Q(status__gte=400) | ~models.Q(error_code="")
    """Refused, failed, or broken off after it had begun."""

    class Meta:
        # On PostgreSQL partitioned by the day of `at`, with (at, id) as the primary key; see `inference.trace_partitions`.
        ordering = ["-at", "-id"]
        indexes = [
            models.Index(fields=["at", "id"], name="trace_by_time"),
            models.Index(fields=["request_id"], name="trace_by_request"),
            models.Index(
                fields=["trace_id"], name="trace_by_trace", condition=~models.Q(trace_id=models.F("request_id"))
            ),
            models.Index(fields=["client_key_id", "at"], name="trace_by_key"),
            models.Index(fields=["team_id", "at"], name="trace_by_team", condition=models.Q(team_id__isnull=False)),
            models.Index(fields=["requested_model", "at"], name="trace_by_asked"),
            models.Index(fields=["model_id", "at"], name="trace_by_model"),
            models.Index(fields=["provider_id", "at"], name="trace_by_provider"),
            models.Index(fields=["session_id", "at"], name="trace_by_session", condition=~models.Q(session_id="")),
            models.Index(
                fields=["at"],
                name="trace_by_failure",
                condition=models.Q(status__gte=400) | ~models.Q(error_code=""),
            ),
            models.Index(fields=["at"], name="trace_by_rescue", condition=models.Q(attempts__gt=1)),
            models.Index(fields=["status", "at"], name="trace_by_status", condition=models.Q(status__gte=400)),
            models.Index(fields=["error_code", "at"], name="trace_by_error", condition=~models.Q(error_code="")),
            models.Index(
                fields=["policy", "policy_version", "at"], name="trace_by_policy", condition=~models.Q(policy="")
            ),
        ]

    def __str__(self) -> str:
        return f"{self.request_id}: {self.status}"


class TraceContent(models.Model):
    """What was asked and answered, of the requests of those who opted in: redacted, cut to a size, encrypted, and kept for hours."""

    identity = models.UUIDField(default=uuid.uuid4, editable=False)
    request_id = models.CharField(max_length=64, unique=True)
    at = models.DateTimeField(db_index=True)
    request = EncryptedField(blank=True, default="")
    answer = EncryptedField(blank=True, default="")
    cut = models.BooleanField(default=False, help_text="One of them was longer than what is kept.")

    class Meta:
        ordering = ["-at"]

    def __str__(self) -> str:
        return f"content of {self.request_id}"


class UsageRecord(models.Model):
    """The ledger: what one attempt used and cost, written once and never changed.

    Attempt 0 is the request's own, whatever became of it; further ones are tries that failed and were paid for all the same, so
    requests are counted where `attempt` is 0. `cost` is by the prices of that moment, which stand in `prices`; a correction is a
    row of its own.
    """

    request_id = models.CharField(max_length=64)
    attempt = models.PositiveSmallIntegerField(default=0, db_default=0)
    at = models.DateTimeField(db_index=True)
    operation = models.CharField(max_length=16)
    client_key_id = models.BigIntegerField(null=True)
    client_key_prefix = models.CharField(max_length=32, blank=True)
    team_id = models.BigIntegerField(null=True)
    requested_model = models.CharField(max_length=255)
    policy = models.CharField(max_length=255, blank=True)
    provider_id = models.CharField(max_length=255, blank=True)
    model_id = models.CharField(max_length=255, blank=True)
    stream = models.BooleanField(default=False)
    status = models.PositiveSmallIntegerField()
    input_tokens = models.PositiveIntegerField(default=0)
    output_tokens = models.PositiveIntegerField(default=0)
    cached_tokens = models.PositiveIntegerField(default=0)
    reasoning_tokens = models.PositiveIntegerField(default=0)
    estimated = models.BooleanField(default=False, help_text="The upstream did not say; counted by what was seen.")
    cost = models.DecimalField(max_digits=20, decimal_places=10, null=True, help_text="Null: nobody knows the price.")
    currency = models.CharField(max_length=3, default="USD")
    prices = models.CharField(
        max_length=255,
        blank=True,
        help_text="JSON: the prices per million tokens that the cost is by, and their source.",
    )
    session_id = models.CharField(max_length=255, blank=True)
    tags = models.CharField(max_length=255, blank=True)
    side = models.CharField(max_length=8, default=GATEWAY)

    class Meta:
        ordering = ["-id"]
        constraints = [models.UniqueConstraint(fields=["request_id", "attempt"], name="usage_once")]

    def __str__(self) -> str:
        return f"{self.request_id}: {self.input_tokens} in, {self.output_tokens} out"
