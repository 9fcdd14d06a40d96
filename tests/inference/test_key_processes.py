"""A client key in two web processes of one installation: what happens to it anywhere counts in both."""

from __future__ import annotations

import contextlib
import json
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from tests.inference.test_forwarding_processes import Installation, _bearer, _call, _eventually

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def installation(tmp_path_factory, redis_url) -> Iterator[Installation]:
    with contextlib.ExitStack() as closing:
        made = Installation(tmp_path_factory.mktemp("installation"), redis_url)
        closing.callback(made.stop)
        yield made


def asked(installation: Installation, method: str, path: str, body: Any) -> dict[str, Any]:
    """Of the first process; the second learns of it."""
    headers = {"content-type": "application/json"} | _bearer(installation.key)
    url = f"http://127.0.0.1:{installation.ports[0]}/api/v1/{path}"
    answer = _call(urllib.request.Request(url, json.dumps(body).encode(), headers, method=method))
    assert answer.status in (200, 201), answer.body
    return json.loads(answer.body)


def test_every_change_of_a_key_counts_in_both_processes(installation):
    def statuses(key: str) -> set[int]:
        return {installation.chat(port, key).status for port in installation.ports}

    def become(key: str, status: int) -> bool:
        return _eventually(lambda: statuses(key) == {status})

    team = asked(installation, "POST", "teams", {"name": "research"})
    made = asked(installation, "POST", "client-keys", {"name": "app", "scopes": ["generate"], "team": "research"})
    key, path = made["key"], f"client-keys/{made['id']}"
    assert become(key, 200)
    asked(installation, "POST", f"{path}/suspend", {})
    assert become(key, 401)
    asked(installation, "POST", f"{path}/resume", {})
    assert become(key, 200)
    asked(installation, "PATCH", f"teams/{team['id']}", {"enabled": False})
    assert become(key, 401)
    asked(installation, "PATCH", f"teams/{team['id']}", {"enabled": True})
    assert become(key, 200)
    newer = asked(installation, "POST", f"{path}/rotate", {"overlap_seconds": 3600})["key"]
    assert become(newer, 200)
    assert statuses(key) == {200}
    newest = asked(installation, "POST", f"{path}/rotate", {})["key"]
    assert become(newest, 200)
    assert become(key, 401)
    assert become(newer, 401)
    asked(installation, "PATCH", path, {"allowed_models": ["others"]})
    assert become(newest, 404)
    asked(installation, "PATCH", path, {"allowed_models": None, "ip_ranges": ["192.0.2.0/24"]})
    assert become(newest, 401)
    asked(installation, "PATCH", path, {"ip_ranges": ["127.0.0.0/8"]})
    assert become(newest, 200)
    asked(installation, "POST", f"{path}/revoke", {"reason": "leaked"})
    assert become(newest, 401)
    row = _call(
        urllib.request.Request(
            f"http://127.0.0.1:{installation.ports[1]}/api/v1/{path}", headers=_bearer(installation.key)
        )
    )
    assert json.loads(row.body)["state"] == "revoked"
