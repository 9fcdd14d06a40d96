import base64

import pytest
from cryptography.fernet import Fernet
from hypothesis import given
from hypothesis import strategies as st

from providers.importers.legacy_keys import MOST_LAYERS, LegacyKeys, looks_like_token
from providers.secrets import Secret

KEY, OTHER = Fernet.generate_key().decode(), Fernet.generate_key().decode()
NO_FERNET_KEY = "forty-four characters that are no Fernet key"


def sealed(value: str, *keys: str) -> str:
    for key in keys:
        value = Fernet(key).encrypt(value.encode()).decode()
    return value


def derived(passphrase: str) -> str:
    return base64.urlsafe_b64encode(passphrase.encode()[:32].ljust(32, b"\0")).decode()


def opened(value: str, *secrets: str) -> str | None:
    found = LegacyKeys([Secret(secret) for secret in secrets]).peel(value).value
    return found.reveal() if found else None


def test_any_of_several_keys_opens_a_token():
    assert opened(sealed("sk-1", KEY), OTHER, KEY) == "sk-1"


@pytest.mark.parametrize(
    "passphrase", ["short", "ключ", "a passphrase that is longer than thirty-two bytes", NO_FERNET_KEY]
)
def test_a_passphrase_opens_by_the_rule_of_the_legacy_gateway(passphrase):
    assert opened(sealed("sk-1", derived(passphrase)), passphrase) == "sk-1"


@pytest.mark.parametrize("spelt", [" {}\n", "\ufeff{}", "\ufeff {}\r"])
def test_a_key_with_blanks_or_an_editors_mark_around_it_opens_as_well(spelt):
    assert opened(sealed("sk-1", KEY), spelt.format(KEY)) == "sk-1"


def test_layers_under_different_keys_are_opened():
    found = LegacyKeys([Secret(KEY), Secret(OTHER)]).peel(sealed("sk-1", KEY, OTHER))
    assert (found.value, found.layers) == (Secret("sk-1"), 2)


def test_a_layer_that_does_not_open_gives_nothing():
    assert opened(sealed("sk-1", OTHER, KEY), KEY) is None


def test_layers_beyond_the_bound_give_nothing():
    assert opened(sealed("sk-1", *[KEY] * MOST_LAYERS), KEY) == "sk-1"
    assert opened(sealed("sk-1", *[KEY] * (MOST_LAYERS + 1)), KEY) is None


def test_a_plain_value_is_given_as_it_is():
    assert opened(" sk-1\n", KEY) == " sk-1\n"


def test_a_ciphertext_of_this_gateway_is_never_a_key():
    assert opened("gw1.abcd1234.c2VjcmV0", KEY) is None
    assert opened(sealed("gw1.abcd1234.c2VjcmV0", KEY), KEY) is None


@pytest.mark.parametrize(
    "changed",
    [
        lambda token: f"  {token}\n",
        lambda token: f"{token[:76]}\n{token[76:]}",
        lambda token: f"b'{token}'",
        lambda token: f'"{token}"',
        lambda token: token.rstrip("="),
    ],
)
def test_a_token_in_other_clothes_opens(changed):
    token = changed(sealed("sk-of-some-length-so-that-it-wraps", KEY))
    assert looks_like_token(token)
    assert opened(token, KEY) == "sk-of-some-length-so-that-it-wraps"


def test_a_token_that_was_cut_short_is_no_key():
    token = sealed("sk-1", KEY)
    assert opened(token[:60], KEY) is None


@pytest.mark.parametrize("text", ["", "g", "gsk_" + "a" * 96, "sk-proj-" + "A" * 92, "gateway", "g" * 100])
def test_keys_of_vendors_are_no_tokens(text):
    assert not looks_like_token(text)


@given(st.text(), st.integers(0, 2**40))
def test_every_token_is_recognised(value, at):
    assert looks_like_token(Fernet(KEY).encrypt_at_time(value.encode("utf-8", "replace"), at).decode())


@given(st.text())
def test_what_is_given_never_looks_like_a_token(text):
    found = LegacyKeys([Secret(KEY)]).peel(text)
    assert found.value is None or not looks_like_token(found.value.reveal())


def test_an_empty_secret_is_no_passphrase():
    assert opened(sealed("sk-1", derived("")), "") is None


def test_what_holds_the_keys_does_not_show_them():
    assert KEY not in repr(LegacyKeys([Secret(KEY)]))
