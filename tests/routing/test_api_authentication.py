import re

import pytest
from django.urls import URLPattern, URLResolver, get_resolver, resolve
from rest_framework.response import Response
from rest_framework.test import APIClient, APIRequestFactory
from rest_framework.views import APIView

from providers import actions, actor
from routing import issuing
from routing.client_keys import SCOPES
from routing.models import ClientKey
from tests.callers import caller, with_key
from tests.routing.bad_keys import BAD

pytestmark = pytest.mark.django_db

OPEN = {"/api/schema", "/api/docs", "/api/v1/health", "/metrics", "/api/chat/capabilities"}
"""Answer without a key: the schema and the words for capabilities hold no data, health names no provider, metrics are a setting."""


def api_views():
    """Every route that a DRF view serves, with its view, as the resolver knows them."""

    def walk(patterns, prefix):
        for pattern in patterns:
            path = prefix + str(pattern.pattern)
            if isinstance(pattern, URLResolver):
                yield from walk(pattern.url_patterns, path)
            elif isinstance(pattern, URLPattern):
                view = getattr(pattern.callback, "cls", None) or getattr(pattern.callback, "view_class", None)
                if hasattr(view, "get_permissions") or path.lstrip("^").startswith(("api/", "providers")):
                    yield path, pattern.callback, view

    return list(walk(get_resolver().url_patterns, ""))


EXAMPLES = {"pk": "1", "key_id": "1", "number": "1", "job_id": "00000000-0000-4000-8000-000000000000"}


def a_path(regex):
    """A path that the route matches."""
    path = re.sub(
        r"\(\?P<(\w+)>(?:[^()]|\((?:[^()]|\([^()]*\))*\))*\)", lambda match: EXAMPLES.get(match[1], "x"), regex
    )
    path = "/" + re.sub(r"\\Z|[\^$]|/\?", "", path).lstrip("/")
    resolve(path)
    return path


def methods_of(callback, view):
    actions_of = getattr(callback, "actions", None)
    if actions_of:
        return sorted(method.upper() for method in actions_of)
    return [name.upper() for name in ("get", "post", "put", "patch", "delete") if hasattr(view, name)]


ROUTES = sorted(
    {
        (method, a_path(path))
        for path, callback, view in api_views()
        for method in methods_of(callback, view)
        if method not in {"HEAD", "OPTIONS"}
    }
)
GUARDED = [route for route in ROUTES if route[1] not in OPEN]


def test_the_walk_found_the_api():
    assert {("GET", "/providers"), ("DELETE", "/providers/x"), ("GET", "/api/v1/audit")} <= set(GUARDED)
    assert {("POST", "/api/v1/client-keys"), ("GET", "/api/providers/x/api-keys/1/value")} <= set(GUARDED)
    assert len(GUARDED) > 60


def test_no_route_answers_without_a_key():
    client = APIClient()
    for method, path in GUARDED:
        response = client.generic(method, path, b"{}", content_type="application/json")
        assert response.status_code == 401, (method, path)
        assert response["WWW-Authenticate"] == 'Bearer realm="llm-gateway"'
        kind = "application/json" if path.startswith("/v1/") else "application/problem+json"  # as its clients expect
        assert response["Content-Type"] == kind


@pytest.mark.parametrize("bad", BAD)
def test_no_route_answers_a_bad_key(bad):
    client = with_key(BAD[bad]())
    # One function decides for all routes: the promised states meet every route, the others a share of them, each another one.
    others = list(BAD).index(bad)
    for method, path in GUARDED if bad in ("wrong", "revoked", "expired") else GUARDED[others :: len(BAD)]:
        response = client.generic(method, path, b"{}", content_type="application/json")
        assert response.status_code == 401, (method, path)
        assert response["WWW-Authenticate"]


def test_a_generation_key_has_no_business_in_the_registry():
    client = caller("generate")
    for method, path in GUARDED:
        if not path.startswith(("/providers", "/api/providers", "/api/v1/")) or not is_registry(path):
            continue
        response = client.generic(method, path, b"{}", content_type="application/json")
        assert response.status_code == 403, (method, path)
        assert response.json()["code"] == "insufficient_scope" or "scope" in response.json()["detail"]


def test_a_reading_key_cannot_write():
    client = caller("registry:read")
    for method, path in GUARDED:
        if method != "GET" and is_registry(path):
            response = client.generic(method, path, b"{}", content_type="application/json")
            assert response.status_code == 403, (method, path)


def test_only_admins_reach_client_keys_and_the_audit_log():
    client = caller(*(scope for scope in SCOPES if scope != "admin"))
    for method, path in GUARDED:
        if path.startswith(("/api/v1/client-keys", "/api/v1/audit")):
            response = client.generic(method, path, b"{}", content_type="application/json")
            assert response.status_code == 403, (method, path)


def test_a_registry_key_cannot_generate():
    client = caller("registry:read", "registry:write", "secrets:read")
    generating = [route for route in GUARDED if "generate" in route[1] or "/jobs" in route[1]]
    assert len(generating) > 4
    for method, path in generating:
        response = client.generic(method, path, b"{}", content_type="application/json")
        assert response.status_code == 403, (method, path)


def is_registry(path):
    if path.startswith(("/providers", "/api/providers")):
        return True
    resources = (
        "providers",
        "provider-models",
        "provider-types",
        "api-keys",
        "connection-parameters",
        "probes",
        "audit",
    )
    return path.startswith(tuple(f"/api/v1/{name}" for name in (*resources, "client-keys")))


@pytest.mark.parametrize(
    "path", ["/providers/p/nothing", "/api/v1/nothing", "/api/nothing", "/api/v1/provider-models/abc"]
)
def test_paths_that_lead_nowhere_answer_in_json(path):
    response = APIClient().get(path)
    assert response.status_code == 404
    assert response["Content-Type"] == "application/problem+json"
    assert response.json()["status"] == 404
    assert response.json()["request_id"] == response["X-Request-Id"]


def test_a_program_at_a_wrong_base_url_gets_json_and_a_person_a_page():
    wrong = "/chat/completions"
    assert APIClient().post(wrong)["Content-Type"] == "application/problem+json"
    page = APIClient().get(wrong, headers={"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
    assert (page.status_code, page["Content-Type"]) == (404, "text/html; charset=utf-8")


def test_a_host_that_is_not_ours_is_refused_in_json():
    response = APIClient().get("/providers", headers={"Host": "evil.example"})
    assert response.status_code == 400
    assert response["Content-Type"] == "application/problem+json"
    assert "evil" not in response.content.decode()


def test_an_error_of_ours_answers_in_json_and_tells_nothing(monkeypatch):
    from providers.models import Provider

    def broken(*args, **kwargs):
        raise RuntimeError("canary")

    client = caller("admin")
    client.raise_request_exception = False
    monkeypatch.setattr(Provider.objects, "prefetch_related", broken)
    response = client.get("/providers")
    assert response.status_code == 500
    assert response["Content-Type"] == "application/problem+json"
    assert "canary" not in response.content.decode()


def test_a_session_of_the_admin_opens_nothing(admin_client):
    assert admin_client.get("/providers").status_code == 401


@pytest.mark.parametrize("header", ["HTTP_X_API_KEY", "HTTP_API_KEY"])
def test_other_headers_carry_the_key_as_well(header):
    _, secret = issuing.issue("tests", ["registry:read"])
    client = APIClient()
    assert client.get("/providers", **{header: secret.reveal()}).status_code == 200
    assert client.get("/api/v1/client-keys", **{header: secret.reveal()}).status_code == 403
    assert client.get("/providers", **{header: "gw-000000000000-x"}).status_code == 401


def test_two_different_keys_are_refused():
    _, one = issuing.issue("one", ["registry:read"])
    _, two = issuing.issue("two", ["admin"])
    client = with_key(one.reveal())
    assert client.get("/providers", HTTP_X_API_KEY=two.reveal()).status_code == 401
    assert client.get("/providers", HTTP_X_API_KEY=one.reveal()).status_code == 200


@pytest.mark.parametrize(
    "authorization",
    ["Basic Z3c6eA==", "Bearer", "Bearer  ", "Bearer \xe9\xf1", "Bearer " + "x" * 2000, "gw-1", "Bearer a b"],
)
def test_odd_authorization_headers_are_401(authorization):
    client = APIClient()
    assert client.get("/providers", HTTP_AUTHORIZATION=authorization).status_code == 401


def test_a_key_works_from_its_issue_until_its_revocation():
    row, secret = issuing.issue("tests", ["registry:read"])
    client = with_key(secret.reveal())
    assert client.get("/providers").status_code == 200
    row.enabled = False
    row.save()
    assert client.get("/providers").status_code == 401


def test_a_key_that_lost_a_scope_loses_it_at_once():
    row, secret = issuing.issue("tests", ["registry:read", "registry:write"])
    client = with_key(secret.reveal())
    row.scopes = ["registry:read"]
    row.save()
    assert client.post("/providers", {}).status_code == 403


def test_the_answer_does_not_say_which_part_of_a_key_was_wrong():
    _, secret = issuing.issue("tests", ["admin"])
    known_prefix = with_key(secret.reveal()[:16] + "x" * 43).get("/providers").json()
    unknown_prefix = with_key("gw-000000000000-" + "x" * 43).get("/providers").json()
    assert known_prefix["detail"] == unknown_prefix["detail"]


def test_a_view_that_declares_no_scope_answers_nobody():
    class Careless(APIView):
        def get(self, request):
            return Response("secrets")

    _, secret = issuing.issue("tests", ["admin"])
    request = APIRequestFactory().get("/", HTTP_AUTHORIZATION=f"Bearer {secret.reveal()}")
    with actor.acting_as("anonymous"):
        assert Careless.as_view()(request).status_code == 403


def test_a_method_that_the_view_lacks_is_405_for_those_who_may_read():
    assert caller("registry:read").patch("/providers", {}).status_code == 405
    assert caller("generate").patch("/providers", {}).status_code == 403


def test_a_write_does_not_leave_its_actor_to_the_next_request():
    actions.create_provider({"provider_id": "p", "provider_type": "openai"})
    client = caller("admin")
    assert client.put("/providers/p", {"enabled": False}).status_code == 200
    assert actor.current().name == "system"
    assert ClientKey.objects.count() == 1
