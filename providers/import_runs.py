"""What imports leave behind: the runs, what each row of the registry came from, and what had to be said about single values.

Records are provenance and undo log in one: where a registry row came from, what it was before the run and what the run made
of it. Secrets in them are sealed or fingerprints.
"""

from __future__ import annotations

import uuid

from django.db import models
from django.utils import timezone

from providers.fields import EncryptedField


class ImportRun(models.Model):
    """One run of an import, whoever started it."""

    class Kind(models.TextChoices):
        DRY_RUN = "dry_run"
        APPLY = "apply"
        DELTA = "delta"
        VERIFY = "verify"
        UNDO = "undo"

    class State(models.TextChoices):
        QUEUED = "queued"
        RUNNING = "running"
        DONE = "done"
        FAILED = "failed"
        INTERRUPTED = "interrupted"

    kind = models.CharField(max_length=16, choices=Kind)
    state = models.CharField(max_length=16, choices=State, default=State.QUEUED)
    source_label = models.CharField(max_length=500, help_text="Where it was read from, without credentials.")
    source_identity = models.CharField(max_length=64, blank=True, db_index=True)
    source_facts = models.JSONField(default=dict)
    options = models.JSONField(default=dict, help_text="As the command takes them; no secrets.")
    sealed = EncryptedField(
        null=True, editable=False, help_text="Source URL and legacy keys of a run that a worker does."
    )
    actor = models.CharField(max_length=255, blank=True)
    created_at = models.DateTimeField(default=timezone.now)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    tables = models.JSONField(default=dict, help_text="Per source table: rows, imported, merged, rejected and so on.")
    notes = models.PositiveIntegerField(default=0)
    for_a_person = models.PositiveIntegerField(default=0, help_text="Findings that somebody has to look at.")
    exit_status = models.PositiveSmallIntegerField(null=True)
    message = models.TextField(blank=True)
    undoes = models.ForeignKey("self", null=True, on_delete=models.SET_NULL, related_name="undone_by")
    undone_at = models.DateTimeField(null=True)
    identity = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)

    class Meta:
        app_label = "providers"
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} {self.pk} of {self.source_label}"

    @property
    def is_over(self) -> bool:
        return self.state not in {self.State.QUEUED, self.State.RUNNING}


class ImportRecord(models.Model):
    """What one run did to one registry row because of one source row."""

    class Outcome(models.TextChoices):
        CREATED = "created"
        UPDATED = "updated"
        UNCHANGED = "unchanged"
        KEPT = "kept"
        MERGED = "merged"

    run = models.ForeignKey(ImportRun, on_delete=models.CASCADE, related_name="records")
    origin = models.CharField(max_length=32, help_text="Digest of source, table and key, to be found by.")
    table = models.CharField(max_length=64)
    key = models.CharField(max_length=600)
    digest = models.CharField(max_length=32, help_text="Keyed digest of the source row.")
    outcome = models.CharField(max_length=16, choices=Outcome)
    target_kind = models.CharField(max_length=16, help_text="provider, model, key or parameter.")
    target_id = models.BigIntegerField()
    before = models.JSONField(null=True, help_text="The fields that the run changed, as they were.")
    sealed_before = EncryptedField(null=True, editable=False, help_text="Secrets that the run changed, as they were.")
    after = models.CharField(max_length=32, help_text="Keyed digest of the registry row as the run left it.")
    identity = models.UUIDField(null=True, editable=False, help_text="Only where something is sealed.")

    class Meta:
        app_label = "providers"
        ordering = ["id"]
        indexes = [models.Index(fields=["origin"]), models.Index(fields=["target_kind", "target_id"])]

    def __str__(self) -> str:
        return f"{self.table} {self.key}: {self.outcome}"


class ImportFinding(models.Model):
    """One value or row that a run had to reject, merge, repair, guess or change; see `providers.importers.findings`."""

    run = models.ForeignKey(ImportRun, on_delete=models.CASCADE, related_name="findings", db_index=False)
    table = models.CharField(max_length=64)
    key = models.CharField(max_length=600)
    field = models.CharField(max_length=255, blank=True)
    code = models.CharField(max_length=32)
    level = models.CharField(max_length=8)
    did = models.CharField(max_length=32)
    detail = models.TextField(blank=True)
    changes = models.JSONField(null=True)

    class Meta:
        app_label = "providers"
        ordering = ["id"]
        # Pages and the report read a run's findings, of one kind or all, in the order they were made.
        indexes = [
            models.Index(fields=fields) for fields in (["run", "id"], ["run", "code", "id"], ["run", "level", "id"])
        ]

    def __str__(self) -> str:
        return f"{self.table} {self.key} {self.field}: {self.code}"
