"""The configuration files that this installation follows, and how their last reading went."""

from __future__ import annotations

from django.db import models


class ConfigFile(models.Model):
    """A file whose objects it owns: they are changed there, and read-only in the admin."""

    path = models.CharField(max_length=500, unique=True)
    digest = models.CharField(max_length=64, blank=True, help_text="SHA-256 of the text that was applied last.")
    read_at = models.DateTimeField(null=True)
    applied_at = models.DateTimeField(null=True)
    findings = models.JSONField(default=list, help_text="What the last reading had to say, without secrets.")
    error = models.TextField(blank=True, help_text="Why it could not be applied at all.")

    class Meta:
        ordering = ["path"]

    def __str__(self) -> str:
        return self.path
