from datetime import UTC, datetime

import pytest

from providers.importers.drafts import Draft, Kind, Origin
from providers.importers.findings import DUPLICATE, DUPLICATE_DIFFERS
from providers.importers.merging import differences, merge_keys, merge_parameters
from providers.secrets import Secret

EARLY, LATE = datetime(2024, 1, 1, tzinfo=UTC), datetime(2025, 1, 1, tzinfo=UTC)


def key(number, secret="sk-1", environment="production", inside=False, **facts):
    origin = Origin("keys", str(number), "d", inside=inside)
    facts = {"expires_at": None, "enabled": True, "created_at": LATE, "name": ""} | facts
    return Draft(Kind.KEY, origin, "openai", facts, environment=environment, secrets={"secret": Secret(secret)})


def parameter(number, value, at=EARLY, name="base_url", is_sensitive=False):
    facts = {"is_sensitive": is_sensitive} | ({} if is_sensitive else {"plain_value": value})
    secrets = {"value": Secret(value)} if is_sensitive else {}
    origin = Origin("parameters", str(number), "d")
    return Draft(Kind.PARAMETER, origin, "openai", facts, name, "production", secrets, at)


def test_equal_keys_become_one_that_names_the_others():
    first, second = key(1), key(2, created_at=EARLY)
    merged = merge_keys([first, second])
    (kept,) = merged.drafts
    assert (kept.origin, kept.merged) == (first.origin, (second.origin,))
    assert kept.facts["created_at"] == EARLY
    assert [(finding.key, finding.code) for finding in merged.findings] == [("2", DUPLICATE)]


@pytest.mark.parametrize("other", [key(2, secret="sk-2"), key(2, environment="staging")])
def test_other_keys_stay_apart(other):
    assert merge_keys([key(1), other]).drafts == (key(1), other)


@pytest.mark.parametrize(("expiries", "latest"), [([EARLY, LATE], LATE), ([LATE, None], None)])
def test_the_latest_expiry_wins(expiries, latest):
    (kept,) = merge_keys([key(number, expires_at=expiry) for number, expiry in enumerate(expiries)]).drafts
    assert kept.facts["expires_at"] == latest


def test_a_disabled_key_gives_an_enabled_one_no_longer_life():
    (kept,) = merge_keys([key(1, enabled=False), key(2, expires_at=EARLY)]).drafts
    assert (kept.facts["enabled"], kept.facts["expires_at"]) == (True, EARLY)


def test_a_row_stands_before_a_key_that_was_found_inside_another():
    (kept,) = merge_keys([key(7, inside=True, name="connection_params.api_key"), key(1)]).drafts
    assert (kept.origin.key, kept.facts["name"]) == ("1", "")
    assert [origin.inside for origin in kept.merged] == [True]


def test_the_parameter_that_was_changed_last_wins():
    old, new = parameter(9, "old", at=EARLY), parameter(1, "new", at=LATE)
    merged = merge_parameters([new, old])
    assert merged.drafts == (new,)
    assert merged.rejected == (old.origin,)
    assert [(finding.key, finding.code) for finding in merged.findings] == [("9", DUPLICATE_DIFFERS)]


@pytest.mark.parametrize("at", [EARLY, None])
def test_of_parameters_changed_at_once_the_highest_number_wins(at):
    assert [draft.origin.key for draft in merge_parameters([parameter(10, "b", at), parameter(9, "a", at)]).drafts] == [
        "10"
    ]


def test_equal_parameters_become_one():
    merged = merge_parameters([parameter(1, "same"), parameter(2, "same", at=LATE)])
    assert [draft.origin.key for draft in merged.drafts] == ["2"]
    assert [origin.key for origin in merged.drafts[0].merged] == ["1"]
    assert merged.rejected == ()


def test_a_merged_parameter_is_sensitive_when_one_of_them_was():
    (kept,) = merge_parameters([parameter(1, "same", is_sensitive=True), parameter(2, "same")]).drafts
    assert kept.facts == {"is_sensitive": True}
    assert kept.secrets == {"value": Secret("same")}


def test_only_fields_that_the_older_row_has_are_compared():
    older = Draft(
        Kind.PROVIDER, Origin("a", "x", "d"), "x", {"enabled": True, "display_name": "X", "created_at": EARLY}
    )
    newer = Draft(
        Kind.PROVIDER,
        Origin("b", "x", "d"),
        "x",
        {"enabled": False, "display_name": "X", "created_at": LATE, "connection_params": {"a": 1}},
    )
    assert differences(older, newer) == ("enabled",)


def test_a_value_is_the_same_plain_or_encrypted():
    assert differences(parameter(1, "v"), parameter(2, "v", is_sensitive=True)) == ("is_sensitive",)
    assert differences(parameter(1, "v"), parameter(2, "w")) == ("param_value",)
