"""What the Responses API keeps: every response that a client asked to be stored, what it was asked with, and its items by their ids.

What customers wrote and read lies here, so texts are sealed as keys are. Rows belong to the client key that asked; they go when
their days are over, whatever follows them.
"""

from __future__ import annotations

import uuid

from django.db import models
from django.utils import timezone

from providers.fields import EncryptedField


class KeptResponse(models.Model):
    """A response as its client was told it. One that is worked on in the background has a job, which says how it stands."""

    identity = models.UUIDField(default=uuid.uuid4, editable=False)
    response_id = models.CharField(max_length=64, unique=True)
    owner = models.CharField(max_length=64, help_text="Prefix of the client key that asked.")
    thread = models.CharField(max_length=64, db_index=True, help_text="Id of the conversation's first response.")
    previous = models.CharField(max_length=64, blank=True, help_text="Id of the response that it goes on from.")
    model = models.CharField(max_length=600, help_text="As it was asked for.")
    at = models.DateTimeField(default=timezone.now, db_index=True)
    input = EncryptedField(help_text="JSON list of its own input items.")
    body = EncryptedField(help_text="JSON of the Response.")
    question = EncryptedField(blank=True, default="", help_text="JSON of the request, for a worker to answer.")
    size = models.PositiveBigIntegerField(default=0, help_text="Of all three, before they are sealed.")
    job = models.ForeignKey("inference.Job", null=True, on_delete=models.SET_NULL, related_name="+")

    class Meta:
        app_label = "inference"
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["owner", "id", "size"], name="response_sizes_by_owner"),
            models.Index(fields=["previous"], name="response_by_previous"),
        ]

    def __str__(self) -> str:
        return self.response_id


class KeptItem(models.Model):
    """Where an item lies that a later request may name instead of repeating it."""

    response = models.ForeignKey(KeptResponse, on_delete=models.CASCADE, related_name="items")
    item_id = models.CharField(max_length=128, db_index=True)
    is_output = models.BooleanField()
    place = models.PositiveIntegerField()

    class Meta:
        app_label = "inference"
        ordering = ["id"]

    def __str__(self) -> str:
        return self.item_id
