"""A small legacy backoffice, made on the spot and brought over by the real importer: dry run, import, proof."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from django.conf import settings
from django.utils import timezone

from providers.importers import backoffice, runs
from providers.importers.options import Options
from providers.importers.runs import Kind
from providers.models import Provider
from providers.secrets import Secret

FILE = "legacy-demo.db"
_TABLES = """
CREATE TABLE providers (provider_id VARCHAR(50) PRIMARY KEY, provider_type VARCHAR(50), display_name VARCHAR(100),
    description TEXT, enabled BOOLEAN, created_at TIMESTAMP, updated_at TIMESTAMP);
CREATE TABLE provider_models (model_id VARCHAR(50) PRIMARY KEY, provider_id VARCHAR(50), display_name VARCHAR(100),
    model_type VARCHAR(50), context_window INTEGER, max_tokens INTEGER, enabled BOOLEAN, created_at TIMESTAMP,
    updated_at TIMESTAMP);
CREATE TABLE api_keys (key_id INTEGER PRIMARY KEY, provider_id VARCHAR(50), key_value TEXT, is_encrypted BOOLEAN,
    environment VARCHAR(20), expires_at TIMESTAMP, created_at TIMESTAMP, updated_at TIMESTAMP, created_by_user_id INTEGER);
CREATE TABLE connection_parameters (param_id INTEGER PRIMARY KEY, provider_id VARCHAR(50), param_name VARCHAR(100),
    param_value TEXT, is_sensitive BOOLEAN, environment VARCHAR(20), created_at TIMESTAMP, updated_at TIMESTAMP);
"""
_MADE = "2024-05-13 09:12:00"
_ROWS = {
    "providers": [
        ("perplexity", "perplexity", "Perplexity", "Answers with sources, for the press office", 1, _MADE, _MADE),
        ("ollama-attic", "ollama", "Ollama in the attic", "An old workstation", 0, _MADE, _MADE),
    ],
    "provider_models": [
        ("sonar", "perplexity", "Sonar", "chat", 128000, 4096, 1, _MADE, _MADE),
        ("sonar-pro", "perplexity", "Sonar Pro", "chat", 200000, 8192, 1, _MADE, _MADE),
        ("llama3.2:3b", "ollama-attic", "Llama 3.2 3B", "chat", 131072, 2048, 1, _MADE, _MADE),
        ("nomic-embed-text", "ollama-attic", "Nomic embed", "embedding", 8192, None, 1, _MADE, _MADE),
        ("orphan-of-a-test", "gone", "Left over from a test", "chat", 4096, 512, 1, _MADE, _MADE),
    ],
    "api_keys": [
        (1, "perplexity", "your-api-key", 0, "staging", None, _MADE, _MADE, None),
    ],
    "connection_parameters": [
        (1, "perplexity", "base_url", "https://perplexity.demo.invalid", 0, "development", _MADE, _MADE),
        (2, "ollama-attic", "base_url", "http://attic.demo.invalid:11434/v1", 0, "development", _MADE, _MADE),
        (3, "ollama-attic", "keep_alive", "10m", 0, "development", _MADE, _MADE),
    ],
}


def bring_over() -> None:
    source = settings.DATA_DIR / FILE
    _make(source)
    options = Options(source_url=Secret(f"sqlite:///{source}"))
    for kind in (Kind.DRY_RUN, Kind.APPLY, Kind.VERIFY):
        run = runs.start(kind, "the legacy backoffice", actor="user:marie", options=options)
        runs.execute(run, lambda: backoffice.open(options, default_environment="development", now=timezone.now()))
    for provider in Provider.objects.filter(provider_id__in=[row[0] for row in _ROWS["providers"]]):
        provider.probe_interval_seconds = 0
        provider.save()


def _make(path: Path) -> None:
    path.unlink(missing_ok=True)
    with sqlite3.connect(path) as database:
        database.executescript(_TABLES)
        for table, rows in _ROWS.items():
            places = ", ".join("?" * len(rows[0]))
            database.executemany(f"INSERT INTO {table} VALUES ({places})", rows)
    database.close()
