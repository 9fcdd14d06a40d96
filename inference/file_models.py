"""Files that clients left here, or that were made for them: what is known of each, and its content in encrypted pieces."""

from __future__ import annotations

import uuid

from django.db import models
from django.utils import timezone

from providers.fields import EncryptedField


def new_file_id() -> str:
    return f"file-{uuid.uuid4().hex}"


class KeptFile(models.Model):
    """Belongs to one client key. It is there for its owner once `ready`: before, it is being written, or its writer died."""

    id = models.CharField(primary_key=True, max_length=64, default=new_file_id, editable=False)
    owner = models.CharField(max_length=64, help_text="Prefix of the client key that it belongs to.")
    filename = models.CharField(max_length=255)
    purpose = models.CharField(max_length=32)
    size = models.BigIntegerField(default=0, help_text="Bytes.")
    ready = models.BooleanField(default=False)
    made_by = models.CharField(max_length=64, blank=True, default="", help_text="Id of the batch whose result it is.")
    created_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField(null=True, db_index=True)

    class Meta:
        ordering = ["-created_at", "-id"]
        indexes = [models.Index(fields=["owner", "-created_at", "-id"], name="file_of_owner_by_time")]

    def __str__(self) -> str:
        return self.filename


class FilePiece(models.Model):
    """`content` is the piece's bytes, deflated, in base64, encrypted."""

    identity = models.UUIDField(default=uuid.uuid4, editable=False)
    file = models.ForeignKey(KeptFile, models.CASCADE, related_name="pieces")
    number = models.PositiveIntegerField()
    content = EncryptedField()

    class Meta:
        ordering = ["number"]
        constraints = [models.UniqueConstraint(fields=["file", "number"], name="file_piece_once")]

    def __str__(self) -> str:
        return f"{self.file_id} {self.number}"
