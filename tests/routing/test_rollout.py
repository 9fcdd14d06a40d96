"""The share of a roll-out: even, sticky, and only ever one way."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.rollout import BUCKETS, GATEWAY, LEGACY, bucket, buckets_below, is_shared, is_switched, side
from routing.types import RolloutView

KEYS = [f"sk-client-{number}".encode() for number in range(10_000)]

salts = st.binary(min_size=1, max_size=64)
identities = st.binary(max_size=600)
percentages = st.decimals(min_value=0, max_value=100, places=2)


def rollout(percentage="100", *, salt=b"salt", enabled=True, extra_paths=()):
    return RolloutView(
        legacy_base_url="http://legacy.test",
        gateway_enabled=enabled,
        share=buckets_below(Decimal(percentage)),
        salt=salt,
        digest_key=b"digest",
        extra_paths=extra_paths,
    )


@pytest.mark.parametrize("percentage", ["0", "1", "25", "50", "75", "99", "100"])
@pytest.mark.parametrize("salt", [b"first", b"second", b"third"])
def test_the_share_of_ten_thousand_keys_is_within_a_point_and_a_half(percentage, salt):
    here = sum(side(rollout(percentage, salt=salt), key) == GATEWAY for key in KEYS)
    assert abs(here / 100 - float(percentage)) <= 1.5


@pytest.mark.parametrize(("percentage", "expected"), [("0", LEGACY), ("100", GATEWAY)])
def test_nobody_and_everybody_are_exact(percentage, expected):
    assert {side(rollout(percentage), key) for key in KEYS} == {expected}


@given(salts, identities, percentages)
def test_a_client_always_comes_to_the_same_side(salt, identity, percentage):
    assert side(rollout(percentage, salt=salt), identity) == side(rollout(percentage, salt=salt), identity)


@given(salts, identities, percentages, percentages)
def test_a_larger_share_takes_nobody_away_from_the_gateway(salt, identity, one, other):
    smaller, larger = sorted((one, other))
    if side(rollout(smaller, salt=salt), identity) == GATEWAY:
        assert side(rollout(larger, salt=salt), identity) == GATEWAY


@given(salts, identities)
def test_every_client_has_a_bucket(salt, identity):
    assert 0 <= bucket(salt, identity) < BUCKETS


def test_another_salt_takes_other_clients():
    first = {key for key in KEYS if side(rollout("50", salt=b"first"), key) == GATEWAY}
    second = {key for key in KEYS if side(rollout("50", salt=b"second"), key) == GATEWAY}
    assert 2_000 < len(first & second) < 3_000


def test_the_bucket_of_a_client_is_the_same_in_every_release():
    assert [bucket(b"salt", key) for key in KEYS[:4]] == [102, 6683, 6134, 2899]


@given(identities, percentages)
def test_the_kill_switch_sends_everybody_to_the_legacy_side(identity, percentage):
    assert side(rollout(percentage, enabled=False), identity) == LEGACY


@pytest.mark.parametrize(
    ("percentage", "buckets"), [("0", 0), ("0.01", 1), ("0.019", 1), ("12.34", 1234), ("99.99", 9999), ("100", 10_000)]
)
def test_a_share_counts_in_hundredths_of_a_percent(percentage, buckets):
    assert buckets_below(Decimal(percentage)) == buckets


@pytest.mark.parametrize("path", ["/v1", "/v1/chat/completions", "/v1/models/a%2Fb", "/generate", "/generate/"])
def test_generation_goes_by_the_share(path):
    assert is_shared(rollout(), path)


@pytest.mark.parametrize("path", ["/v10", "/generated", "/api/v1/generate", "/admin/", "/metrics", "/", "/readyz"])
def test_what_only_begins_alike_and_what_is_the_operators_stays_here(path):
    assert not is_shared(rollout(), path)
    assert not is_switched(path)


@pytest.mark.parametrize("path", ["/providers", "/api/providers/openai/api-keys", "/api/llm/gateway/config"])
def test_the_old_registry_goes_by_the_kill_switch_alone(path):
    assert is_switched(path)
    assert not is_shared(rollout(), path)


def test_an_operator_names_further_paths():
    assert is_shared(rollout(extra_paths=("/chat",)), "/chat/stream")
    assert not is_shared(rollout(), "/chat/stream")


@pytest.mark.parametrize(
    ("percentage", "enabled", "parts"), [("100", True, False), ("99.99", True, True), ("100", False, True)]
)
def test_a_full_share_parts_nobody(percentage, enabled, parts):
    assert rollout(percentage, enabled=enabled).parts is parts
