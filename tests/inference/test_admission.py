from __future__ import annotations

import pytest

from inference.admission import admit, presented_key
from inference.errors import InvalidKey, PermissionDenied
from routing.client_addresses import networks
from routing.client_keys import digest
from routing.filters import permits
from tests.inference import registry

KEY = registry.CLIENT_KEY


def in_force(**more):
    return registry.snapshot(registry.model(registry.provider()), keys=[registry.key_view(**more)])


@pytest.mark.parametrize(
    "headers",
    [
        (b"Bearer " + KEY.encode(), None, None),
        (b"bearer   " + KEY.encode(), None, None),
        (None, KEY.encode(), None),
        (None, None, KEY.encode()),
        (b"Bearer " + KEY.encode(), KEY.encode(), None),
    ],
)
def test_every_header_carries_the_key(headers) -> None:
    assert presented_key(*headers) == KEY


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ((None, None, None), "missing_api_key"),
        ((b"Basic abc", None, None), "missing_api_key"),
        ((b"Bearer ", None, None), "missing_api_key"),
        ((b"", b"", b""), "missing_api_key"),
        ((b"Bearer one", b"two", None), "invalid_api_key"),
        ((b"Bearer \xff\xfe", None, None), "invalid_api_key"),
        ((b"Bearer " + b"x" * 600, None, None), "invalid_api_key"),
    ],
)
def test_what_is_no_key_is_refused(headers, code) -> None:
    with pytest.raises(InvalidKey) as caught:
        presented_key(*headers)
    assert (caught.value.status, caught.value.code) == (401, code)


def test_a_good_key_is_its_identity_each_time() -> None:
    snapshot = in_force()
    assert admit(KEY, snapshot, now=1.0).key_id == 7
    assert admit(KEY, snapshot, now=2.0).key_id == 7


def test_a_key_that_was_good_expires_all_the_same() -> None:
    snapshot = in_force(expires_at=100.0)
    assert admit(KEY, snapshot, now=99.0)
    with pytest.raises(InvalidKey) as caught:
        admit(KEY, snapshot, now=100.0)
    assert caught.value.code == "expired_api_key"


def test_a_key_that_was_good_is_forgotten_with_its_snapshot() -> None:
    assert admit(KEY, in_force(), now=1.0)
    with pytest.raises(InvalidKey):
        admit(KEY, in_force(enabled=False), now=1.0)


@pytest.mark.parametrize("wrong", [KEY[:-1] + "t", KEY + "s", KEY[:-1], "gw-ffffffffffff-" + "s" * 43, ""])
def test_a_key_that_differs_anywhere_is_refused(wrong) -> None:
    snapshot = in_force()
    admit(KEY, snapshot, now=1.0)
    with pytest.raises(InvalidKey) as caught:
        admit(wrong, snapshot, now=1.0)
    assert caught.value.code == "invalid_api_key"
    assert not wrong or wrong not in caught.value.message


@pytest.mark.parametrize(
    ("spoilt", "code", "says"),
    [
        ({"revoked": True}, "invalid_api_key", "revoked"),
        ({"team_enabled": False}, "invalid_api_key", "team has been disabled"),
        ({"networks": networks(["10.0.0.0/8"])}, "ip_not_authorized", "from your address"),
    ],
)
def test_a_key_that_was_good_is_refused_for_each_thing_that_shuts_it_out(spoilt, code, says) -> None:
    assert admit(KEY, in_force(), now=1.0, address="192.0.2.1")
    with pytest.raises(InvalidKey, match=says) as caught:
        admit(KEY, in_force(**spoilt), now=1.0, address="192.0.2.1")
    assert (caught.value.status, caught.value.code) == (401, code)


def test_the_address_is_looked_at_each_time_and_an_unknown_one_is_in_no_range() -> None:
    snapshot = in_force(networks=networks(["10.0.0.0/8"]))
    assert admit(KEY, snapshot, now=1.0, address="10.1.2.3")
    for address in ("11.1.2.3", "", "testclient"):
        with pytest.raises(InvalidKey):
            admit(KEY, snapshot, now=1.0, address=address)


def test_after_a_rotation_the_key_before_is_good_until_its_overlap_ends() -> None:
    before = KEY[:16] + "b" * 43
    snapshot = in_force(previous_digest=digest(before, registry.PEPPER), previous_pepper_id="1", previous_until=50.0)
    assert admit(KEY, snapshot, now=60.0) is admit(before, snapshot, now=49.0)
    with pytest.raises(InvalidKey, match="replaced") as caught:
        admit(before, snapshot, now=50.0)
    assert caught.value.code == "expired_api_key"


def test_generating_needs_its_scope() -> None:
    with pytest.raises(PermissionDenied) as caught:
        admit(KEY, in_force(scopes=["registry:write"]), now=1.0)
    assert (caught.value.status, caught.value.code) == (403, "insufficient_scope")


@pytest.mark.parametrize(
    ("patterns", "allowed"),
    [
        (None, True),
        ((), False),
        (("gpt-4*",), True),
        (("openai/*",), True),
        (("openai/gpt-4o",), True),
        (("azure/*",), False),
        (("gpt-4",), False),
    ],
)
def test_patterns_match_the_model_or_its_route(patterns, allowed) -> None:
    identity = registry.key_view(allowed_models=patterns).identity
    assert permits(identity, registry.model(registry.provider("openai"), "gpt-4o")) is allowed
