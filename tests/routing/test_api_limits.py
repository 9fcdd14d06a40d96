import pytest

from providers.models import AuditEntry, Provider, ProviderModel
from routing import issuing
from routing.models import RateLimit, Team
from tests.callers import caller

pytestmark = pytest.mark.django_db


def fields_at_fault(response):
    return [error["field"] for error in response.json()["errors"]]


URL = "/api/v1/limits"


@pytest.fixture
def api():
    return caller("admin")


def model():
    provider = Provider.objects.create(provider_id="a/b", provider_type="fake")
    return ProviderModel.objects.create(provider=provider, model_id="c/d")


def test_a_limit_is_made_changed_and_removed(api):
    Team.objects.create(name="research")
    made = api.post(URL, {"subject": "team", "team": "research", "requests_per_minute": 60})
    assert made.status_code == 201
    assert (made.json()["team"], made.json()["requests_per_minute"]) == ("research", 60)
    path = f"{URL}/{made.json()['id']}"
    changed = api.patch(path, {"requests_per_minute": None, "concurrent_requests": 5})
    assert (changed.json()["requests_per_minute"], changed.json()["concurrent_requests"]) == (None, 5)
    assert [row["id"] for row in api.get(URL, {"team": "research"}).json()["results"]] == [made.json()["id"]]
    assert api.delete(path).status_code == 204
    assert [(entry.action, entry.target_type) for entry in AuditEntry.objects.order_by("id")][-3:] == [
        ("create", "ratelimit"),
        ("update", "ratelimit"),
        ("delete", "ratelimit"),
    ]


def test_subjects_go_by_the_names_that_people_use(api):
    key, _ = issuing.issue("app", ["generate"])
    model()
    told = {"requests_per_day": 1}
    for body in (
        {"subject": "key", "client_key": key.prefix},
        {"subject": "model", "model": "a/b/c/d"},
        {"subject": "provider", "provider": "a/b"},
        {"subject": "tag", "tag": "blue"},
        {"subject": "each_key"},
        {"subject": "each_team"},
        {"subject": "all"},
    ):
        made = api.post(URL, body | told)
        assert made.status_code == 201, made.json()
        assert {name: made.json()[name] for name in body} == body


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"subject": "team", "requests_per_minute": 1}, "team"),
        ({"subject": "each_key", "tag": "blue", "requests_per_minute": 1}, "tag"),
        ({"subject": "model", "model": "nobody", "requests_per_minute": 1}, "model"),
        ({"subject": "somebody", "requests_per_minute": 1}, "subject"),
        ({"subject": "all", "requests_per_minute": 0}, "requests_per_minute"),
        ({"subject": "all", "requests_per_minute": -1}, "requests_per_minute"),
        ({"subject": "all", "requests_per_minute": "many"}, "requests_per_minute"),
        ({"subject": "all", "rpm": 1}, "rpm"),
        ({"subject": "all"}, ""),
    ],
)
def test_what_makes_no_sense_is_refused_by_its_field(api, body, field):
    response = api.post(URL, body)
    assert response.status_code == 400
    assert field in fields_at_fault(response)
    assert not RateLimit.objects.exists()


def test_a_second_limit_for_a_subject_names_the_first(api):
    api.post(URL, {"subject": "all", "requests_per_minute": 1})
    again = api.post(URL, {"subject": "all", "requests_per_day": 1})
    assert again.status_code == 400
    assert "There is one already" in str(again.json())


def test_what_a_file_owns_is_changed_there(api):
    made = api.post(URL, {"subject": "all", "requests_per_minute": 1}).json()
    RateLimit.objects.update(managed_by="/etc/gateway.yaml")
    refused = api.patch(f"{URL}/{made['id']}", {"requests_per_minute": 2})
    assert (refused.status_code, refused.json()["code"]) == (409, "owned_by_file")


def test_a_dry_run_stores_nothing(api):
    assert api.post(f"{URL}?dry_run=true", {"subject": "all", "requests_per_minute": 1}).status_code == 200
    assert not RateLimit.objects.exists()


def test_no_key_but_an_admins_reads_or_widens_limits():
    client = caller("generate", "registry:read", "registry:write", "secrets:read")
    assert client.get(URL).status_code == 403
    assert client.post(URL, {"subject": "all", "requests_per_minute": 1}).status_code == 403
