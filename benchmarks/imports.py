"""What an import of a large legacy backoffice costs: rows a second end to end, and the importing process's memory.

Sources and gateways are made here. Each figure is that of the whole command as somebody runs it, start-up included.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import sqlalchemy as sa

from benchmarks.measures import Results
from gateway_project import first_keys
from tests import services

ROOT = Path(__file__).resolve().parent.parent
MODELS = 250_000
QUICK_MODELS = 20_000
_PROVIDERS = 50
_AT_ONCE = 5_000
_BEGAN = datetime(2024, 3, 1, 8, 30, tzinfo=UTC).replace(tzinfo=None)

_TABLES = sa.MetaData()
_NAME = sa.String(255)
_PROVIDER_TABLE = sa.Table(
    "llm_providers",
    _TABLES,
    sa.Column("provider_id", _NAME, primary_key=True),
    sa.Column("provider_type", _NAME, nullable=False),
    sa.Column("display_name", _NAME, nullable=False),
    sa.Column("description", sa.Text),
    sa.Column("enabled", sa.Boolean),
    sa.Column("connection_params", sa.Text),
    sa.Column("request_settings", sa.Text),
    sa.Column("created_at", sa.DateTime),
    sa.Column("updated_at", sa.DateTime),
)
_MODEL_TABLE = sa.Table(
    "llm_models",
    _TABLES,
    sa.Column("model_id", _NAME, primary_key=True),
    sa.Column("provider_id", _NAME, sa.ForeignKey("llm_providers.provider_id"), primary_key=True),
    sa.Column("display_name", _NAME, nullable=False),
    sa.Column("model_type", sa.String(50)),
    sa.Column("context_window", sa.Integer),
    sa.Column("max_tokens", sa.Integer),
    sa.Column("max_output_tokens", sa.Integer),
    sa.Column("enabled", sa.Boolean),
    sa.Column("capabilities", sa.JSON),
    sa.Column("parameters", sa.JSON),
    sa.Column("created_at", sa.DateTime),
    sa.Column("updated_at", sa.DateTime),
)
_KEY_TABLE = sa.Table(
    "llm_provider_api_keys",
    _TABLES,
    sa.Column("key_id", sa.Integer, primary_key=True),
    sa.Column("provider_id", _NAME, sa.ForeignKey("llm_providers.provider_id"), nullable=False),
    sa.Column("key_value", sa.Text, nullable=False),
    sa.Column("is_encrypted", sa.Boolean),
    sa.Column("environment", sa.String(50)),
    sa.Column("expires_at", sa.DateTime),
    sa.Column("created_at", sa.DateTime),
    sa.Column("created_by_user_id", sa.Integer),
)
_PARAMETER_TABLE = sa.Table(
    "llm_provider_connection_parameters",
    _TABLES,
    sa.Column("param_id", sa.Integer, primary_key=True),
    sa.Column("provider_id", _NAME, sa.ForeignKey("llm_providers.provider_id"), nullable=False),
    sa.Column("param_name", _NAME, nullable=False),
    sa.Column("param_value", sa.Text, nullable=False),
    sa.Column("is_sensitive", sa.Boolean),
    sa.Column("environment", sa.String(50)),
    sa.Column("created_at", sa.DateTime),
    sa.Column("updated_at", sa.DateTime),
)


@dataclass(frozen=True, slots=True)
class Ended:
    seconds: float
    peak_mb: float
    status: int
    said: str


def measure(models: int, directory: Path, say: Callable[[str], None]) -> Results:
    """Figures by `source into target`; a service that this machine lacks is said and left out."""
    directory.mkdir(parents=True, exist_ok=True)
    results: Results = {}
    for source in ("sqlite", "mariadb"):
        for target in ("postgresql", "sqlite"):
            folder = directory / f"{source}-{target}"
            folder.mkdir()
            try:
                results[f"{source} into {target}"] = _measure(source, target, models, folder, say)
            except (services.ServiceMissing, ImportFailed) as error:
                say(f"import from {source} into {target}: {error}")
    return results


class ImportFailed(Exception):
    """The command ended with a status that it should not have; the text is the end of what it said."""


def _measure(source: str, target: str, models: int, folder: Path, say: Callable[[str], None]) -> dict[str, float]:
    running = [service for service in (_service(source, folder), _service(target, folder)) if service]
    try:
        url = _url(source, running[0].url if source == "mariadb" else "", folder)
        rows = fill(url, models)
        environment = _gateway(folder, running[-1].url if target == "postgresql" else "")
        command = ["migrate_backoffice", "--source", url]
        imported = _manage([*command, "--apply"], environment)
        again = _manage([*command, "--apply"], environment)
        verified = _manage([*command, "--verify"], environment)
    finally:
        for service in running:
            service.stop()
    for ended in (imported, again, verified):
        if ended.status:
            raise ImportFailed(f"status {ended.status}: {ended.said[-600:]}")
    say(f"import of {rows:,} rows from {source} into {target}: {rows / imported.seconds:,.0f} rows/s")
    return {
        "rows": rows,
        "rows_per_second": rows / imported.seconds,
        "peak_mb": imported.peak_mb,
        "again_rows_per_second": rows / again.seconds,
        "verify_rows_per_second": rows / verified.seconds,
        "verify_peak_mb": verified.peak_mb,
    }


def _service(name: str, folder: Path) -> services.Service | None:
    start = {"mariadb": services.mariadb, "postgresql": services.postgresql}.get(name)
    return start(folder) if start else None


def _url(source: str, server_url: str, folder: Path) -> str:
    if source == "sqlite":
        return f"sqlite:///{folder / 'legacy.sqlite3'}"
    return urlunsplit(urlsplit(server_url)._replace(scheme="mysql+pymysql"))


def fill(url: str, models: int) -> int:
    """Make the legacy tables with that many models; returns how many rows there are in all."""
    engine = sa.create_engine(url)
    per_provider = models // _PROVIDERS
    with engine.begin() as connection:
        _TABLES.create_all(connection)
        connection.execute(_PROVIDER_TABLE.insert(), [_provider(number) for number in range(_PROVIDERS)])
        connection.execute(_KEY_TABLE.insert(), [_key(number) for number in range(_PROVIDERS)])
        connection.execute(_PARAMETER_TABLE.insert(), [_parameter(number) for number in range(_PROVIDERS)])
        for rows in _in_batches(_models(per_provider)):
            connection.execute(_MODEL_TABLE.insert(), rows)
    engine.dispose()
    return per_provider * _PROVIDERS + 3 * _PROVIDERS


def _provider(number: int) -> dict[str, Any]:
    return {
        "provider_id": f"provider-{number:03}",
        "provider_type": "openai_compatible",
        "display_name": f"Provider {number}",
        "enabled": True,
        "connection_params": json.dumps({"base_url": f"https://upstream-{number}.example/v1"}),
        "request_settings": json.dumps({"timeout_seconds": 60}),
        "created_at": _BEGAN,
        "updated_at": _BEGAN,
    }


def _key(number: int) -> dict[str, Any]:
    return {
        "provider_id": f"provider-{number:03}",
        "key_value": f"sk-{number:040}",
        "is_encrypted": False,
        "environment": "production",
        "created_at": _BEGAN,
    }


def _parameter(number: int) -> dict[str, Any]:
    return {
        "provider_id": f"provider-{number:03}",
        "param_name": "region",
        "param_value": f"eu-{number}",
        "is_sensitive": False,
        "environment": "production",
        "created_at": _BEGAN,
        "updated_at": _BEGAN,
    }


def _models(per_provider: int) -> Iterator[dict[str, Any]]:
    for number in range(per_provider * _PROVIDERS):
        at = _BEGAN + timedelta(seconds=number)
        yield {
            "model_id": f"vendor/model-{number:07}",
            "provider_id": f"provider-{number // per_provider:03}",
            "display_name": f"Model {number}",
            "model_type": "chat" if number % 10 else "embedding",
            "context_window": 128_000,
            "max_tokens": 4096,
            "max_output_tokens": 4096,
            "enabled": bool(number % 7),
            "capabilities": ["chat", "streaming", "tools"],
            "parameters": {"temperature": 0.7, "top_p": 1.0, "stop": ["\n"], "tier": number % 5},
            "created_at": at,
            "updated_at": at,
        }


def _in_batches(rows: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    batch = []
    for row in rows:
        batch.append(row)
        if len(batch) == _AT_ONCE:
            yield batch
            batch = []
    if batch:
        yield batch


def _gateway(folder: Path, database_url: str) -> dict[str, str]:
    """A gateway's data directory and database, empty."""
    data = folder / "gateway"
    data.mkdir()
    first_keys.create_missing(data)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
    environment |= {"GATEWAY_DATA_DIR": str(data)}
    environment.pop("DATABASE_URL", None)
    if database_url:
        environment["DATABASE_URL"] = database_url
    ended = _manage(["migrate", "--verbosity", "0"], environment)
    if ended.status:
        raise ImportFailed(ended.said[-600:])
    return environment


def _manage(arguments: list[str], environment: dict[str, str]) -> Ended:
    """Run a command to its end. Its peak of memory is its own: the kernel tells it when the process is reaped."""
    log = Path(environment["GATEWAY_DATA_DIR"]) / "said.log"
    began = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "manage.py"), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=ROOT,
        )
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.monotonic() - began
    return Ended(seconds, usage.ru_maxrss / 1024, process.returncode, log.read_text(errors="replace"))
