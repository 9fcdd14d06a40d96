import re
from datetime import timedelta

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.utils import timezone

from providers import revision
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


def test_of_several_rotations_within_an_overlap_only_the_last_secret_before_is_good():
    row, first = issuing.issue("app", ["generate"])
    second = issuing.rotate(row, timedelta(hours=1)).reveal()
    third = issuing.rotate(row, timedelta(hours=1)).reveal()
    assert [verify(key).key_id for key in (second, third)] == [row.pk] * 2
    assert refusal(first.reveal()) == "unknown"
    issuing.end_overlap(row)
    assert (refusal(second), verify(third).prefix) == ("unknown", row.prefix)


def test_a_replaced_secret_says_so_after_its_overlap_but_a_wrong_one_learns_nothing():
    row, before = issuing.issue("app", ["generate"])
    issuing.rotate(row, timedelta(hours=1))
    later = row.previous_until.timestamp()
    assert refusal(before.reveal(), later) == "rotated"
    assert refusal(before.reveal()[:-1] + "!", later) == "unknown"


@pytest.mark.parametrize("overlap", [timedelta(seconds=-1), issuing.LONGEST_OVERLAP + timedelta(seconds=1)])
def test_an_overlap_has_its_limits(overlap):
    row, secret = issuing.issue("app", ["generate"])
    with pytest.raises(ValidationError):
        issuing.rotate(row, overlap)
    assert verify(secret.reveal())


def test_every_rotation_raises_the_revision_so_that_all_processes_learn_of_it():
    row, _ = issuing.issue("app", ["generate"])
    before = revision.current()
    issuing.rotate(row)
    issuing.rotate(row)
    assert revision.current() == before + 2


def test_the_database_itself_keeps_a_revoked_key_off():
    row, _ = issuing.issue("app", ["generate"])
    row.revoke("leaked")
    with pytest.raises(IntegrityError), transaction.atomic():
        ClientKey._base_manager.filter(pk=row.pk).update(enabled=True)


def test_a_key_that_may_come_from_some_addresses_is_refused_from_all_others():
    _, secret = issuing.issue("app", ["generate"], ip_ranges=["10.0.0.0/8"])
    held = building.credentials(secret.reveal())
    assert client_keys.verify(secret.reveal(), held, now=0.0, address="10.1.2.3")
    assert refusal(secret.reveal()) == "address"


def test_ranges_that_were_written_past_the_form_and_cannot_be_read_are_nowhere():
    row, secret = issuing.issue("app", ["generate"])
    ClientKey._base_manager.filter(pk=row.pk).update(ip_ranges=["everywhere"])
    assert refusal(secret.reveal()) == "address"
    assert any(row.prefix in note for note in building.build().notes)


@pytest.mark.parametrize("scopes", [[], ["root"], ["generate", "root"]])
def test_scopes_are_from_the_closed_list(scopes):
    with pytest.raises(ValidationError):
        issuing.issue("app", scopes)
    assert not ClientKey.objects.exists()
