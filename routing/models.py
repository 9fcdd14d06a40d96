"""Who may call: the keys that clients show us, stored as a digest that cannot be turned back."""

from __future__ import annotations

from django.core.exceptions import ValidationError
from django.db import models

from providers.models import RegistryModel
from routing.client_keys import SCOPES


class ClientKey(RegistryModel):
    """A secret that a client shows. The prefix finds the row; the digest, under a pepper outside the database, proves it."""

    name = models.CharField(max_length=255)
    prefix = models.CharField(max_length=32, unique=True, editable=False)
    digest = models.CharField(max_length=64, editable=False)
    pepper_id = models.CharField(max_length=32, editable=False)
    scopes = models.JSONField(default=list)
    allowed_models = models.JSONField(
        null=True, blank=True, help_text="Patterns of model names, such as gpt-* or openai/*; empty allows all."
    )
    enabled = models.BooleanField(default=True)
    expires_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, editable=False)

    unaudited = RegistryModel.unaudited | {"digest"}

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"

    def clean(self) -> None:
        if not isinstance(self.scopes, list) or not self.scopes or set(self.scopes) - set(SCOPES):
            raise ValidationError({"scopes": f"One or more of: {', '.join(SCOPES)}."})
        patterns = self.allowed_models
        if patterns is not None and (
            not isinstance(patterns, list) or not all(isinstance(item, str) for item in patterns)
        ):
            raise ValidationError({"allowed_models": "A list of patterns is needed."})

    def audit_name(self) -> str:
        return self.prefix
