"""Make the installation's secrets where they are missing."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from gateway_project import first_keys


class Command(BaseCommand):
    help = "Create the encryption keyring, the client key peppers and Django's secret where they are missing."
    requires_system_checks: list[str] = []

    def handle(self, *args: Any, **options: Any) -> None:
        for path in first_keys.create_missing(settings.DATA_DIR):
            self.stdout.write(f"made {path}")
