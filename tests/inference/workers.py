"""Real Celery workers for tests: separate processes on this run's Redis and database, killed and restarted at will.

They know a provider type of the test's own, `fake_in_worker`: the scripted fake, declared to run in a worker. It comes in the
way any plugin would, as a package with an entry point on the path.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from asgiref.sync import sync_to_async
from django.db import connection, connections

from providers import provider_types
from providers.models import Provider, ProviderModel, RegistryRevision
from routing import issuing, snapshot

ROOT = Path(__file__).resolve().parents[2]
TYPE = "fake_in_worker"
_PLUGIN = """
from providers.provider_types import ProviderType

TYPE = ProviderType(
    name="fake_in_worker",
    label="Fake in a worker",
    backend="inference.backends.fake.Fake",
    runs_in="worker",
    free=True,
    capabilities=frozenset({"chat", "embedding"}),
)
"""


@contextmanager
def plugin(folder: Path) -> Iterator[Path]:
    """The type `fake_in_worker`, known to this process; the folder on the path makes it known to others."""
    (folder / "gateway_test_plugin.py").write_text(_PLUGIN)
    info = folder / "gateway_test_plugin-1.0.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: gateway-test-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{provider_types.ENTRY_POINT}]\n{TYPE} = gateway_test_plugin:TYPE\n")
    sys.path.insert(0, str(folder))
    provider_types.registered.cache_clear()
    try:
        yield folder
    finally:
        sys.path.remove(str(folder))
        provider_types.registered.cache_clear()


class Worker:
    """`celery worker` in a process of its own, on the database that this test uses."""

    def __init__(self, plugins: Path, log: Path, queues: str = "llama_cpp", concurrency: int = 8) -> None:
        self._plugins = plugins
        self._queues = queues
        self._concurrency = concurrency
        self.log = log
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> Worker:
        command = [sys.executable, "-m", "celery", "-A", "gateway_project.celery:app", "worker", "--pool", "threads"]
        command += ["--concurrency", str(self._concurrency), "--queues", self._queues, "--hostname", f"{id(self)}@test"]
        command += ["--without-gossip", "--without-mingle", "--loglevel", "INFO"]
        path = os.pathsep.join([str(self._plugins), *filter(None, [os.environ.get("PYTHONPATH")])])
        environment = {**os.environ, "PYTHONPATH": path, "DATABASE_URL": database_url()}
        began = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        deadline = time.monotonic() + 180
        while b" ready." not in self.log.read_bytes()[began:]:
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"the worker did not start:\n{self.log.read_text()[-3000:]}")
            time.sleep(0.05)
        return self

    @property
    def runs(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def kill(self) -> None:
        """SIGKILL: no goodbye."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def stop(self) -> None:
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self.kill()

    def said(self, text: str) -> bool:
        return text in self.log.read_text()


def database_url() -> str:
    facts = connection.settings_dict
    if connection.vendor == "sqlite":
        return f"sqlite:///{facts['NAME']}"
    user, host = quote(facts["USER"] or ""), facts["HOST"] or "127.0.0.1"
    password = f":{quote(facts['PASSWORD'])}" if facts["PASSWORD"] else ""
    return f"postgresql://{user}{password}@{host}:{facts['PORT'] or 5432}/{facts['NAME']}"


def fresh_registry() -> None:
    """Emptied tables begin at revision 0 again: make each test's revisions new to the workers that live through them."""
    RegistryRevision.objects.update_or_create(pk=1, defaults={"number": time.time_ns() // 1000})
    snapshot.replace(None)


def add_provider(provider_id: str = "local", kind: str = TYPE, priority: int = 1, **params: Any) -> Provider:
    provider = Provider(provider_id=provider_id, provider_type=kind, priority=priority, connection_params=params)
    provider.save()
    return provider


def add_model(provider: Provider, model_id: str = "words", model_type: str = "chat", **facts: Any) -> ProviderModel:
    model = ProviderModel(provider=provider, model_id=model_id, display_name=model_id, model_type=model_type, **facts)
    model.save()
    return model


def client_key(*scopes: str, name: str = "tests", **facts: Any) -> tuple[str, str]:
    """Prefix and secret."""
    row, secret = issuing.issue(name, scopes or ("generate",), **facts)
    return row.prefix, secret.reveal()


def eventually(condition: Any, seconds: float = 60.0) -> bool:
    """Poll for something that another process does."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return bool(condition())


async def aside(work: Any, *args: Any) -> Any:
    """`asyncio.to_thread` for what uses the database: the thread's connection ends with the work."""

    def closing() -> Any:
        try:
            return work(*args)
        finally:
            connections.close_all()

    return await asyncio.to_thread(closing)


async def close_async_connection() -> None:
    """The one that Django's asynchronous ORM used."""
    await sync_to_async(connections.close_all)()
