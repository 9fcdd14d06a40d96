import pytest
from django.test.utils import override_settings

from providers import keyring
from providers.secrets import EncryptionKey, KeyringError, UnknownKey

PEPPER = "p1:" + "A" * 43 + "="


def test_a_changed_file_is_read_without_a_restart(tmp_path):
    path = tmp_path / "ring"
    old, new = EncryptionKey.generate(), EncryptionKey.generate()
    path.write_text(old.line() + "\n")
    with override_settings(ENCRYPTION_KEYS_FILE=path):
        sealed = keyring.current().encrypt("v", bound_to="a")
        path.write_text(f"{new.line()}\n{old.line()}\n")
        assert keyring.current().primary_id == new.key_id
        assert keyring.current().decrypt(sealed, bound_to="a") == "v"
        path.write_text(new.line() + "\n#\n")
        with pytest.raises(UnknownKey):
            keyring.current().decrypt(sealed, bound_to="a")


def test_an_unchanged_file_is_parsed_once(tmp_path):
    path = tmp_path / "ring"
    path.write_text(EncryptionKey.generate().line() + "\n")
    with override_settings(ENCRYPTION_KEYS_FILE=path):
        assert keyring.current() is keyring.current()


def test_the_environment_wins_over_the_file():
    one, two = EncryptionKey.generate(), EncryptionKey.generate()
    with override_settings(ENCRYPTION_KEYS=f"{one.line()},{two.line()}"):
        assert keyring.current().key_ids == (one.key_id, two.key_id)


def test_a_missing_file_is_an_error_until_it_is_there(tmp_path):
    path = tmp_path / "ring"
    with override_settings(ENCRYPTION_KEYS_FILE=path):
        with pytest.raises(KeyringError):
            keyring.current()
        path.write_text(EncryptionKey.generate().line() + "\n")
        assert keyring.current().primary_id


@pytest.mark.parametrize(("text", "finding"), [("", "empty"), ("p1:c2hvcnQ=", "shorter"), ("p1:!", "p1")])
def test_bad_peppers_say_what_is_wrong(text, finding):
    with pytest.raises(KeyringError, match=finding):
        keyring.parse_peppers(text)


def test_the_first_pepper_signs_and_the_last_keeps_fingerprints_comparable():
    other = PEPPER.replace("p1", "p2").replace("A", "B")
    with override_settings(CLIENT_KEY_PEPPERS=PEPPER):
        before = keyring.fingerprint("sk-1")
    with override_settings(CLIENT_KEY_PEPPERS=f"{other},{PEPPER}"):
        assert keyring.peppers().current_id == "p2"
        assert keyring.fingerprint("sk-1") == before


def test_each_purpose_has_a_key_of_its_own():
    peppers = keyring.parse_peppers(PEPPER)
    assert peppers.derive("audit") != peppers.derive("fingerprint")


def test_fingerprints_tell_secrets_apart_and_need_the_pepper():
    assert keyring.fingerprint("sk-1") == keyring.fingerprint("sk-1")
    assert keyring.fingerprint("sk-1") != keyring.fingerprint("sk-2")
    with override_settings(CLIENT_KEY_PEPPERS=PEPPER):
        elsewhere = keyring.fingerprint("sk-1")
    assert keyring.fingerprint("sk-1") != elsewhere
