import copy
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.secrets import (
    EncryptionKey,
    Keyring,
    KeyringError,
    Secret,
    SecretError,
    Undecryptable,
    UnknownKey,
    hint,
    key_id_of,
    load_keyring,
    parse_keyring,
)


@pytest.fixture
def ring():
    return Keyring([EncryptionKey.generate()])


def test_a_secret_shows_itself_only_when_asked():
    secret = Secret("sk-canary")
    for text in (
        str(secret),
        repr(secret),
        f"{secret}",
        f"{secret!r}",
        repr([secret]),
        repr({"a": secret}),
    ):
        assert "canary" not in text
    assert secret.reveal() == "sk-canary"


def test_a_secret_does_not_pickle():
    with pytest.raises(TypeError, match="id of its row"):
        pickle.dumps(Secret("sk-canary"))
    with pytest.raises(TypeError):
        copy.deepcopy(Secret("sk-canary"))


def test_secrets_compare_by_value_and_only_with_secrets():
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert len({Secret("a"), Secret("a")}) == 1
    assert not Secret("")


@pytest.mark.parametrize(("value", "shown"), [("sk-proj-0123456789abcd", "sk-…abcd"), ("short", "…"), ("", "…")])
def test_a_hint_shows_little_and_nothing_of_short_secrets(value, shown):
    assert hint(value) == shown


@given(st.text(max_size=500), st.text(max_size=50))
def test_what_is_encrypted_opens_at_its_place(value, place):
    ring = Keyring([EncryptionKey.generate()])
    sealed = ring.encrypt(value, bound_to=place)
    assert ring.decrypt(sealed, bound_to=place) == value
    with pytest.raises(Undecryptable):
        ring.decrypt(sealed, bound_to=place + "x")


def test_equal_values_have_different_ciphertexts(ring):
    assert ring.encrypt("same", bound_to="a") != ring.encrypt("same", bound_to="a")


def test_a_ciphertext_names_version_and_key(ring):
    version, key_id, _ = ring.encrypt("v", bound_to="a").split(".")
    assert (version, key_id) == ("gw1", ring.primary_id)


def test_every_changed_character_is_noticed(ring):
    sealed = ring.encrypt("value", bound_to="a")
    start = sealed.rindex(".") + 1
    for position in range(start, len(sealed)):
        if sealed[position] == "=" or sealed[position + 1 : position + 2] in ("=", ""):
            continue  # padding and the bits beside it carry nothing
        other = "A" if sealed[position] != "A" else "B"
        with pytest.raises(Undecryptable):
            ring.decrypt(sealed[:position] + other + sealed[position + 1 :], bound_to="a")


@pytest.mark.parametrize("text", ["", "plain text", "gAAAAABfernet", "gw1.x", "gw1.x.", "gw2.x.y"])
def test_what_is_no_ciphertext_is_refused(ring, text):
    with pytest.raises(SecretError):
        ring.decrypt(text, bound_to="a")


def test_bytes_are_sealed_for_their_place_alone(ring):
    sealed = ring.seal(b"canary \x00.", bound_to="a")
    assert b"canary" not in sealed
    assert ring.unseal(sealed, bound_to="a") == b"canary \x00."
    for place, value in (("b", sealed), ("a", sealed[:-1] + bytes([sealed[-1] ^ 1])), ("a", b"gw1.x.y"), ("a", b"")):
        with pytest.raises(SecretError):
            ring.unseal(value, bound_to=place)


def test_a_key_off_the_ring_is_named(ring):
    other = Keyring([EncryptionKey.generate()])
    with pytest.raises(UnknownKey) as caught:
        other.decrypt(ring.encrypt("canary", bound_to="a"), bound_to="a")
    assert ring.primary_id in str(caught.value)
    assert "canary" not in str(caught.value)


def test_another_key_of_the_same_name_does_not_open(ring):
    impostor = Keyring([EncryptionKey(ring.primary_id, EncryptionKey.generate().material)])
    with pytest.raises(Undecryptable):
        impostor.decrypt(ring.encrypt("v", bound_to="a"), bound_to="a")


def test_a_grown_ring_opens_the_old_and_writes_with_the_new():
    old, new = EncryptionKey.generate(), EncryptionKey.generate()
    sealed = Keyring([old]).encrypt("v", bound_to="a")
    grown = Keyring([new, old])
    assert grown.needs_rotation(sealed)
    rotated = grown.rotate(sealed, bound_to="a")
    assert key_id_of(rotated) == new.key_id
    assert Keyring([new]).decrypt(rotated, bound_to="a") == "v"


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        ("", "empty"),
        ("# only a comment\n", "empty"),
        ("no-colon\n", "line 1"),
        ("a b:c\n", "line 1"),
        ("k1:c2hvcnQ=\n", "bytes"),
        ("k1:!\n", "k1"),
    ],
)
def test_a_malformed_ring_says_what_is_wrong(text, finding):
    with pytest.raises(KeyringError, match=finding):
        parse_keyring(text)


def test_a_key_that_stands_twice_is_refused():
    line = EncryptionKey.generate().line()
    with pytest.raises(KeyringError, match="twice"):
        parse_keyring(f"{line}\n{line}\n")


def test_a_missing_file_says_what_makes_one(tmp_path):
    with pytest.raises(KeyringError, match="create_keys"):
        load_keyring(tmp_path / "nothing")


def test_key_material_does_not_show_in_repr():
    key = EncryptionKey.generate()
    assert key.material.reveal() not in repr(key)
