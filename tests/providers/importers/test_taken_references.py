"""What a legacy database brings is no way to the gateway's own secrets, nor to the machine for who may not read it."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from providers import actor
from providers.importers.drafts import Bundle
from providers.importers.findings import REFERENCE_REFUSED
from providers.importers.taken_references import TakenReferences
from providers.models import ApiKey, Provider
from tests.providers.importers.scripted import key, parameter, provider

pytestmark = pytest.mark.django_db


class Book:
    def __init__(self) -> None:
        self.counted: Counter[tuple[str, str]] = Counter()
        self.findings: list = []

    def read(self, table, rows=1) -> None: ...

    def count(self, table, outcome, rows=1) -> None:
        self.counted[table, str(outcome)] += rows

    def find(self, finding) -> None:
        self.findings.append(finding)


def taken(*parts, of=None):
    book = Book()
    keys = [draft for draft in parts if draft.kind == "key"]
    parameters = [draft for draft in parts if draft.kind == "parameter"]
    [bundle] = TakenReferences().bundles([Bundle("p", of, keys, parameters)], book)
    return bundle, book


def test_a_key_of_the_gateway_is_rejected_counted_and_named_and_others_come():
    bundle, book = taken(
        key(1, "env:GATEWAY_SECRET_KEY"), key(2, "env:ANY"), parameter(3, "api_key_env_var", "PGPASSWORD")
    )
    assert [draft.origin.key for draft in bundle.keys] == ["2"]
    assert bundle.parameters == []
    assert book.counted == {("keys", "rejected"): 1, ("parameters", "rejected"): 1}
    assert {(one.key, one.code) for one in book.findings} == {("1", REFERENCE_REFUSED), ("3", REFERENCE_REFUSED)}


def test_a_provider_comes_without_the_secret_that_is_not_taken():
    path = json.dumps(["headers", "Cookie"])
    params = {"base_url": "https://a.example", "api_key_env_var": "REDIS_URL"}
    draft = provider("p", secrets={path: "env:DATABASE_URL", '["proxy"]': "http://u:p@h"}, connection_params=params)
    bundle, book = taken(of=draft)
    assert list(bundle.provider.secrets) == ['["proxy"]']
    assert bundle.provider.facts["connection_params"] == {"base_url": "https://a.example"}
    assert len(book.findings) == 2


def test_an_import_of_somebody_who_may_not_read_the_machine_brings_only_what_is_held_already():
    held = Provider.objects.create(provider_id="p", provider_type="openai")
    ApiKey.objects.create(provider=held, secret="env:HOME")
    with actor.acting_as("user:writer", may_handle_secrets=lambda: False):
        bundle, _book = taken(key(1, "env:HOME"), key(2, "env:AWS_SECRET_ACCESS_KEY"), key(3, "env:GROQ_API_KEY"))
    assert [draft.origin.key for draft in bundle.keys] == ["1", "3"]
