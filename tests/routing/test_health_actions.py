from datetime import timedelta

import pytest
from django.test.utils import override_settings
from django.utils import timezone

from providers import actions, actor, breaker_settings
from providers.breaker_settings import DEFAULTS
from providers.models import ApiKey, AuditEntry, ProbeResult, ProviderModel
from routing import building, health, health_actions, key_exhaustion, shared_health, snapshot, tasks
from routing.breakers import Step
from routing.shared_health import KEYS
from tests.callers import caller

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _fresh():
    health.replace(None)
    snapshot.replace(None)
    yield
    snapshot.replace(None)


@pytest.fixture
def provider():
    made = actions.create_provider({"provider_id": "p", "provider_type": "openai"}, models=[{"model_id": "org/m"}])
    made.breaker = {"auto_disable_after": 5}
    made.save()
    return made


@pytest.fixture
def fail(redis_url):
    def told(route="p/org/m", times=6):
        step = Step(route, "bad", DEFAULTS, count=times, code="upstream_error")
        shared_health.ask(redis_url, shared_health.steps([step]))

    return told


def the_model():
    return ProviderModel.objects.get()


def disabled_an_hour_ago():
    row = the_model()
    row.auto_disabled_at, row.auto_disabled_reason = timezone.now() - timedelta(hours=1), "6 failures in a row"
    row.save()


def test_the_sixth_failure_in_a_row_disables_where_five_are_borne(provider, fail):
    fail(times=5)
    assert health_actions.disable_failing() == []
    fail(times=1)
    assert tasks.disable_failing_models() == 1
    row = the_model()
    assert row.enabled
    assert row.auto_disabled_reason == "6 failures in a row, the last one upstream_error"
    assert building.build().models[0].auto_disabled == row.auto_disabled_reason
    assert tasks.disable_failing_models() == 0


def test_what_is_changed_of_a_model_while_it_is_disabled_stays_changed(provider, fail, monkeypatch):
    read = breaker_settings.read

    def switched_off_meanwhile(*numbers):
        ProviderModel.objects.update(enabled=False)
        return read(*numbers)

    monkeypatch.setattr(breaker_settings, "read", switched_off_meanwhile)
    fail()
    assert health_actions.disable_failing() == ["p/org/m"]
    assert not the_model().enabled


def test_it_is_audited_as_the_system_s_doing(provider, fail):
    fail()
    health_actions.disable_failing()
    entry = AuditEntry.objects.first()
    assert (entry.actor, entry.target_id) == ("system", "p:org/m")
    assert entry.before["auto_disabled_at"] is None
    assert entry.after["auto_disabled_reason"]


def test_without_a_number_nothing_is_disabled(provider, fail):
    actions.update_provider(provider, {"breaker": {}})
    provider.breaker = {}
    provider.save()
    fail(times=100)
    assert health_actions.disable_failing() == []


@pytest.mark.parametrize(("healthy", "at", "back"), [(True, 0, True), (False, 0, False), (True, -7200, False)])
def test_a_good_probe_that_began_later_puts_it_back(
    provider, fail, healthy, at, back, django_capture_on_commit_callbacks
):
    fail()
    disabled_an_hour_ago()
    when = timezone.now() + timedelta(seconds=at)
    result = ProbeResult.objects.create(provider=provider, healthy=healthy, duration_ms=5, at=when)
    with django_capture_on_commit_callbacks(execute=True):
        health_actions.after_probe(result)
    assert (the_model().auto_disabled_at is None) is back
    assert (health.read().of("p/org/m").breaker == "closed") is back


@pytest.mark.parametrize(("tested", "state"), [("org/m", "closed"), ("", "open")])
def test_the_model_that_answered_a_probe_is_asked_again_at_once(provider, fail, tested, state):
    fail()
    result = ProbeResult.objects.create(provider=provider, healthy=True, duration_ms=5, model_tested=tested)
    health_actions.after_probe(result)
    assert health.read().of("p/org/m").breaker == state


def test_a_reset_closes_the_breakers_and_frees_the_keys_of_a_provider(provider, fail, redis_url):
    key = ApiKey.objects.create(provider=provider, secret="sk-a")
    resting = key_exhaustion.after(key_exhaustion.WORKS, "insufficient_quota", None, "p", "", health.current().now())
    document = {str(key.pk): key_exhaustion.as_document(resting)}
    shared_health.ask(redis_url, shared_health.put(KEYS, document))
    fail()
    with actor.acting_as("user:ada"):
        done = health_actions.reset("p")
    assert (done.routes, done.keys) == (("p/org/m",), (key.pk,))
    seen = health.look()
    assert seen.conditions().of("p/org/m").breaker == "closed"
    assert not seen.key_is_exhausted(key.pk, 0)
    entry = AuditEntry.objects.first()
    assert (entry.actor, entry.action, entry.target_id) == ("user:ada", "reset", "p")
    assert entry.before["breakers"]["p/org/m"]["state"] == "open"


def test_breakers_over_rest(provider, fail):
    fail()
    shown = caller("registry:read").get("/api/v1/breakers").json()
    [row] = shown["breakers"]
    assert (row["provider_id"], row["model_id"], row["state"], row["failure_count"]) == ("p", "org/m", "open", 6)
    assert row["last_failure_code"] == "upstream_error"
    assert row["retry_at"] > row["opened_at"]
    assert shown["exhausted_keys"] == []
    body = {"provider_id": "p", "model_id": "org/m"}
    assert caller("registry:read").post("/api/v1/breakers/reset", body, format="json").status_code == 403
    reset = caller("registry:write").post("/api/v1/breakers/reset", body | {"reason": "mended"}, format="json")
    assert reset.json() == {"reset": ["p/org/m"], "keys": []}
    assert AuditEntry.objects.first().reason == "mended"
    assert health.read().of("p/org/m").breaker == "closed"


def test_a_model_is_enabled_again_over_rest(provider, django_capture_on_commit_callbacks):
    disabled_an_hour_ago()
    [row] = caller("registry:read").get("/api/v1/breakers").json()["breakers"]
    assert (row["state"], row["auto_disabled_reason"]) == ("auto_disabled", "6 failures in a row")
    body = {"provider_id": "p", "model_id": "org/m"}
    with django_capture_on_commit_callbacks(execute=True):
        told = caller("registry:write").post("/api/v1/breakers/enable", body | {"reason": "mended"}, format="json")
    assert told.json() == {"enabled": ["p/org/m"]}
    assert AuditEntry.objects.first().reason == "mended"
    assert the_model().auto_disabled_at is None


@pytest.mark.parametrize("path", ["/api/v1/breakers/reset", "/api/v1/breakers/enable"])
def test_what_is_not_there_is_not_found(provider, path):
    body = {"provider_id": "p", "model_id": "nothing"}
    assert caller("registry:write").post(path, body, format="json").status_code == 404


def test_a_reset_that_the_others_cannot_hear_of_says_so(provider):
    with override_settings(REDIS_URL="redis://127.0.0.1:1/0"):
        told = caller("registry:write").post("/api/v1/breakers/reset", {"provider_id": "p"}, format="json")
        shown = caller("registry:read").get("/api/v1/breakers")
    assert told.status_code == 503
    assert "Redis" in told.json()["detail"]
    assert shown.status_code == 200
    assert not AuditEntry.objects.filter(action="reset").exists()
