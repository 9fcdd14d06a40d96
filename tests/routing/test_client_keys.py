import re
from datetime import timedelta

import pytest
from django.core.exceptions import ValidationError
from django.utils import timezone

from routing import building, client_keys, issuing
from routing.client_keys import KeyRefused
from routing.models import ClientKey

pytestmark = pytest.mark.django_db


def verify(presented, at=None):
    held = building.credentials(presented)
    return client_keys.verify(presented, held, now=at or timezone.now().timestamp())


def refusal(presented, at=None):
    with pytest.raises(KeyRefused) as caught:
        verify(presented, at)
    assert not presented or presented not in str(caught.value)
    return caught.value.reason


def test_an_issued_key_identifies_its_bearer():
    row, secret = issuing.issue("app", ["generate"], allowed_models=["gpt-*"])
    identity = verify(secret.reveal())
    assert (identity.key_id, identity.name, identity.prefix) == (row.pk, "app", row.prefix)
    assert identity.scopes == {"generate"}
    assert identity.allowed_models == ("gpt-*",)


def test_a_key_is_a_prefix_and_256_random_bits():
    _, secret = issuing.issue("app", ["generate"])
    assert re.fullmatch(r"gw-[0-9a-f]{12}-[A-Za-z0-9_-]{43}", secret.reveal())
    assert len({client_keys.generate().plaintext.reveal() for _ in range(100)}) == 100


def test_the_row_holds_a_digest_and_not_the_key():
    row, secret = issuing.issue("app", ["generate"])
    stored = repr(ClientKey.objects.values().get())
    assert secret.reveal().removeprefix(row.prefix)[1:] not in stored
    assert re.fullmatch(r"[0-9a-f]{64}", row.digest)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda key: key[:-1],
        lambda key: key + "x",
        lambda key: key[:-1] + ("A" if key[-1] != "A" else "B"),
        lambda key: key.upper(),
        lambda key: key[:15],
        lambda key: "",
        lambda key: key.replace("gw-", "gw_"),
    ],
)
def test_a_key_that_is_not_quite_right_is_unknown(spoil):
    _, secret = issuing.issue("app", ["generate"])
    assert refusal(spoil(secret.reveal())) == "unknown"


def test_the_body_of_one_key_does_not_open_another():
    _, one = issuing.issue("one", ["generate"])
    two, _ = issuing.issue("two", ["admin"])
    assert refusal(two.prefix + one.reveal()[len(two.prefix) :]) == "unknown"


def test_a_disabled_key_is_refused_as_such():
    row, secret = issuing.issue("app", ["generate"])
    row.enabled = False
    row.save()
    assert refusal(secret.reveal()) == "disabled"


def test_a_wrong_body_does_not_learn_that_the_key_is_disabled():
    _, secret = issuing.issue("app", ["generate"], enabled=False)
    assert refusal(secret.reveal()[:-1] + "!") == "unknown"


def test_a_key_expires_at_its_moment():
    moment = timezone.now() + timedelta(hours=1)
    _, secret = issuing.issue("app", ["generate"], expires_at=moment)
    assert verify(secret.reveal(), moment.timestamp() - 0.001)
    assert refusal(secret.reveal(), moment.timestamp()) == "expired"


def test_a_key_whose_pepper_is_gone_is_unknown():
    row, secret = issuing.issue("app", ["generate"])
    row.pepper_id = "retired"
    row.save()
    assert refusal(secret.reveal()) == "unknown"


def test_a_new_pepper_leaves_old_keys_working(tmp_path, settings):
    _, secret = issuing.issue("app", ["generate"])
    old = settings.CLIENT_KEY_PEPPERS_FILE.read_text()
    ring = tmp_path / "peppers"
    ring.write_text("fresh:" + "B" * 43 + "=\n" + old)
    settings.CLIENT_KEY_PEPPERS_FILE = ring
    assert verify(secret.reveal())
    row, newer = issuing.issue("newer", ["generate"])
    assert row.pepper_id == "fresh"
    assert verify(newer.reveal())


@pytest.mark.parametrize("scopes", [[], ["root"], ["generate", "root"]])
def test_scopes_are_from_the_closed_list(scopes):
    with pytest.raises(ValidationError):
        issuing.issue("app", scopes)
    assert not ClientKey.objects.exists()
