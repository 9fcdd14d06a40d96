"""What applying a configuration file did to policies, prices and the like: enough to take it back."""

from __future__ import annotations

from django.db import models

from providers.import_runs import ImportRun


class SectionRecord(models.Model):
    """One object of a section that a run wrote: its document before and after, None where there was none."""

    run = models.ForeignKey(ImportRun, on_delete=models.CASCADE, related_name="section_records")
    section = models.CharField(max_length=64)
    name = models.CharField(max_length=600)
    before = models.JSONField(null=True)
    after = models.JSONField(null=True)

    class Meta:
        app_label = "providers"
        ordering = ["id"]

    def __str__(self) -> str:
        return f"{self.section} {self.name}"
