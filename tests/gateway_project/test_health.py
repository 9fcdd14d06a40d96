import pytest
from django.db import OperationalError, connection
from django.test.utils import override_settings
from django.utils import timezone
from rest_framework.test import APIClient

from providers import actions, revision
from providers.breaker_settings import DEFAULTS
from providers.models import ProbeResult, Provider
from routing import building, health, issuing, shared_health, snapshot
from routing.breakers import Step
from tests.callers import caller, with_key

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _fresh_snapshot():
    snapshot.replace(None)
    health.replace(None)
    yield
    snapshot.replace(None)


@pytest.fixture
def openai():
    models = [{"model_id": "a"}, {"model_id": "b"}, {"model_id": "off", "enabled": False}]
    return actions.create_provider({"provider_id": "openai", "provider_type": "openai"}, models=models)


def probed(provider, *outcomes):
    for number, healthy in enumerate(outcomes):
        at = timezone.now() + timezone.timedelta(seconds=number)
        ProbeResult.objects.create(provider=provider, healthy=healthy, duration_ms=12.5, at=at)


def fail(redis_url, route, times):
    step = Step(route, "bad", DEFAULTS, count=times, code="upstream_error")
    shared_health.ask(redis_url, shared_health.steps([step]))


def test_alive_is_said_without_asking_anything(client, django_assert_num_queries):
    with django_assert_num_queries(0):
        assert client.get("/livez").json() == {"status": "ok"}


def test_ready_tells_revision_age_and_queues(client, openai):
    ready = client.get("/readyz")
    assert ready.status_code == 200
    body = ready.json()
    assert body["status"] == "ready"
    assert body["snapshot"]["revision"] == body["database"]["revision"] == revision.current()
    assert body["snapshot"]["age_seconds"] >= 0
    assert body["redis"]["queues"] == {"housekeeping": 0, "generation": 0, "probes": 0, "llama_cpp": 0}


def test_without_redis_the_gateway_is_ready_but_degraded(client):
    with override_settings(REDIS_URL="redis://127.0.0.1:1/0"):
        ready = client.get("/readyz")
    assert ready.status_code == 200
    assert ready.json()["status"] == "degraded"
    assert ready.json()["redis"]["ok"] is False
    assert "127.0.0.1" not in ready.content.decode()


def test_without_a_first_snapshot_it_is_not_ready(client):
    with connection.execute_wrapper(_broken):
        ready = client.get("/readyz")
    assert ready.status_code == 503
    assert ready.json()["status"] == "not ready"


def _broken(execute, sql, params, many, context):
    from django.db import OperationalError

    raise OperationalError("the database is away")


@pytest.mark.parametrize("path", ["/health", "/health/"])
def test_the_old_path_leads_to_status_and_version(client, path):
    redirect = client.get(path)
    assert redirect.status_code == 307
    body = client.get(redirect["Location"]).json()
    assert body == {"status": "healthy", "version": "0.1.0"}


def test_providers_are_named_to_bearers_of_a_key_only(openai):
    assert "providers" not in APIClient().get("/api/v1/health").json()
    assert set(caller("generate").get("/api/v1/health").json()["providers"]) == {"openai"}
    assert with_key("gw-000000000000-x").get("/api/v1/health").status_code == 401


def test_a_key_that_may_not_use_a_provider_is_not_told_of_it(openai):
    actions.create_provider({"provider_id": "other", "provider_type": "openai"}, models=[])
    bearer = with_key(issuing.issue("narrow", ["generate"], allowed_providers=["openai"])[1].reveal())
    for path in ("/api/v1/health", "/api/v1/health/providers"):
        assert set(bearer.get(path).json()["providers"]) == {"openai"}


def test_what_was_never_probed_is_unknown(openai):
    assert caller("generate").get("/api/v1/health").json()["providers"]["openai"] == {
        "status": "unknown",
        "models_count": 2,
        "circuit_breaker": {"state": "closed", "failure_count": 0, "last_failure": None},
        "latency_ms": None,
    }


def test_a_failed_probe_makes_it_unhealthy(openai):
    probed(openai, True, False)
    body = caller("generate").get("/api/v1/health").json()
    assert body["status"] == "degraded"
    told = body["providers"]["openai"]
    assert (told["status"], told["latency_ms"]) == ("unhealthy", 12.5)
    assert told["circuit_breaker"]["state"] == "closed"


def test_a_good_probe_makes_it_healthy_again(openai):
    probed(openai, False, True)
    body = caller("generate").get("/api/v1/health").json()
    assert (body["status"], body["providers"]["openai"]["status"]) == ("healthy", "healthy")


def test_the_breaker_shown_is_the_worst_of_its_models(openai, redis_url):
    probed(openai, True)
    fail(redis_url, "openai/a", 5)
    fail(redis_url, "openai/b", 1)
    body = caller("generate").get("/api/v1/health").json()
    assert body["status"] == "degraded"
    told = body["providers"]["openai"]
    assert told["status"] == "degraded"
    assert (told["circuit_breaker"]["state"], told["circuit_breaker"]["failure_count"]) == ("open", 5)
    assert told["circuit_breaker"]["last_failure"] is not None
    assert "models" not in told


def test_a_provider_with_no_model_left_is_unhealthy(openai, redis_url):
    fail(redis_url, "openai/a", 5)
    fail(redis_url, "openai/b", 5)
    assert caller("generate").get("/api/v1/health").json()["providers"]["openai"]["status"] == "unhealthy"


def test_who_reads_the_registry_sees_the_models(openai, redis_url):
    fail(redis_url, "openai/a", 5)
    [told] = caller("registry:read").get("/api/v1/health/providers").json()["providers"].values()
    assert list(told["models"]) == ["a"]
    assert told["models"]["a"]["status"] == "open"
    assert told["models"]["a"]["retry_at"] is not None


def test_a_disabled_provider_does_not_degrade(openai):
    probed(openai, False)
    actions.update_provider(openai, {"enabled": False})
    body = caller("generate").get("/api/v1/health").json()
    assert body["status"] == "healthy"
    assert body["providers"]["openai"]["status"] == "disabled"


def test_the_totals_of_all_providers(openai):
    actions.create_provider({"provider_id": "other", "provider_type": "openai"}, models=[{"model_id": "c"}])
    probed(openai, True)
    body = caller("registry:read").get("/api/v1/health/providers").json()
    assert set(body["providers"]) == {"openai", "other"}
    assert (body["total_providers"], body["healthy_providers"], body["total_models"]) == (2, 1, 3)


def test_models_are_listed_in_the_source_systems_shape(openai):
    actions.add_model(
        openai, {"model_id": "v", "capabilities": ["chat", "vision"], "context_window": 8192, "tasks": ["vision"]}
    )
    actions.add_model(openai, {"model_id": "e", "model_type": "embedding", "dimension": 768})
    models = {model["model_id"]: model for model in caller("generate").get("/api/v1/models").json()}
    assert set(models) == {"a", "b", "v", "e"}
    assert models["v"] == {
        "model_id": "v",
        "provider_id": "openai",
        "task": "vision",
        "context_window": 8192,
        "dimension": None,
        "supports_vision": True,
        "supports_audio": False,
    }
    assert (models["e"]["task"], models["e"]["dimension"]) == ("embedding", 768)
    assert models["a"]["task"] == "chat_small"


def test_a_key_sees_the_models_that_it_may_use(openai):
    _, secret = issuing.issue("narrow", ["generate"], allowed_models=["openai/b"])
    assert [model["model_id"] for model in with_key(secret.reveal()).get("/api/v1/models").json()] == ["b"]


def test_the_tasks():
    assert caller("generate").get("/api/v1/tasks").json() == [
        "embedding",
        "chat_small",
        "chat_large",
        "chat_smart",
        "vision",
        "audio",
        "image_generation",
    ]


def test_metrics_are_prometheus_text(client):
    response = client.get("/metrics")
    assert response.status_code == 200
    assert response["Content-Type"].startswith("text/plain")
    assert b"# TYPE gateway_inflight_requests gauge" in response.content


def test_metrics_are_told_to_a_key_while_the_database_is_away(monkeypatch):
    scraper = caller("generate")
    snapshot.refresh()

    def away(presented):
        raise OperationalError

    monkeypatch.setattr(building, "credentials", away)
    with override_settings(GATEWAY_METRICS_OPEN=False):
        assert scraper.get("/metrics").status_code == 200


def test_metrics_can_be_closed(client):
    with override_settings(GATEWAY_METRICS_OPEN=False):
        assert client.get("/metrics").status_code == 401
        assert caller("generate").get("/metrics").status_code == 200


def test_health_takes_few_queries_whatever_the_number_of_providers(openai, django_assert_num_queries):
    for number in range(5):
        actions.create_provider({"provider_id": f"p{number}", "provider_type": "openai"})
    assert Provider.objects.count() == 6
    api = caller("generate")
    api.get("/api/v1/health")  # notes the use of the key, which it does once a minute
    with django_assert_num_queries(3):
        api.get("/api/v1/health")
