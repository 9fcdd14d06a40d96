from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
import redis

from routing import loop_store, selections


@pytest_asyncio.fixture(autouse=True)
async def _long_remembered(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """A test remembers for as long as it takes."""
    monkeypatch.setattr(selections, "_REMEMBERED_SECONDS", 3600.0)
    yield
    await loop_store.close()


async def test_a_selection_holds_for_its_session_and_for_no_other() -> None:
    selections.select("gw_a", "s1", "llama3")
    assert await selections.selected("gw_a", "s1") == "llama3"
    assert await selections.selected("gw_a", "s2") is None
    assert await selections.selected("gw_a", None) is None


async def test_a_session_of_the_same_name_under_another_key_is_another_session() -> None:
    selections.select("gw_a", "s1", "llama3")
    assert await selections.selected("gw_b", "s1") is None


async def test_without_a_session_the_selection_is_the_key_s_own() -> None:
    selections.select("gw_a", None, "llama3")
    assert await selections.selected("gw_a", None) == "llama3"
    assert await selections.selected("gw_a", "s1") is None


async def test_a_selection_counts_at_once_though_one_was_just_being_read(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = selections._asked

    async def read_and_be_overtaken(key: str) -> str | None:
        found = await asked(key)
        selections.select("gw_a", None, "llama3")
        return found

    monkeypatch.setattr(selections, "_asked", read_and_be_overtaken)
    assert await selections.selected("gw_a", None) is None
    monkeypatch.setattr(selections, "_asked", asked)
    assert await selections.selected("gw_a", None) == "llama3"


async def test_the_later_selection_counts_and_a_forgotten_one_does_not() -> None:
    selections.select("gw_a", "s1", "llama3")
    selections.select("gw_a", "s1", "qwen")
    assert await selections.selected("gw_a", "s1") == selections.read("gw_a", "s1") == "qwen"
    selections.forget("gw_a", "s1")
    assert await selections.selected("gw_a", "s1") is None


def test_a_selection_ends_by_itself(redis_url: str) -> None:
    selections.select("gw_a", "s1", "llama3", ttl_seconds=10**9)
    with redis.Redis.from_url(redis_url) as store:
        (key,) = store.keys("gw:selected:*")
        assert 0 < store.ttl(key) <= selections.LONGEST_SECONDS


async def test_a_store_that_is_away_has_no_selections(settings: Any) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    assert await selections.selected("gw_a", "s1") is None
    with pytest.raises(selections.SelectionsAway):
        selections.select("gw_a", "s1", "llama3")


async def test_that_a_key_selected_nothing_is_remembered_until_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await selections.selected("gw_a", None) is None
    with monkeypatch.context() as without_store:
        without_store.setattr(selections, "_asked", None)
        assert await selections.selected("gw_a", None) is None
    selections.select("gw_a", None, "llama3")
    assert await selections.selected("gw_a", None) == "llama3"


async def test_a_model_for_texts_and_one_for_embeddings_are_selected_apart() -> None:
    selections.select("gw_a", "s1", "llama3")
    assert await selections.selected("gw_a", "s1", embeddings=True) is None
    selections.select("gw_a", "s1", "e5", embeddings=True)
    assert await selections.selected("gw_a", "s1", embeddings=True) == "e5"
    assert await selections.selected("gw_a", "s1") == "llama3"


async def test_requests_of_a_loop_share_their_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await selections.selected("gw_a", "s1") is None
    monkeypatch.setattr(redis.asyncio.ConnectionPool, "make_connection", None)
    for number in range(5):
        assert await selections.selected("gw_a", f"s{number}") is None
