"""Limits as rows: how much a subject may ask for in a minute and in a day, and how much of it at once."""

from __future__ import annotations

from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator
from django.db import models

from routing.subjects import Counted

LIMITS = ("requests_per_minute", "requests_per_day", "tokens_per_minute", "tokens_per_day", "concurrent_requests")


def _limit(text: str) -> models.PositiveBigIntegerField:
    return models.PositiveBigIntegerField(null=True, blank=True, validators=[MinValueValidator(1)], help_text=text)


class RateLimit(Counted):
    """What one subject may use; an empty number is no limit. A minute begins with its first request, a day at midnight UTC."""

    requests_per_minute = _limit("Requests that may begin in a minute.")
    requests_per_day = _limit("Requests that may begin in a day (UTC).")
    tokens_per_minute = _limit("Tokens of prompts and answers in a minute.")
    tokens_per_day = _limit("Tokens of prompts and answers in a day (UTC).")
    concurrent_requests = _limit("Requests that may be under way at once.")

    class Meta:
        ordering = ["subject", "id"]
        constraints = Counted.one_of_each()

    def __str__(self) -> str:
        return f"limits of {self.subject_name}"

    def clean(self) -> None:
        super().clean()
        if all(getattr(self, name) is None for name in LIMITS):
            raise ValidationError("Set at least one limit.")

    def audit_name(self) -> str:
        return self.subject_name
