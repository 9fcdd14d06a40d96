"""Every route against everybody who must not be let in: no key, keys that are no good, others' objects, hosts that are not ours.

The REST routes against bad keys stand in `tests/routing/test_api_authentication.py`.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver
from django.utils import timezone
from rest_framework.test import APIClient

from inference.asgi import Application
from inference.limits import Limits
from inference.metrics import Metrics
from inference.models import Job, Trace
from inference.recording import Recorder
from routing import building, issuing, snapshot
from routing.models import Team
from tests.callers import with_key
from tests.inference.door import Client as Connection
from tests.routing.bad_keys import BAD
from tests.routing.test_api_authentication import GUARDED

pytestmark = pytest.mark.django_db

DATA_PLANE = [
    *(("POST", f"/v1/{name}") for name in ("chat/completions", "completions", "embeddings")),
    ("POST", "/v1/chat/completions/"),
    ("GET", "/v1/models"),
    ("GET", "/v1/models/fake-chat"),
]
HOSTS = ["evil.example", "localhost/api/v1/health?", "127.0.0.1/livez#", "127.0.0.1:80@evil.example", "[::1", ""]


@pytest.fixture
def refused():
    """Says that the data plane refuses these headers on every path, by the rows that are there when it is asked."""

    def everywhere(*each: tuple[tuple[bytes, bytes], ...]) -> None:
        snapshot.replace(building.build())
        asyncio.run(_ask(each))

    yield everywhere
    snapshot.replace(None)


async def _ask(each: Iterable[tuple[tuple[bytes, bytes], ...]]) -> None:
    application = Application(Limits(), Recorder(lambda rows: None, Metrics()), counters=Metrics())
    try:
        for headers in each:
            for method, path in DATA_PLANE:
                answer = await _asked(application, method, path, headers)
                assert answer.status == 401, (method, path, answer.body)
                assert answer.error["code"]
    finally:
        await application.shutdown()


async def _asked(application: Application, method: str, path: str, headers: tuple[tuple[bytes, bytes], ...]) -> Any:
    connection = Connection(b'{"model": "fake-chat", "messages": []}')
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "client": ("127.0.0.1", 5000),
        "headers": list(headers),
    }
    await application(scope, connection.receive, connection.send)
    return connection.answer


@pytest.mark.parametrize("bad", BAD)
def test_the_data_plane_answers_no_bad_key_whichever_header_carries_it(bad, refused):
    shown = BAD[bad]().encode()
    refused(((b"authorization", b"Bearer " + shown),), ((b"x-api-key", shown),), ((b"api-key", shown),))


def test_the_data_plane_answers_nobody_without_a_key_whatever_the_host(refused):
    refused((), *(((b"host", host.encode()),) for host in HOSTS))


def test_no_rest_route_answers_without_a_key_whatever_the_host():
    client = APIClient()
    for host in HOSTS:
        for method, path in GUARDED[:: 1 if host == HOSTS[1] else 9]:
            response = client.generic(method, path, b"{}", content_type="application/json", HTTP_HOST=host)
            assert response.status_code in (400, 401), (method, path, host)


def test_a_host_that_is_not_ours_opens_nothing_to_a_good_key_either():
    key = issuing.issue("tests", ["admin"])[1].reveal()
    for method, path in GUARDED[::9]:
        response = with_key(key).generic(method, path, b"{}", content_type="application/json", HTTP_HOST="evil.example")
        assert response.status_code == 400, (method, path)


def test_another_s_job_is_not_found():
    mine, theirs = (issuing.issue(name, ["generate"]) for name in ("mine", "theirs"))
    job = Job.objects.create(
        owner=theirs[0].prefix, request={"prompt_content": "hello"}, operation="chat", model="fake-chat"
    )
    assert with_key(theirs[1].reveal()).get(f"/api/v1/jobs/{job.pk}").status_code == 200
    client = with_key(mine[1].reveal())
    for method, end in (("GET", ""), ("GET", "/events"), ("POST", "/cancel")):
        response = client.generic(method, f"/api/v1/jobs/{job.pk}{end}", b"{}", content_type="application/json")
        assert response.status_code == 404, end
        assert "hello" not in response.content.decode()


def test_another_s_client_key_is_not_found_by_the_admin_key_of_a_team():
    one, other = (Team.objects.create(name=name) for name in ("one", "other"))
    key = issuing.issue("mine", ["admin"], team=one)[1].reveal()
    theirs, _ = issuing.issue("theirs", ["generate"], team=other)
    for method, end in (
        ("GET", ""),
        ("PATCH", ""),
        ("PUT", ""),
        ("DELETE", ""),
        *(("POST", f"/{verb}") for verb in VERBS),
    ):
        response = with_key(key).generic(
            method, f"/api/v1/client-keys/{theirs.pk}{end}", b'{"reason": "x"}', content_type="application/json"
        )
        assert response.status_code == 404, (method, end)


VERBS = ("rotate", "suspend", "resume", "revoke")


def test_another_s_trace_is_not_found():
    mine, theirs = (issuing.issue(name, ["generate"]) for name in ("mine", "theirs"))
    told = {"request_id": "req_theirs", "operation": "chat", "status": 200, "at": timezone.now()}
    Trace.objects.create(**told, client_key_id=theirs[0].pk, client_key_prefix=theirs[0].prefix)
    assert with_key(theirs[1].reveal()).get("/api/v1/traces/req_theirs").status_code == 200
    client = with_key(mine[1].reveal())
    for path in ("/api/v1/traces/req_theirs", "/api/v1/traces/req_theirs/content"):
        assert client.get(path).status_code in (403, 404)
    assert "req_theirs" not in client.get("/api/v1/traces").content.decode()


def admin_paths() -> list[str]:
    """Every page of the admin, with numbers for what it asks for."""

    def walk(patterns: list, prefix: str):
        for pattern in patterns:
            path = prefix + str(pattern.pattern)
            if isinstance(pattern, URLResolver):
                yield from walk(pattern.url_patterns, path)
            elif isinstance(pattern, URLPattern):
                yield path

    found = {re.sub(r"<[^>]*>|\(\?P<\w+>[^)]*\)", "1", path) for path in walk(get_resolver().url_patterns, "/")}
    return sorted(re.sub(r"[\^$]|\\Z", "", path) for path in found if path.startswith("/admin/"))


OPEN_PAGES = (
    "/admin/login/",
    "/admin/jsi18n/",
    "/admin/first-login",
    "/admin/logout/",
    "/admin/accounts",
    "/admin/sso",
)


def test_no_page_of_the_admin_opens_to_strangers_to_keys_or_to_users_without_a_role():
    key = issuing.issue("tests", ["admin"])[1].reveal()
    nobody = Client()
    nobody.force_login(get_user_model()._default_manager.create_user("eve"))
    pages = [path for path in admin_paths() if not path.startswith(OPEN_PAGES)]
    assert len(pages) > 60
    for number, path in enumerate(pages):
        client = nobody if number % 5 == 0 else Client()
        response = client.get(path, headers={"Authorization": f"Bearer {key}"})
        assert response.status_code in (302, 403, 404, 405), path
        assert response.status_code != 302 or "login" in response["Location"], (path, response["Location"])
