import pytest

from inference import client, loop
from inference.metrics import Metrics
from inference.recording import Recorder
from routing import snapshot
from tests.callers import REGISTRY, caller
from tests.fakes.upstream import FakeUpstream

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _a_data_plane_of_its_own(monkeypatch):
    """Probes generate by way of the data plane; its recorder must not outlive this test's database."""
    snapshot.replace(None)
    recorder = Recorder([].extend, Metrics())
    monkeypatch.setattr(client, "_recorder", recorder)
    monkeypatch.setattr(loop, "_background_plane", None)
    yield
    recorder.stop()
    snapshot.replace(None)


@pytest.fixture
def api():
    return caller(*REGISTRY)


@pytest.fixture
def upstream():
    with FakeUpstream(api_key="sk-upstream") as running:
        yield running


def provider(api, base_url, *, key="sk-upstream", models=({"model_id": "gpt-test"},)):
    body = {
        "provider_id": "p",
        "provider_type": "openai_compatible",
        "connection_params": {"base_url": base_url},
        "models": list(models),
        "api_key": {"key_value": key},
    }
    assert api.post("/providers", body).status_code == 201


def test_a_provider_that_is_up_has_an_enabled_model_answer(api, upstream):
    provider(api, upstream.base_url, models=({"model_id": "off", "enabled": False}, {"model_id": "gpt-test"}))
    body = api.post("/providers/p/test").json()
    assert body["success"] is True
    assert body["model_tested"] == "gpt-test"
    assert body["response"]
    assert body["duration_ms"] > 0
    assert "error" not in body
    asked = [request.json["model"] for request in upstream.requests if request.method == "POST"]
    assert set(asked) == {"gpt-test"}


def test_nothing_is_generated_when_the_caller_says_so(api, upstream):
    provider(api, upstream.base_url)
    body = api.post("/providers/p/test?generate=false").json()
    assert body["success"] is True
    assert body["model_tested"] is None
    assert "no model was asked" in body["message"]
    assert all(request.method == "GET" for request in upstream.requests)


def test_a_provider_that_is_down_says_what_failed(api, upstream):
    provider(api, "http://127.0.0.1:9/v1")
    body = api.post("/providers/p/test").json()
    assert body["success"] is False
    assert body["error"].startswith("tcp: ")
    assert "response" not in body


def test_a_wrong_key_is_told_in_the_upstreams_words_and_not_repeated(api, upstream):
    provider(api, upstream.base_url, key="sk-wrong-canary-000")
    body = api.post("/providers/p/test").json()
    assert body["success"] is False
    assert body["error"].startswith("auth: ")
    assert "canary" not in str(body)


def test_a_provider_with_embedding_models_only_gives_a_clear_answer(api, upstream):
    provider(api, upstream.base_url, models=({"model_id": "embed-test", "model_type": "embedding"},))
    body = api.post("/providers/p/test").json()
    assert body["success"] is True
    assert body["model_tested"] == "embed-test"
    assert "embedding" in body["response"]


def test_a_provider_without_a_model_says_that_none_was_asked(api, upstream):
    provider(api, upstream.base_url, models=())
    body = api.post("/providers/p/test").json()
    assert body["success"] is True
    assert body["model_tested"] is None
    assert "no enabled model" in body["message"]


def test_a_sync_compares_three_ways_and_has_every_process_look(api, upstream):
    listed = api_models(upstream)
    provider(api, upstream.base_url, models=({"model_id": listed[0]}, {"model_id": "retired"}))
    before = snapshot.current().revision
    body = api.post("/providers/p/sync").json()
    assert body["provider_id"] == "p"
    assert body["new"] == sorted(listed[1:])
    assert body["gone"] == ["retired"]
    assert body["unchanged"] == [listed[0]]
    assert snapshot.current().revision > before
    assert {model["model_id"] for model in api.get("/providers/p/models").json()} == {listed[0], "retired"}


def test_a_sync_takes_what_is_told_otherwise_of_those_that_it_names(api, upstream):
    upstream.reply_with(json={"data": [{"id": name, "max_output_tokens": 7} for name in "ab"]}, times=None)
    provider(api, upstream.base_url, models=({"model_id": "a"}, {"model_id": "b"}))
    told = [{"model_id": name, "fields": {"max_tokens": [None, 7]}} for name in "ab"]
    assert api.post("/providers/p/sync").json()["retold"] == told
    body = api.post("/providers/p/sync?refresh=a").json()
    assert (body["retold"], body["refreshed"]) == (told, ["a"])
    assert api.post("/providers/p/sync").json()["retold"] == told[1:]


def test_a_sync_refuses_to_refresh_what_it_does_not_know_and_takes_nothing(api, upstream):
    upstream.reply_with(json={"data": [{"id": name, "max_output_tokens": 7} for name in ("a", "new")]}, times=None)
    provider(api, upstream.base_url, models=({"model_id": "a"}, {"model_id": "gone"}))
    answer = api.post("/providers/p/sync?refresh=a&refresh=gone&refresh=new&refresh=nobody")
    assert answer.status_code == 400
    assert [(one["field"], one["message"]) for one in answer.json()["errors"]] == [
        ("refresh", "Not both registered here and listed by the upstream: 'gone', 'new', 'nobody'. Those that are: a.")
    ]
    assert [one["model_id"] for one in api.post("/providers/p/sync").json()["retold"]] == ["a"]


def api_models(upstream):
    return [model if isinstance(model, str) else model["id"] for model in upstream.models]


def test_a_sync_with_an_upstream_that_is_down_still_refreshes(api):
    provider(api, "http://127.0.0.1:9/v1")
    body = api.post("/providers/p/sync").json()
    assert "could not be listed" in body["message"]
    assert "new" not in body


def test_testing_needs_the_right_to_change(api, upstream):
    provider(api, upstream.base_url)
    assert caller("registry:read").post("/providers/p/test").status_code == 403
    assert upstream.requests == []
