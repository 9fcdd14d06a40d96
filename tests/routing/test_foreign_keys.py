from datetime import UTC, datetime
from decimal import Decimal
from hashlib import sha256

import pytest

from routing.foreign_keys import BadRecord, read

KEY = "sk-ABCdef123"
DIGEST = sha256(KEY.encode())


def litellm(**more):
    return read("litellm", {"token": DIGEST.hexdigest(), "key_name": "sk-...f123", **more})


def one_api(**more):
    return read("one-api", {"key": "ABCdef123", "status": "1", "expired_time": "-1", "unlimited_quota": "1", **more})


def test_a_litellm_key_is_known_by_the_digest_that_litellm_keeps():
    key = litellm(key_alias="search", blocked="false")
    assert (key.digest, key.name, key.enabled) == (DIGEST.digest(), "search", True)
    assert (key.expires_at, key.allowed_models, key.remarks) == (None, None, ())


def test_one_api_s_clients_show_what_it_stores_behind_sk():
    assert one_api().digest == DIGEST.digest()
    assert one_api(key=KEY).digest == DIGEST.digest()


@pytest.mark.parametrize(
    ("models", "allowed"),
    [
        ("{}", None),
        ("", None),
        ('{gpt-4o,"claude-*"}', ["gpt-4o", "claude-*"]),
        ('["gpt-4o"]', ["gpt-4o"]),
        (["openai/*", "a[1]?"], ["openai/*", "a[[]1][?]"]),
        (["all-proxy-models"], None),
        (["no-default-models"], []),
        (["all-team-models"], []),
    ],
)
def test_models_that_litellm_allows_are_patterns(models, allowed):
    assert litellm(models=models).allowed_models == allowed


def test_all_team_models_are_the_team_s():
    assert litellm(models=["all-team-models"], team_models='{"gpt-4o"}').allowed_models == ["gpt-4o"]
    assert litellm(models=["all-team-models"], team_models="{}").allowed_models is None


def test_limits_and_budgets_of_litellm_come_along():
    key = litellm(rpm_limit="60", tpm_limit=1000, max_parallel_requests="", max_budget="12.5", budget_duration="30d")
    assert key.limits == {"requests_per_minute": 60, "tokens_per_minute": 1000}
    assert key.budget == ("month", Decimal("12.5"))


def test_what_has_no_meaning_here_is_remarked():
    key = litellm(max_budget="5", budget_duration="7d", aliases='{"a": "b"}', permissions="{}")
    assert key.budget is None
    assert len(key.remarks) == 2
    assert "7d" in key.remarks[0]


@pytest.mark.parametrize(
    ("more", "enabled"), [({"blocked": "true"}, False), ({"team_blocked": "t"}, False), ({}, True)]
)
def test_who_is_blocked_at_litellm_is_suspended_here(more, enabled):
    assert litellm(**more).enabled is enabled


@pytest.mark.parametrize("expires", ["2027-01-31 12:00:00", "2027-01-31T12:00:00.000Z", "2027-01-31T13:00:00+01:00"])
def test_a_time_without_a_zone_is_utc(expires):
    assert litellm(expires=expires).expires_at == datetime(2027, 1, 31, 12, tzinfo=UTC)


def test_a_one_api_key_keeps_its_models_addresses_and_end():
    key = one_api(models="gpt-4o,gpt-4", subnet="10.0.0.0/8, 192.0.2.7", expired_time="1800000000")
    assert (key.allowed_models, key.ip_ranges) == (["gpt-4o", "gpt-4"], ["10.0.0.0/8", "192.0.2.7"])
    assert key.expires_at == datetime.fromtimestamp(1_800_000_000, UTC)
    newer = one_api(model_limits_enabled=True, model_limits="gpt-4o", allow_ips="10.0.0.1\n10.0.0.2")
    assert (newer.allowed_models, newer.ip_ranges) == (["gpt-4o"], ["10.0.0.1", "10.0.0.2"])


def test_a_one_api_quota_is_told_in_usd():
    key = one_api(unlimited_quota="0", remain_quota="1250000", status="4")
    assert not key.enabled
    assert "2.50 USD" in key.remarks[0]


def test_other_systems_tell_the_key_or_its_sha256():
    assert read("other", {"key": "anything"}).digest == sha256(b"anything").digest()
    assert read("other", {"sha256": DIGEST.hexdigest(), "name": "x", "enabled": "no"}).enabled is False
    for wrong in ({}, {"key": "a", "sha256": DIGEST.hexdigest()}):
        with pytest.raises(BadRecord, match="Either"):
            read("other", wrong)


@pytest.mark.parametrize(
    ("system", "record", "field"),
    [
        ("litellm", {"token": "abc"}, "token"),
        ("litellm", {"token": DIGEST.hexdigest(), "expires": "soon"}, "expires"),
        ("litellm", {"token": DIGEST.hexdigest(), "models": "[1]"}, "models"),
        ("litellm", {"token": DIGEST.hexdigest(), "rpm_limit": "many"}, "rpm_limit"),
        ("litellm", {"token": DIGEST.hexdigest(), "max_budget": "NaN"}, "max_budget"),
        ("litellm", {"token": DIGEST.hexdigest(), "blocked": "perhaps"}, "blocked"),
        ("one-api", {"key": ""}, "key"),
        ("one-api", {"key": "A", "expired_time": "99999999999999999999"}, "expired_time"),
        ("one-api", {"key": "A", "subnet": "everywhere"}, "subnet"),
    ],
)
def test_a_record_that_makes_no_sense_names_its_field_and_no_key(system, record, field):
    with pytest.raises(BadRecord) as caught:
        read(system, record)
    assert caught.value.field == field
    assert DIGEST.hexdigest() not in str(caught.value)


def test_a_key_does_not_show_its_digest():
    assert DIGEST.hexdigest() not in repr(litellm())
    assert repr(DIGEST.digest()) not in repr(litellm())
