"""The switch in two web processes of one installation: thrown anywhere, followed by both, without a restart."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway_project import first_keys
from gateway_project.serving import free_port
from routing import snapshot
from tests import services
from tests.conftest import DATABASE
from tests.inference.legacy_server import LegacyServer, answer

pytestmark = pytest.mark.xdist_group("forwarding_processes")

ROOT = Path(__file__).resolve().parents[2]
FOLLOWS_WITHIN_SECONDS = 2.0
"""As promised; a machine that stops in the meantime is given more."""
PATIENCE_SECONDS = 60.0
LEGACY_TOKEN = "token-of-the-legacy-system"
PREPARE = """
import django
django.setup()
from django.core.management import call_command
call_command("migrate", verbosity=0)
from providers.models import Provider, ProviderModel
from routing import issuing
provider = Provider.objects.create(provider_id="fake", provider_type="fake")
ProviderModel.objects.create(provider=provider, model_id="fake-chat", input_cost_per_million=1, output_cost_per_million=2)
print("KEY", issuing.issue("test", ["generate", "admin"])[1].reveal())
"""


@dataclass
class Answered:
    status: int
    side: str
    body: bytes


class Installation:
    """A data directory and a database of their own, and two web processes on them."""

    def __init__(self, folder: Path, redis_url: str) -> None:
        first_keys.create_missing(folder)
        self._database = services.postgresql(folder) if DATABASE == "postgresql" else None
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
        self.environment |= {"GATEWAY_DATA_DIR": str(folder), "REDIS_URL": redis_url, "PYTHONPATH": str(ROOT)}
        self.environment.pop("DATABASE_URL", None)
        if self._database is not None:
            self.environment["DATABASE_URL"] = self._database.url
        (folder / "static").mkdir(exist_ok=True)
        self.environment["DJANGO_SETTINGS_MODULE"] = "gateway_project.settings"
        said = self._run("-c", PREPARE)
        self.key = next(line.split()[1] for line in said.splitlines() if line.startswith("KEY"))
        self.ports = [free_port("127.0.0.1") for _ in range(2)]
        self.processes = [self._serve(port) for port in self.ports]
        assert _eventually(
            lambda: all(self.get(port, "/readyz").status == 200 for port in self.ports), 3 * PATIENCE_SECONDS
        )

    def cutover(self, *arguments: str) -> None:
        self._run("manage.py", "cutover", *arguments)

    def part(self, **changes: object) -> None:
        """By the first process's API; the second learns of it."""
        headers = {"content-type": "application/json"} | _bearer(self.key)
        url = f"http://127.0.0.1:{self.ports[0]}/api/v1/rollout"
        done = _call(urllib.request.Request(url, json.dumps(changes).encode(), headers, method="PATCH"))
        assert done.status == 200, done.body

    def _run(self, *arguments: str) -> str:
        command = [sys.executable, *arguments]
        done = subprocess.run(command, cwd=ROOT, env=self.environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def _serve(self, port: int) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "gateway_project.server", "--port", str(port)]
        return subprocess.Popen(
            command, cwd=ROOT, env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def stop(self) -> None:
        for process in self.processes:
            process.send_signal(signal.SIGTERM)
        for process in self.processes:
            process.wait(PATIENCE_SECONDS)
        if self._database is not None:
            self._database.stop()

    def get(self, port: int, path: str, key: str = "") -> Answered:
        return _call(urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=_bearer(key)))

    def chat(self, port: int, key: str) -> Answered:
        body = json.dumps({"model": "fake-chat", "messages": [{"role": "user", "content": "hi"}]}).encode()
        headers = {"content-type": "application/json"} | _bearer(key)
        return _call(urllib.request.Request(f"http://127.0.0.1:{port}/v1/chat/completions", body, headers))

    def sides(self, key: str) -> set[str]:
        return {self.chat(port, key).side for port in self.ports}


def _bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"} if key else {}


def _call(request: urllib.request.Request) -> Answered:
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as reply:
            return Answered(reply.status, reply.headers.get("x-gateway-side", "gateway"), reply.read())
    except urllib.error.HTTPError as error:
        with error:
            return Answered(error.code, error.headers.get("x-gateway-side", "gateway"), error.read())
    except OSError:
        return Answered(0, "", b"")


def _eventually(condition: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


@pytest.fixture(scope="module")
def installation(tmp_path_factory, redis_url) -> Iterator[Installation]:
    with contextlib.ExitStack() as closing:
        made = Installation(tmp_path_factory.mktemp("installation"), redis_url)
        closing.callback(made.stop)
        yield made


@pytest.fixture
def legacy():
    with LegacyServer() as server:
        yield server


def test_who_hears_of_no_change_looks_in_the_time_that_is_promised():
    assert 2 * snapshot.POLL_SECONDS <= FOLLOWS_WITHIN_SECONDS


def test_both_processes_follow_the_share_and_the_switch_without_a_restart(installation, legacy):
    key = installation.key
    assert installation.sides(key) == {"gateway"}

    def moved(side: str) -> bool:
        return _eventually(lambda: installation.sides(key) == {side})

    installation.part(legacy_base_url=legacy.url, percentage=0)
    assert moved("legacy")
    installation.part(percentage=100)
    assert moved("gateway")
    installation.cutover("--stop", "--reason", "errors")
    assert moved("legacy")
    installation.part(gateway_enabled=True)
    assert moved("gateway")


def test_a_client_of_the_legacy_system_is_served_there_with_its_own_token(installation, legacy):
    installation.part(legacy_base_url=legacy.url, percentage=0)
    assert _eventually(lambda: installation.sides(LEGACY_TOKEN) == {"legacy"})
    assert {tuple(request.values(b"authorization")) for request in legacy.requests} == {
        (f"Bearer {LEGACY_TOKEN}".encode(),)
    }


def test_the_old_registry_and_the_operator_s_paths_stay_here_until_the_switch_is_thrown(installation, legacy):
    port = installation.ports[0]
    installation.part(legacy_base_url=legacy.url, percentage=0)
    assert _eventually(lambda: installation.sides(LEGACY_TOKEN) == {"legacy"})
    assert installation.get(port, "/api/providers", installation.key).side == "gateway"
    installation.part(gateway_enabled=False)
    assert _eventually(lambda: installation.get(port, "/api/providers", installation.key).side == "legacy")
    assert installation.get(port, "/api/v1/rollout", installation.key).side == "gateway"
    assert installation.get(port, "/livez").side == "gateway"
    installation.part(gateway_enabled=True)


def test_a_legacy_side_that_is_away_is_never_replaced_by_this_one(installation):
    with LegacyServer() as gone:
        url = gone.url
    installation.part(legacy_base_url=url, percentage=0)
    assert _eventually(lambda: {installation.chat(port, LEGACY_TOKEN).status for port in installation.ports} == {502})


def test_both_sides_figures_are_in_the_database(installation, legacy):
    legacy.replies += [answer(b'{"usage":{"prompt_tokens":1000000,"completion_tokens":0}}')] * 50
    installation.part(legacy_base_url=legacy.url, percentage=0)
    assert _eventually(lambda: installation.sides(LEGACY_TOKEN) == {"legacy"})
    installation.part(percentage=100)
    assert _eventually(lambda: installation.sides(installation.key) == {"gateway"})

    def told() -> dict[str, dict]:
        return json.loads(installation.get(installation.ports[0], "/api/v1/rollout/figures", installation.key).body)

    assert _eventually(lambda: told()["legacy"]["input_tokens"] >= 1_000_000)
    assert float(told()["legacy"]["costs"]["USD"]) >= 1
    assert _eventually(lambda: told()["gateway"]["requests"] > 0)
