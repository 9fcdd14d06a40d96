"""Both sides' answers to one request, kept to be compared: encrypted, bounded, and for hours only.

What customers wrote and read lies here, so texts are sealed as keys are; of the request nothing but its body's text was ever
taken. Everything is told by side, gateway or legacy, whichever of them answered the client.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from django.db import models

from inference import shadow_texts
from providers.fields import EncryptedField
from routing.models import Rollout

_LONGEST_NAME = 255


class ShadowPair(models.Model):
    """One request that both sides answered, or were asked. Costs are None where no price is known."""

    at = models.DateTimeField(db_index=True)
    run = models.CharField(
        max_length=64, blank=True, db_index=True, help_text="Of a prompt set; empty for live traffic."
    )
    request_id = models.CharField(max_length=128, blank=True, db_index=True)
    answered_by = models.CharField(
        max_length=8, help_text="The side whose answer the client got; empty for a prompt set."
    )
    path = models.CharField(max_length=64)
    model = models.CharField(max_length=255)
    request_text = EncryptedField()
    gateway_text = EncryptedField()
    gateway_status = models.PositiveSmallIntegerField()
    gateway_error = models.CharField(max_length=64, blank=True)
    gateway_ms = models.FloatField()
    gateway_input_tokens = models.PositiveIntegerField(default=0)
    gateway_output_tokens = models.PositiveIntegerField(default=0)
    gateway_cost = models.DecimalField(max_digits=20, decimal_places=10, null=True)
    legacy_text = EncryptedField()
    legacy_status = models.PositiveSmallIntegerField()
    legacy_error = models.CharField(max_length=64, blank=True)
    legacy_ms = models.FloatField()
    legacy_input_tokens = models.PositiveIntegerField(default=0)
    legacy_output_tokens = models.PositiveIntegerField(default=0)
    legacy_cost = models.DecimalField(max_digits=20, decimal_places=10, null=True)
    tokens_estimated = models.BooleanField(default=False, help_text="A side did not tell its tokens: four bytes each.")
    equal = models.BooleanField(help_text="Both answered, and said the same.")
    similarity = models.FloatField(null=True, help_text="0 to 1, by words in order; null unless both answered.")
    identity = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)

    class Meta:
        app_label = "inference"
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.model} at {self.at:%Y-%m-%d %H:%M:%S}: {'equal' if self.equal else 'different'}"


@dataclass(frozen=True, slots=True)
class Answer:
    """What one side did. `error` is a code, empty when it answered."""

    text: str
    status: int
    error: str
    seconds: float
    input_tokens: int = 0
    output_tokens: int = 0
    cost: Decimal | None = None
    estimated: bool = False

    @property
    def is_good(self) -> bool:
        return self.status < 400 and not self.error


@dataclass(frozen=True, slots=True)
class Compared:
    """A request and both answers; `at` in epoch seconds."""

    at: float
    request_id: str
    answered_by: str
    path: str
    model: str
    request_text: str
    gateway: Answer
    legacy: Answer
    run: str = ""


def store(pair: Compared) -> ShadowPair:
    """Compare both answers and keep them. Takes time that grows with the texts: not for an event loop."""
    here, there = pair.gateway, pair.legacy
    both = here.is_good and there.is_good
    return ShadowPair.objects.create(
        at=datetime.fromtimestamp(pair.at, UTC),
        run=pair.run,
        request_id=shadow_texts.cut(pair.request_id)[:128],
        answered_by=pair.answered_by,
        path=pair.path,
        model=shadow_texts.cut(pair.model)[:_LONGEST_NAME],
        request_text=shadow_texts.cut(pair.request_text),
        gateway_text=shadow_texts.cut(here.text),
        gateway_status=here.status,
        gateway_error=here.error[:64],
        gateway_ms=here.seconds * 1000,
        gateway_input_tokens=here.input_tokens,
        gateway_output_tokens=here.output_tokens,
        gateway_cost=here.cost,
        legacy_text=shadow_texts.cut(there.text),
        legacy_status=there.status,
        legacy_error=there.error[:64],
        legacy_ms=there.seconds * 1000,
        legacy_input_tokens=there.input_tokens,
        legacy_output_tokens=there.output_tokens,
        legacy_cost=there.cost,
        tokens_estimated=here.estimated or there.estimated,
        equal=both and here.text.strip() == there.text.strip(),
        similarity=shadow_texts.similarity(here.text.strip(), there.text.strip()) if both else None,
    )


def forget_old(now: datetime) -> int:
    """Delete what is older than the roll-out's retention; returns how many pairs went."""
    oldest = now - timedelta(hours=Rollout.load().shadow_retention_hours)
    return ShadowPair.objects.filter(at__lt=oldest).delete()[0]
