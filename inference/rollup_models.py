"""Sums of requests over time, written together with the ledger: what charts, reports and alerts read instead of single requests.

A row is named by a digest of what it sums for, because those columns together are longer than an index may be. Times are UTC.
`inference.rollups` writes them, `inference.rollup_windows` reads spans that do not begin at a full hour.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django.db import models

from routing.rollout import GATEWAY

MONEY_PLACES = 10
"""As many as the ledger's."""

BOUNDS_MS = (
    *(0.1, 0.16, 0.25, 0.4, 0.63, 1.0, 1.6, 2.5, 4.0, 6.3, 10.0, 16.0, 25.0, 40.0, 63.0, 100.0, 160.0, 250.0, 400.0),
    *(630.0, 1_000.0, 1_600.0, 2_500.0, 4_000.0, 6_300.0, 10_000.0, 16_000.0, 25_000.0, 40_000.0, 63_000.0, 100_000.0),
)
"""Milliseconds up to which, inclusive, each bucket of a `LatencyRollup` counts; a last one counts what took longer."""
BUCKETS = tuple(f"b{number:02}" for number in range(len(BOUNDS_MS) + 1))

MINUTE, HOUR = 60, 3600
"""Seconds that a row may span."""

DURATION, FIRST_BYTE, OVERHEAD, QUEUE = "duration", "first_byte", "overhead", "queue"
"""What is measured: all of a request, a stream's first byte, what the gateway adds, and the wait for a turn."""


class ExactMoney(models.BigIntegerField):
    """An amount as a whole number of 10**-10, so that every database adds it up exactly; a `Decimal` in Python, sums too."""

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> Decimal | None:
        return None if value is None else Decimal(value).scaleb(-MONEY_PLACES)

    def to_python(self, value: Any) -> Decimal | None:
        return None if value is None else Decimal(value)

    def get_prep_value(self, value: Any) -> int | None:
        return None if value is None or hasattr(value, "resolve_expression") else units(Decimal(value))


_MOST = 10**17
"""Ten million at once is a price with too many zeros; it must not keep the sums from being written."""


def units(amount: Decimal) -> int:
    """The whole number that `ExactMoney` keeps of an amount."""
    return max(-_MOST, min(_MOST, int(amount.scaleb(MONEY_PLACES).to_integral_value())))


class _Amounts(models.Model):
    """What is added up. A paid try that failed adds tokens and money to its own provider and model, and no request."""

    requests = models.BigIntegerField(default=0)
    failed = models.BigIntegerField(default=0, help_text="Ended with an error; without clients that left.")
    left = models.BigIntegerField(default=0, help_text="The client left before the end (499).")
    rescued = models.BigIntegerField(default=0, help_text="Answered though a try had failed.")
    streams = models.BigIntegerField(default=0)
    estimated = models.BigIntegerField(default=0, help_text="The upstream did not say what it used.")
    unpriced = models.BigIntegerField(default=0, help_text="Used tokens of which nobody knows the price.")
    input_tokens = models.BigIntegerField(default=0)
    output_tokens = models.BigIntegerField(default=0)
    cached_tokens = models.BigIntegerField(default=0)
    reasoning_tokens = models.BigIntegerField(default=0)
    failed_tries = models.BigIntegerField(
        default=0,
        db_default=0,
        help_text="Tries that failed at this provider and model, also where another one answered then.",
    )
    cost = ExactMoney(default=0, help_text="In `currency`, by the prices of the moment.")
    duration_ms = models.FloatField(default=0, help_text="Of all requests together; over `requests`, the mean.")

    class Meta:
        abstract = True


class _Spent(_Amounts):
    """By hour, and by everything that spend is told by."""

    digest = models.UUIDField(primary_key=True)
    hour = models.DateTimeField(help_text="Its beginning.")
    side = models.CharField(max_length=8, default=GATEWAY, help_text="gateway, legacy (estimates) or shadow.")
    operation = models.CharField(max_length=16)
    client_key_id = models.BigIntegerField(null=True)
    client_key_prefix = models.CharField(max_length=32, blank=True)
    team_id = models.BigIntegerField(null=True)
    policy = models.CharField(max_length=255, blank=True)
    requested_model = models.CharField(
        max_length=255,
        blank=True,
        help_text="Empty where nothing was found under the name: clients send what they like.",
    )
    provider_id = models.CharField(max_length=255, blank=True)
    model_id = models.CharField(max_length=255, blank=True)
    currency = models.CharField(max_length=3, default="USD")
    correction = ExactMoney(
        default=0,
        db_default=0,
        help_text="What later corrections of prices add to `cost`, or take away; the two together are right.",
    )
    last_at = models.DateTimeField(help_text="Of the latest request.")

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return f"{self.hour:%Y-%m-%d %H}h: {self.requests} requests"


class UsageRollup(_Spent):
    """Use and spend by hour."""

    class Meta:
        indexes = [
            models.Index(fields=["hour"], name="usage_by_hour"),
            models.Index(fields=["client_key_id", "hour"], name="usage_of_key"),
            models.Index(fields=["team_id", "hour"], name="usage_of_team"),
        ]


class TagRollup(_Spent):
    """The same by tag: a request with two tags is in two rows, so these are not to be added up over tags."""

    tag = models.CharField(max_length=255)

    class Meta:
        indexes = [
            models.Index(fields=["hour"], name="tags_by_hour"),
            models.Index(fields=["tag", "hour"], name="usage_of_tag"),
        ]


class TrafficRollup(_Amounts):
    """By minute, without single clients: for what happens now, and for the edges of spans that begin within an hour. Kept for a month."""

    digest = models.UUIDField(primary_key=True)
    minute = models.DateTimeField(help_text="Its beginning.")
    side = models.CharField(max_length=8, default=GATEWAY)
    operation = models.CharField(max_length=16)
    team_id = models.BigIntegerField(null=True)
    policy = models.CharField(max_length=255, blank=True)
    requested_model = models.CharField(max_length=255, blank=True, help_text="See `UsageRollup`.")
    provider_id = models.CharField(max_length=255, blank=True)
    model_id = models.CharField(max_length=255, blank=True)
    currency = models.CharField(max_length=3, default="USD")

    class Meta:
        indexes = [models.Index(fields=["minute"], name="traffic_by_minute")]

    def __str__(self) -> str:
        return f"{self.minute:%Y-%m-%d %H:%M}: {self.requests} requests"


class FailureRollup(models.Model):
    """How requests failed, by hour: those with a status of 400 and more, or that broke off with an error."""

    digest = models.UUIDField(primary_key=True)
    hour = models.DateTimeField(help_text="Its beginning.")
    side = models.CharField(max_length=8, default=GATEWAY)
    operation = models.CharField(max_length=16)
    client_key_id = models.BigIntegerField(null=True)
    team_id = models.BigIntegerField(null=True)
    policy = models.CharField(max_length=255, blank=True)
    provider_id = models.CharField(max_length=255, blank=True)
    model_id = models.CharField(max_length=255, blank=True)
    status = models.PositiveSmallIntegerField()
    error_code = models.CharField(max_length=64, blank=True)
    error_owner = models.CharField(max_length=8, blank=True, help_text="caller, policy, provider or gateway.")
    requests = models.BigIntegerField(default=0)
    last_at = models.DateTimeField()

    class Meta:
        indexes = [models.Index(fields=["hour"], name="failures_by_hour")]

    def __str__(self) -> str:
        return f"{self.hour:%Y-%m-%d %H}h: {self.requests} times {self.status} {self.error_code}"


class LatencyRollup(models.Model):
    """How long requests took: a histogram for each measure, by minute (kept for a month) and again by hour.

    Of requests that were answered or failed at an upstream alike; `b00` to `b31` count by `BOUNDS_MS`. Always ask for one
    `span`, `MINUTE` or `HOUR`: each request is in both.
    """

    digest = models.UUIDField(primary_key=True)
    span = models.PositiveSmallIntegerField(help_text="60 or 3600 seconds.")
    at = models.DateTimeField(help_text="Its beginning.")
    side = models.CharField(max_length=8, default=GATEWAY)
    operation = models.CharField(max_length=16)
    provider_id = models.CharField(max_length=255, blank=True)
    model_id = models.CharField(max_length=255, blank=True)
    measure = models.CharField(max_length=12, help_text="duration, first_byte, overhead or queue.")
    requests = models.BigIntegerField(default=0)
    total_ms = models.FloatField(default=0)

    class Meta:
        indexes = [models.Index(fields=["span", "measure", "at"], name="latency_by_time")]

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M}: {self.measure} of {self.requests} requests"


for _name in BUCKETS:
    LatencyRollup.add_to_class(_name, models.IntegerField(default=0))
