"""A filter by provider lists them while they are few; among very many only the chosen one is named."""

import re

import pytest
from django.urls import reverse

from providers import short_filters
from providers.models import PriceOverride, Provider

pytestmark = pytest.mark.django_db


@pytest.fixture
def providers():
    rows = [Provider(provider_id=f"provider-{number}", provider_type="openai") for number in range(4)]
    for row in rows:
        row.save()
        PriceOverride(provider=row, model_prefix="gpt", input_cost_per_million=1).save()
    return rows


def offered(client, query=""):
    page = client.get(reverse("admin:providers_priceoverride_changelist") + query).content.decode()
    return sorted(set(re.findall(r"provider__id__exact=(\d+)", page)))


def test_few_are_listed(admin_client, providers):
    assert offered(admin_client) == sorted(str(row.pk) for row in providers)


def test_of_many_only_the_chosen_one_is_listed(admin_client, providers, monkeypatch):
    monkeypatch.setattr(short_filters, "MOST", 3)
    assert offered(admin_client) == []
    chosen = str(providers[2].pk)
    assert offered(admin_client, f"?provider__id__exact={chosen}") == [chosen]
