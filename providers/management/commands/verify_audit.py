"""`manage.py verify_audit`: walk the chain of the audit log and name every break."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from providers import audit
from providers.models import AuditEntry


class Command(BaseCommand):
    help = "Check that no audit entry was changed, removed or inserted. Exits with 1 and names each place otherwise."

    def handle(self, *args: Any, **options: Any) -> None:
        findings = list(audit.verify())
        for finding in findings:
            self.stderr.write(finding.finding)
        if findings:
            raise CommandError(f"The audit log was tampered with: {len(findings)} findings.")
        self.stdout.write(f"The audit log is whole: {AuditEntry.objects.count()} entries.")
