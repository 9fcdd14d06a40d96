import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers import connection
from providers.secrets import Secret

SENSITIVE = [
    "api_key",
    "apikey",
    "API_KEY",
    "x-api-key",
    "token",
    "access_token",
    "hf_token",
    "password",
    "Authorization",
    "client_secret",
    "secret",
    "Cookie",
    "private_key",
    "aws_secret_access_key",
    "bearer",
    "credentials",
]
OPEN = [
    "base_url",
    "api_base",
    "max_tokens",
    "auth_header",
    "api_key_env_var",
    "api_key_secret",
    "model",
    "timeout",
    "keyboard",
]


@pytest.mark.parametrize("name", SENSITIVE)
def test_names_of_secrets_are_recognised(name):
    assert connection.is_sensitive_name(name)


@pytest.mark.parametrize("name", OPEN)
def test_names_that_only_say_where_or_how_are_not_secret(name):
    assert not connection.is_sensitive_name(name)


def test_secrets_are_taken_out_at_any_depth():
    params = {
        "base_url": "https://u.example",
        "api_key": "sk-1",
        "headers": {"Authorization": "Bearer 2", "X-Title": "t"},
        "backups": [{"password": "three"}, {"url": "u"}],
    }
    public, found = connection.split(params)
    assert public == {
        "base_url": "https://u.example",
        "headers": {"X-Title": "t"},
        "backups": [{}, {"url": "u"}],
    }
    assert {json.loads(path)[-1]: value for path, value in found.items()} == {
        "api_key": "sk-1",
        "Authorization": "Bearer 2",
        "password": "three",
    }
    whole = connection.join(public, found)
    assert whole["api_key"] == Secret("sk-1")
    assert whole["headers"] == {"Authorization": Secret("Bearer 2"), "X-Title": "t"}
    assert whole["backups"][0] == {"password": Secret("three")}


@pytest.mark.parametrize("url", ["http://user:word@proxy:3128", "HTTPS://token@host/v1", "socks5h://a:b@c"])
def test_a_url_that_carries_a_password_is_secret(url):
    public, found = connection.split({"proxy": url, "base_url": "https://u.example/a@b"})
    assert public == {"base_url": "https://u.example/a@b"}
    assert connection.join(public, found)["proxy"] == Secret(url)


def test_an_empty_secret_is_no_secret():
    assert connection.split({"api_key": ""}) == ({"api_key": ""}, {})


def test_an_object_that_is_gone_is_made_again():
    _, found = connection.split({"headers": {"Authorization": "x"}})
    assert connection.join({}, found) == {"headers": {"Authorization": Secret("x")}}


@pytest.mark.parametrize("params", [{"backups": []}, {"backups": "none"}, {"backups": 3}, {"backups": [7]}])
def test_a_secret_whose_place_became_something_else_is_left_out(params):
    _, found = connection.split({"backups": [{"password": "x"}]})
    assert connection.join(params, found) == params


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*SENSITIVE[:4], "url", "headers"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from([*SENSITIVE[:4], "url", "headers"]), _JSON, max_size=5))
def test_taking_out_and_putting_back_changes_nothing(params):
    public, found = connection.split(params)
    assert connection.split(public)[1] == {}
    assert revealed(connection.join(public, connection.unpack(connection.pack(found)))) == params


def revealed(value):
    if isinstance(value, Secret):
        return value.reveal()
    if isinstance(value, dict):
        return {name: revealed(member) for name, member in value.items()}
    return [revealed(member) for member in value] if isinstance(value, list) else value


def test_what_a_type_declares_decides(monkeypatch):
    from providers import provider_types
    from providers.provider_types import Parameter, ProviderType

    kind = ProviderType(
        "t", "T", "x.Y", (Parameter("passport", "P", sensitive=True), Parameter("token", "Tokens per step"))
    )
    monkeypatch.setattr(provider_types, "find", lambda name: kind if name == "t" else None)
    assert connection.is_sensitive_name("passport", "t")
    assert not connection.is_sensitive_name("passport")
    assert not connection.is_sensitive_name("token", "t")


@pytest.mark.parametrize("old", ["api_base", "api_url", "endpoint", "azure_endpoint"])
def test_old_names_of_the_base_url_are_read(old):
    assert connection.canonical({old: "https://u"}) == {"base_url": "https://u"}
    assert connection.canonical({old: "https://u", "base_url": "https://v"}) == {"base_url": "https://v"}


@pytest.mark.parametrize("said", [True, "true", " Yes ", "on", 1, "1", Secret("true")])
def test_a_flag_is_on_however_it_is_stored(said):
    assert connection.flag({"preload": said}, "preload", default=False)


@pytest.mark.parametrize("said", [False, "false", " No ", "off", 0, "0", Secret("false")])
def test_a_flag_is_off_however_it_is_stored(said):
    assert not connection.flag({"verify_tls": said}, "verify_tls", default=True)


@pytest.mark.parametrize("params", [{}, {"f": None}, {"f": ""}, {"f": "maybe"}])
@pytest.mark.parametrize("default", [True, False])
def test_a_flag_that_says_neither_is_as_by_default(params, default):
    assert connection.flag(params, "f", default=default) is default


def test_a_parameter_reads_as_text_whether_it_is_secret_or_not():
    assert connection.text({"proxy": Secret("http://u:p@h")}, "proxy") == "http://u:p@h"
    assert connection.text({"port": 8080}, "port") == "8080"
    assert connection.text({"ca_file": None}, "ca_file") == connection.text({}, "ca_file") == ""


def test_secrets_are_found_at_any_depth():
    held = {"proxy": Secret("1"), "headers": {"x-key": Secret("2"), "x": "open"}, "more": [{"token": Secret("3")}]}
    assert [secret.reveal() for secret in connection.secrets_in(held)] == ["1", "2", "3"]
