import pytest
from django.db import transaction

from providers import revision
from providers.models import Provider


@pytest.fixture
def heard(monkeypatch):
    calls = []
    monkeypatch.setattr(revision, "_listeners", [])
    revision.on_change(listener := lambda: calls.append(revision.current()))
    revision.on_change(listener)
    return calls


@pytest.mark.django_db
def test_it_begins_at_zero_and_only_rises():
    assert revision.current() == 0
    revision.bump()
    revision.bump()
    assert revision.current() == 2


@pytest.mark.django_db(transaction=True)
def test_listeners_hear_of_it_once_the_write_is_committed(heard):
    with transaction.atomic():
        Provider.objects.create(provider_id="p", provider_type="openai")
        assert heard == []
    assert heard == [1]


@pytest.mark.django_db(transaction=True)
def test_a_rollback_takes_the_number_back_and_tells_nobody(heard):
    with pytest.raises(RuntimeError), transaction.atomic():
        Provider.objects.create(provider_id="p", provider_type="openai")
        raise RuntimeError
    assert revision.current() == 0
    assert heard == []


@pytest.mark.django_db(transaction=True)
def test_a_transaction_of_many_writes_is_announced_once(heard):
    with transaction.atomic():
        for number in range(20):
            Provider.objects.create(provider_id=f"p{number}", provider_type="openai")
    assert heard == [20]
