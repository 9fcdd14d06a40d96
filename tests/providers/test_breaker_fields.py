import pytest

from providers.models import Provider
from tests.callers import REGISTRY, caller

pytestmark = pytest.mark.django_db

BODY = {"provider_id": "p", "provider_type": "openai"}


def test_breaker_locality_and_tags_are_written_over_rest():
    more = {"breaker": {"failure_threshold": 3}, "locality": "local", "data_tags": ["eu"]}
    made = caller(*REGISTRY).post("/api/v1/providers", BODY | more, format="json")
    assert made.status_code == 201, made.content
    row = Provider.objects.get()
    assert (row.breaker, row.locality, row.data_tags) == ({"failure_threshold": 3}, "local", ["eu"])
    assert made.json()["breaker"] == {"failure_threshold": 3}


@pytest.mark.parametrize("wrong", [{"failure_treshold": 3}, {"failure_rate": 2}, {"probe_quota": 0}])
def test_a_number_that_is_none_is_refused(wrong):
    refused = caller(*REGISTRY).post("/api/v1/providers", BODY | {"breaker": wrong}, format="json")
    assert refused.status_code == 400
    assert "breaker" in refused.content.decode()


def test_the_form_has_them(admin_client):
    row = Provider.objects.create(**BODY)
    page = admin_client.get(f"/admin/providers/provider/{row.pk}/change/?tab=settings").content.decode()
    for name in ("breaker", "locality", "data_tags"):
        assert f'name="{name}"' in page
