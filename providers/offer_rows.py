"""What a provider whose models come and go offered when it was read last."""

from __future__ import annotations

from django.db import models


class Offer(models.Model):
    """The last reading of one provider's list. Not configuration: it raises no revision."""

    provider = models.OneToOneField("providers.Provider", on_delete=models.CASCADE, related_name="offer")
    names = models.JSONField(default=list)
    """The models that it listed when it answered last."""
    read_at = models.DateTimeField(null=True)
    tried_at = models.DateTimeField(null=True)
    problem = models.TextField(blank=True)
    """Why the last try failed; empty when it did not."""

    class Meta:
        ordering = ["provider"]

    def __str__(self) -> str:
        return f"offer of {self.provider.provider_id}"

    @property
    def stale(self) -> bool:
        return bool(self.problem) or self.read_at is None
