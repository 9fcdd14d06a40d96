from __future__ import annotations

import pytest

from inference.admission import admit, presented_key
from inference.errors import InvalidKey, PermissionDenied
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
