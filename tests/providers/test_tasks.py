from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import redis

from providers import tasks
from providers.models import Provider

pytestmark = pytest.mark.django_db


@pytest.fixture
def woken(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The providers whose probe was handed to a worker."""
    pks: list[int] = []

    def apply_async(args: tuple[int], **options: Any) -> None:
        pks.extend(args)

    monkeypatch.setattr(tasks.probe_provider, "apply_async", apply_async)
    return pks


def a_provider(name: str, **fields: Any) -> Provider:
    return Provider.objects.create(provider_id=name, provider_type="fake", **fields)


def test_a_provider_is_due_once_per_interval(woken: list[int]) -> None:
    provider = a_provider("a", probe_interval_seconds=60)

    assert tasks.probe_due_providers() == 1
    assert tasks.probe_due_providers() == 0
    assert woken == [provider.pk]


def test_a_provider_is_due_again_when_its_interval_has_passed(woken: list[int], redis_url: str) -> None:
    provider = a_provider("a", probe_interval_seconds=60)
    tasks.probe_due_providers()
    with redis.Redis.from_url(redis_url) as store:
        key = f"gw:probe:due:{provider.pk}:60"
        assert 0 < store.pttl(key) <= 66_000
        store.pexpire(key, 0)

    assert tasks.probe_due_providers() == 1


def test_a_round_is_a_tenth_shorter_or_longer_at_most() -> None:
    assert all(54_000 <= tasks._jittered(60) <= 66_000 for _ in range(100))


def test_a_changed_interval_holds_at_once(woken: list[int]) -> None:
    provider = a_provider("a", probe_interval_seconds=3600)
    tasks.probe_due_providers()
    provider.probe_interval_seconds = 30
    provider.save()

    assert tasks.probe_due_providers() == 1


def test_disabled_providers_and_interval_zero_are_left_alone(woken: list[int]) -> None:
    a_provider("off", enabled=False)
    a_provider("never", probe_interval_seconds=0)

    assert tasks.probe_due_providers() == 0


def test_the_task_probes_and_stores_a_result() -> None:
    provider = a_provider("a")

    assert tasks.probe_provider(provider.pk) is True
    assert provider.probes.get().trigger == "schedule"


def test_a_provider_is_not_probed_twice_at_the_same_time(redis_url: str) -> None:
    provider = a_provider("a")
    with redis.Redis.from_url(redis_url) as store:
        store.set(f"gw:probe:running:{provider.pk}", 1)

    assert tasks.probe_provider(provider.pk) is None
    assert not provider.probes.exists()


def test_the_claim_is_given_back_after_a_probe(redis_url: str) -> None:
    provider = a_provider("a")
    tasks.probe_provider(provider.pk)

    assert tasks.probe_provider(provider.pk) is True


def test_a_provider_that_is_gone_is_no_error() -> None:
    assert tasks.probe_provider(4711) is None


def test_a_probe_that_took_too_long_leaves_the_claim_of_the_next_one(
    monkeypatch: pytest.MonkeyPatch, redis_url: str
) -> None:
    provider = a_provider("a")
    key = f"gw:probe:running:{provider.pk}"
    with redis.Redis.from_url(redis_url) as store:

        def outlast(*_: Any, **__: Any) -> Any:
            store.delete(key)
            store.set(key, "another's")
            return SimpleNamespace(healthy=True)

        monkeypatch.setattr(tasks.probes, "probe", outlast)
        assert tasks.probe_provider(provider.pk)
        assert store.get(key) == b"another's"


def test_a_provider_that_was_probed_may_be_probed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    provider = a_provider("a")
    monkeypatch.setattr(tasks.probes, "probe", lambda *_, **__: SimpleNamespace(healthy=True))
    assert tasks.probe_provider(provider.pk)
    assert tasks.probe_provider(provider.pk)
